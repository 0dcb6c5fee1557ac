# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole layers on GPUs, what does not fit in the host's memory: llama.cpp and Ollama. Pure; bytes everywhere."""

from __future__ import annotations

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import GIB, MIB, gib
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.shape import number

CUDA_CONTEXT = 512 * MIB  # per GPU that llama.cpp uses; estimated


def compute_buffer(shape, request):
    """Bytes of llama.cpp's compute buffer on one device, as a `number`.

    ``ubatch × (4 × (2 × feed-forward + 8 × hidden) + 2 × context)``: a layer's activations in f32 and the
    attention mask in f16; with experts, ``experts_used`` of them work at once. Checked against llama-server on
    SmolLM2 at three contexts (tests/unit/plugins/test_memory_fit.py).
    """
    wide = shape.intermediate
    if shape.experts:
        wide = max(wide, shape.experts_used * (shape.moe_intermediate + shape.hidden // 2))
    tokens = request.context * request.sequences
    value = request.ubatch * (4 * (2 * wide + 8 * shape.hidden) + 2 * tokens)
    how = "ubatch × (4 × (2 × feed-forward + 8 × hidden) + 2 × context)"
    if shape.mla and not shape.latent_cache:
        value += request.ubatch * tokens * shape.heads * 4
        how += " + ubatch × context × heads × 4: keys and values of different length, no flash attention"
    return number(int(value), "estimated", how)


def _devices_of_layers(layers, gpu_layers, free):
    """Device of each layer and of the output layer: index into ``free``, or -1 for the CPU.

    llama.cpp puts the last ``gpu_layers`` of ``layers + 1`` on GPUs, in shares of their free memory
    (src/llama-model.cpp, load_tensors).
    """
    total = float(sum(free)) or 1.0
    splits, running = [], 0.0
    for value in free:
        running += value / total
        splits.append(running)
    used = min(gpu_layers, layers + 1)
    first = layers + 1 - used
    devices = []
    for layer in range(layers + 1):
        if layer < first or not free:
            devices.append(-1)
            continue
        share = (layer - first) / float(used)
        devices.append(next((index for index, split in enumerate(splits) if share < split), len(splits) - 1))
    return devices


def _cache_bytes(cache, request):
    """Bytes that one layer keeps: of all tokens, or of the windows and what is computed at once, to whole 256 tokens.

    Source: llama.cpp src/llama-kv-cache-iswa.cpp (GGML_PAD(n_swa × sequences + n_ubatch, 256)).
    """
    tokens = request.context * request.sequences
    if cache.window:
        tokens = min(tokens, -(-(cache.window * request.sequences + request.ubatch) // 256) * 256)
    return model_shape.token_bytes(cache, request.kv_bytes) * tokens + cache.state * request.sequences


def _place(shape, gpus, request, gpu_layers):
    """Bytes on each device for a number of layers on GPUs: list of dicts, the CPU last."""
    weights, rest = model_shape.layer_weights(shape)
    caches = [_cache_bytes(cache, request) for cache in shape.caches]
    buffer = compute_buffer(shape, request)["value"]
    devices = _devices_of_layers(shape.layers, gpu_layers, [gpu.free for gpu in gpus])
    places = []
    for index in list(range(len(gpus))) + [-1]:
        mine = [layer for layer in range(shape.layers) if devices[layer] == index]
        output = devices[shape.layers] == index
        size = sum(weights[layer] for layer in mine) + (rest // 2 if output else 0) + (rest - rest // 2) * (index < 0)
        cache = sum(caches[layer] for layer in mine)
        extra = buffer if mine or output or index < 0 else 0
        context = CUDA_CONTEXT if index >= 0 and (mine or output) else 0
        places.append(
            {
                "device": "cpu" if index < 0 else "gpu%d" % gpus[index].index,
                "layers": len(mine) + (1 if output else 0),
                "weights": number(size, "estimated", "sum of the layers' tensors"),
                "kv": number(cache, "exact", "%d tokens × %d sequences" % (request.context, request.sequences)),
                "compute": number(extra + context, "estimated", "compute buffer and CUDA context"),
                "total": number(size + cache + extra + context, "estimated", "weights + KV + compute"),
                "left": (gpus[index].free - size - cache - extra - context) if index >= 0 else None,
            }
        )
    return places


def _all_fit(places, margin):
    return all(place["left"] >= margin for place in places if place["left"] is not None and place["layers"])


def plan_layers(shape, gpus, request, ram_free=None, margin=GIB):
    """Plan for llama.cpp and Ollama.

    :param ram_free: bytes of host memory that may be taken; ``None``: unknown, not checked.
    :param margin: bytes to leave free on each GPU (llama.cpp's own ``--fit`` leaves 1 GiB).
    :returns: ``verdict``, ``problems``, ``would_fit``, ``gpu_layers`` (of ``layers + 1``; Ollama's num_gpu),
        ``layers_total``, ``devices`` (see `_place`), ``largest_context`` (`number`, tokens, with these layers on GPUs),
        ``cpu_share`` (of the model's memory on the CPU, 0 to 1; what is there with all layers on GPUs does not count).
        Where the cache is not known, ``verdict`` is ``unknown`` and ``gpu_layers`` and ``devices`` are missing.
    """
    every = shape.layers + 1
    per_token = model_shape.kv_bytes_per_token(shape, request.kv_bytes)
    if model_shape.not_known(shape):
        nothing = model_shape.kept(shape, request.context)
        return {"verdict": "unknown", "problems": [], "would_fit": [], "layers_total": every,
                "largest_context": nothing, "kv_bytes_per_token": per_token}  # fmt: skip
    most = every if gpus else 0
    wanted = most if request.gpu_layers < 0 else min(request.gpu_layers, most)
    problems, would_fit = [], []
    fitting = next(
        (count for count in range(wanted, -1, -1) if _all_fit(_place(shape, gpus, request, count), margin)), 0
    )
    if request.gpu_layers >= 0 and fitting < wanted:
        problems.append(
            "%s: %d of %d layers do not fit on the GPUs at a context of %d × %d; %d do"
            % (shape.name, wanted, every, request.context, request.sequences, fitting)
        )
        would_fit.append("%d layers on the GPUs" % fitting)
    count = fitting if request.gpu_layers < 0 else wanted
    if request.context > shape.context > 0:
        problems.append("a context of %d tokens is longer than the model's %d" % (request.context, shape.context))
    places = _place(shape, gpus, request, count)
    ram = places[-1]["total"]["value"]
    if ram_free is not None and ram > ram_free:
        problems.append(
            "%s needs %s of host memory (%d of %d layers), %s are free"
            % (shape.name, gib(ram), places[-1]["layers"], every, gib(ram_free))
        )
    longest = _longest_context(shape, gpus, request, count, margin, ram_free)
    if problems and longest >= 512:
        would_fit.append("a context of at most {:,} tokens with {} layers on the GPUs".format(longest, count))
    return {
        "verdict": "no" if problems else "fits",
        "problems": problems,
        "would_fit": would_fit,
        "gpu_layers": count,
        "layers_total": every,
        "devices": places,
        "cpu_share": 0.0 if gpus and count == every else ram / float(sum(place["total"]["value"] for place in places)),
        "largest_context": number(longest, "estimated", "largest that fits with %d layers on the GPUs" % count),
        "kv_bytes_per_token": per_token,
    }


def _longest_context(shape, gpus, request, gpu_layers, margin, ram_free):
    """Tokens of one sequence; by bisection, because buffers grow with the context too."""
    low, high = 0, shape.context or 1024 * 1024

    def good(context):
        places = _place(shape, gpus, request._replace(context=context), gpu_layers)
        return _all_fit(places, margin) and (ram_free is None or places[-1]["total"]["value"] <= ram_free)

    if good(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if good(middle) else (low, middle)
    return low
