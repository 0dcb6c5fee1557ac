# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a model fits a host's GPUs, by how much, and what would fit instead. Pure functions, bytes everywhere.

Three ways of placing a model:

- `plan_parallel` (vLLM, SGLang): every layer cut over a tensor-parallel group, layers over pipeline stages.
  ``fits iff utilization × total >= weights + overhead + KV(context × sequences)`` on each GPU.
- `plan_host` (vLLM, SGLang on the CPU): all of it in the host's memory.
- `plan_layers` (llama.cpp, Ollama): whole layers on devices, what does not fit stays in the host's memory.

Every number carries its label: exact (arithmetic on the model's own numbers), estimated, or measured.
"""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.shape import number

GIB = 1024**3
MIB = 1024**2

GPUS_OF_A_HOST = 8
LARGEST_GPU = 288 * GIB  # that is sold today (B300, MI355X): what needs a larger one needs more of them


class Gpu(NamedTuple):
    index: int
    name: str
    total: int  # bytes
    free: int  # bytes


class Request(NamedTuple):
    """What is asked for. ``tensor_parallel`` 0 means: all GPUs, or the largest size that works."""

    tensor_parallel: int = 0
    pipeline_parallel: int = 1
    data_parallel_attention: int = 1  # ranks that each keep their own attention and sequences (SGLang --dp)
    context: int = 8192  # tokens of one sequence
    sequences: int = 1  # at the same time, each of full length
    kv_bytes: float = 2.0  # bytes of one cached number: 2 bf16/f16, 1 fp8/q8_0 (llama.cpp's q8_0: 1.0625)
    utilization: float = 0.9  # share of a GPU's, or the host's, memory that the engine may take
    kv_space: int = 0  # bytes that are set aside for the cache of each rank; 0: what the sequences take
    gpu_layers: int = -1  # llama.cpp: layers on GPUs; -1: as many as fit
    ubatch: int = 512  # llama.cpp: tokens computed at once


def gpus_from_facts(nvidia_smi, users=()):
    """GPUs of fact ``nvidia_smi`` as a list of `Gpu`; those whose memory is unknown are left out.

    :param users: system users whose processes give their memory back before the model is loaded: it counts as free.
    """
    found = []
    for gpu in nvidia_smi.get("gpus") or []:
        total = gpu.get("memory_total_mib")
        if total is None:
            continue
        free = gpu.get("memory_free_mib")
        if free is None:
            free = total
        free += sum(one.get("used_memory_mib") or 0 for one in gpu.get("processes") or [] if one.get("user") in users)
        found.append(Gpu(gpu["index"], gpu.get("name") or "GPU", total * MIB, min(free, total) * MIB))
    return found


def ram_from_facts(memory, users=()):
    """Bytes of the host's memory that can be had, of fact ``dsdeploy_memory``; None where that is not known.

    :param users: system users whose processes give theirs back before the model is loaded.
    """
    if not memory:
        return None
    given_back = sum(size for user, size in memory["users"].items() if user in users)
    return min(memory["available_mib"] + given_back, memory["total_mib"]) * MIB


def gib(value):
    return "%.1f GiB" % (value / GIB)


# --- tensor and pipeline parallelism ----------------------------------------------------------------


def tensor_parallel_problems(shape, size):
    """Why ``size`` GPUs cannot share each layer, as lines; empty when they can.

    Attention heads and feed-forward widths must divide evenly; KV heads must divide by the size or the size by them
    (source: vLLM model_executor/models/qwen2.py and layers/linear.py, SGLang likewise).
    """
    problems = []
    if shape.heads % size:
        problems.append("%d attention heads do not divide by %d" % (shape.heads, size))
    if not shape.mla and shape.kv_heads % size and size % shape.kv_heads:
        problems.append("%d KV heads neither divide by %d nor divide it" % (shape.kv_heads, size))
    if shape.intermediate % size:
        problems.append("the feed-forward width %d does not divide by %d" % (shape.intermediate, size))
    if shape.experts and shape.moe_intermediate % size:
        problems.append("the experts' width %d does not divide by %d" % (shape.moe_intermediate, size))
    return problems


def tensor_parallel_sizes(shape, largest):
    """All tensor-parallel sizes up to ``largest`` that work."""
    return [size for size in range(1, largest + 1) if not tensor_parallel_problems(shape, size)]


def weights_per_gpu(shape, tensor_parallel=1, pipeline_parallel=1, data_parallel_attention=1):
    """Bytes of weights on the fullest GPU, as a `number`.

    ``(layers of the stage − what cannot be cut) / TP + what cannot be cut + rest / TP``; with attention run data
    parallel, each rank holds its attention whole and only the rest is cut (experts are spread instead of sliced,
    which takes the same bytes). The fullest stage has ceil(layers / PP) layers and the embeddings or the head.
    """
    layers, rest, _label = model_shape.layer_weights(shape)
    count = -(-shape.layers // pipeline_parallel)
    whole = pipeline_parallel == 1
    stage = sum(sorted(layers, reverse=True)[:count])
    tail = rest if whole else rest // 2
    parameters = sum(model_shape.layer_parameters(shape, layer) for layer in range(shape.layers))
    each = sum(layers) / float(parameters)
    attention, uncut = model_shape.attention_parameters(shape)
    kept = count * each * (attention if data_parallel_attention > 1 else uncut)
    if tensor_parallel == 1:
        value = stage + tail
    else:
        value = (stage - kept) / tensor_parallel + kept + tail / tensor_parallel
    label = shape.weight_label if tensor_parallel == pipeline_parallel == 1 else "estimated"
    how = "weights of the fullest stage / TP %d / PP %d" % (tensor_parallel, pipeline_parallel)
    if kept and tensor_parallel > 1:
        how += ", %s kept whole on each rank" % gib(kept)
    return number(int(value), label, how)


def overhead_range(shape):
    """``(low, high)`` bytes per GPU for activations, CUDA graphs, NCCL and the CUDA context.

    3 to 10 GiB at R1's width (hidden 7168), less for narrower models; to 20 GiB with experts. Sources: open-r1 PR 43
    (10 GB for graphs), vLLM issue 54677 (4 GiB between versions); for R1's shapes on an H100 vLLM 0.32.0 set 19.67 GiB
    aside, of which 12.37 were its own estimate of CUDA graphs (benchmarks/README.md). An engine's own start-up profile
    is the truth.
    """
    width = min(1.0, shape.hidden / 7168.0)
    most = 20 if shape.experts else 10
    how = "activations, CUDA graphs, NCCL: 3 to %d GiB at hidden size 7168, less below" % most
    return number(int((0.5 + 2.5 * width) * GIB), "estimated", how), number(
        int((1.0 + (most - 1.0) * width) * GIB), "estimated", how
    )


def _fit(shape, total, request, tensor_parallel, pipeline_parallel):
    """Bytes of one GPU under a parallel layout; ``left`` may be negative."""
    usable = int(total * request.utilization)
    weights = weights_per_gpu(shape, tensor_parallel, pipeline_parallel, request.data_parallel_attention)
    low, high = overhead_range(shape)
    per_token = model_shape.kv_bytes_per_token_per_gpu(shape, request.kv_bytes, tensor_parallel, pipeline_parallel)
    sequences = -(-request.sequences // request.data_parallel_attention)
    kv = number(
        per_token["value"] * request.context * sequences,
        "exact",
        "%d bytes a token × %d tokens × %d sequences" % (per_token["value"], request.context, sequences),
    )
    base = usable - weights["value"]

    def longest(overhead):
        return max(0, (base - overhead["value"]) // (per_token["value"] * sequences))

    return {
        "usable": number(usable, "exact", "utilization %.2f × total" % request.utilization),
        "weights": weights,
        "kv": kv,
        "kv_bytes_per_token": per_token,
        "overhead_low": low,
        "overhead_high": high,
        "left_low": number(base - high["value"] - kv["value"], "estimated", "usable − weights − KV − high overhead"),
        "left_high": number(base - low["value"] - kv["value"], "estimated", "usable − weights − KV − low overhead"),
        "context_low": number(longest(high), "estimated", "(usable − weights − high overhead) / KV of a token"),
        "context_high": number(longest(low), "estimated", "(usable − weights − low overhead) / KV of a token"),
    }


def verdict_of(left_low, left_high):
    """``fits``, ``tight`` (only if the overhead stays low) or ``no``."""
    if left_low >= 0:
        return "fits"
    return "tight" if left_high >= 0 else "no"


def plan_parallel(shape, gpus, request):
    """Plan for vLLM and SGLang.

    :param gpus: `Gpu` list, of all hosts together when there are several.
    :returns: ``verdict`` (fits, tight, no), ``problems`` (lines), ``would_fit`` (lines), ``tensor_parallel``,
        ``pipeline_parallel``, ``tensor_parallel_sizes``, ``per_gpu`` (`number` values in bytes of the smallest GPU),
        ``largest_context`` (`number`, tokens, with the high overhead), ``gpus`` (used).
    """
    result = {"verdict": "no", "problems": [], "would_fit": [], "per_gpu": None, "largest_context": None}
    if not gpus:
        result["problems"].append("no GPU with known memory was found")
        return result
    sizes = tensor_parallel_sizes(shape, len(gpus))
    size = request.tensor_parallel or max(sizes)
    stages = request.pipeline_parallel
    result.update(tensor_parallel=size, pipeline_parallel=stages, tensor_parallel_sizes=sizes, gpus=size * stages)
    problems = tensor_parallel_problems(shape, size)
    if size * stages > len(gpus):
        problems.append("TP %d × PP %d needs %d GPUs, there are %d" % (size, stages, size * stages, len(gpus)))
    if request.context > shape.context > 0:
        problems.append("a context of %d tokens is longer than the model's %d" % (request.context, shape.context))
    smallest = min(gpus, key=lambda gpu: gpu.total)
    if problems:
        result["problems"] = ["%s at TP %d: %s" % (shape.name, size, problem) for problem in problems]
        result["would_fit"].append(
            "tensor-parallel sizes that work on %d GPUs: %s" % (len(gpus), ", ".join(str(size) for size in sizes))
        )
        return result
    fit = _fit(shape, smallest.total, request, size, stages)
    result["per_gpu"] = fit
    result["verdict"] = verdict_of(fit["left_low"]["value"], fit["left_high"]["value"])
    longest = min(fit["context_low"]["value"], shape.context or fit["context_low"]["value"])
    result["largest_context"] = number(longest, "estimated", fit["context_low"]["how"] + ", at most the model's own")
    if result["verdict"] == "no":
        result["problems"].append(
            "%s does not fit on %d × %s (%s): of %s usable, weights %s + overhead %s to %s + KV %s are %s too many"
            % (
                shape.name,
                size * stages,
                smallest.name,
                gib(smallest.total),
                gib(fit["usable"]["value"]),
                gib(fit["weights"]["value"]),
                gib(fit["overhead_low"]["value"]),
                gib(fit["overhead_high"]["value"]),
                gib(fit["kv"]["value"]),
                gib(-fit["left_high"]["value"]),
            )
        )
        result["would_fit"] = _what_would_fit(shape, smallest, request, size, stages, fit)
    return result


def _what_would_fit(shape, gpu, request, size, stages, fit):
    """Lines: a shorter context, a smaller cache, more of these GPUs, or larger ones."""
    lines = []
    if fit["context_high"]["value"] >= 1024:
        lines.append("a context of at most %d tokens" % fit["context_high"]["value"])
    if request.kv_bytes > 1:
        smaller = _fit(shape, gpu.total, request._replace(kv_bytes=1.0), size, stages)
        if smaller["left_high"]["value"] >= 0:
            lines.append("a KV cache in fp8 (%d bytes a token)" % smaller["kv_bytes_per_token"]["value"])
    more = _more_of_them(shape, gpu, request, size)
    if more:
        lines.append("%d of these GPUs (TP %d × PP %d)" % (more[0] * more[1], more[0], more[1]))
    need = (fit["weights"]["value"] + fit["overhead_high"]["value"] + fit["kv"]["value"]) / request.utilization
    if need <= LARGEST_GPU:
        lines.append("%d GPU%s of at least %s" % (size * stages, "" if size * stages == 1 else "s", gib(need)))
    return lines


def _more_of_them(shape, gpu, request, size):
    """``(tensor-parallel size, pipeline stages)`` with the fewest such GPUs on which it fits, or ``None``.

    The size that is asked for, or up to what a host usually holds, 8; of equal ones the one with fewer stages.
    """
    sizes = [size] if request.tensor_parallel else tensor_parallel_sizes(shape, max(size, GPUS_OF_A_HOST))
    layouts = []
    for tensor in sizes:
        stages = _more_stages(shape, gpu, request, tensor)
        # Only a host that is full gets a second one.
        if stages and (stages == 1 or tensor == max(sizes)):
            layouts.append((tensor * stages, stages, tensor))
    if not layouts:
        return None
    _gpus, stages, tensor = min(layouts)
    return tensor, stages


def _more_stages(shape, gpu, request, size, most=8):
    """Fewest pipeline stages of ``size`` such GPUs on which it fits even at high overhead, or ``None``.

    Tensor parallelism stays within a host; further hosts become pipeline stages (vLLM, parallelism and scaling).
    """
    for stages in range(1, most + 1):
        if _fit(shape, gpu.total, request, size, stages)["left_low"]["value"] >= 0:
            return stages
    return None


# --- all in the host's memory (vLLM and SGLang on the CPU) -------------------------------------------

# What an engine's processes take besides weights and cache. Measured with a model of no size: vLLM 0.32.0 2.4 GB, of
# which 1 GiB is cache, SGLang 0.4.3.post2 2.1 GB.
HOST_OVERHEAD = 3 * GIB // 2


def plan_host(shape, ram_free, request):
    """Plan for vLLM and SGLang on the CPU.

    Two bounds: all that the engine takes, and the share (``utilization``) that SGLang gives to weights and cache.

    :param ram_free: bytes of host memory that may be taken; ``None``: unknown, not checked.
    :returns: ``verdict`` (fits, no), ``problems``, ``would_fit`` (lines), ``host`` (`number` values in bytes),
        ``largest_context`` (`number`, tokens).
    """
    size = max(1, request.tensor_parallel)
    ranks = size * request.pipeline_parallel
    weights = weights_per_gpu(shape, size)["value"] * size
    token = model_shape.kv_bytes_per_token_per_gpu(shape, request.kv_bytes, size)["value"] * size * request.sequences
    kv = request.kv_space * ranks or token * request.context
    overhead = HOST_OVERHEAD * ranks
    problems, would_fit = [], []
    if request.context > shape.context > 0:
        problems.append("a context of %d tokens is longer than the model's %d" % (request.context, shape.context))
    room = kv
    if request.kv_space and token * request.context > kv:
        problems.append(
            "%s: a sequence of %d tokens takes %s of KV cache, %s are set aside for it"
            % (shape.name, request.context, gib(token * request.context / ranks), gib(request.kv_space))
        )
        would_fit.append("a KV cache of %s" % gib(token * request.context / ranks))
    if ram_free is not None:
        limit = int(min(ram_free - overhead, ram_free * request.utilization))
        room = kv if request.kv_space else max(0, limit - weights)
        what = "%s does not fit into the memory of this host: weights %s + KV %s" % (shape.name, gib(weights), gib(kv))
        if weights + kv + overhead > ram_free:
            total = weights + kv + overhead
            problems.append("%s + engine %s are %s, %s can be had" % (what, gib(overhead), gib(total), gib(ram_free)))
        elif weights + kv > limit:
            problems.append(
                "%s are %s, %s may be taken: a share of %.2f of %s"
                % (what, gib(weights + kv), gib(limit), request.utilization, gib(ram_free))
            )
            share = (weights + kv) / float(ram_free)
            would_fit.append("a share of the memory of at least %.2f" % (int(share * 100 + 1) / 100.0))
        if weights + kv > limit:
            need = max(weights + kv + overhead, int((weights + kv) / request.utilization))
            would_fit.append("a host that has %s to give" % gib(need))
    longest = min(room // token, shape.context or room // token)
    if problems and 1024 <= longest < request.context:
        would_fit.insert(0, "a context of at most %d tokens" % longest)
    return {
        "verdict": "no" if problems else "fits",
        "problems": problems,
        "would_fit": would_fit,
        "host": {
            "weights": number(weights, shape.weight_label, "all of them"),
            "kv": number(kv, "exact", "what is set aside" if request.kv_space else "%d bytes a token" % token),
            "overhead": number(overhead, "measured", "an engine with a model of no size"),
        },
        "largest_context": number(longest, "estimated", "memory left for the KV cache / KV of a token"),
    }


# --- whole layers on devices (llama.cpp) ------------------------------------------------------------

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


def _place(shape, gpus, request, gpu_layers):
    """Bytes on each device for a number of layers on GPUs: list of dicts, the CPU last."""
    weights, rest, label = model_shape.layer_weights(shape)
    per_layer = model_shape.kv_bytes_per_token(shape, request.kv_bytes, 1)["value"]
    kv = per_layer * request.context * request.sequences
    buffer = compute_buffer(shape, request)["value"]
    devices = _devices_of_layers(shape.layers, gpu_layers, [gpu.free for gpu in gpus])
    places = []
    for index in list(range(len(gpus))) + [-1]:
        mine = [layer for layer in range(shape.layers) if devices[layer] == index]
        output = devices[shape.layers] == index
        size = sum(weights[layer] for layer in mine) + (rest // 2 if output else 0) + (rest - rest // 2) * (index < 0)
        cache = kv * len(mine)
        extra = buffer if mine or output or index < 0 else 0
        context = CUDA_CONTEXT if index >= 0 and (mine or output) else 0
        places.append(
            {
                "device": "cpu" if index < 0 else "gpu%d" % gpus[index].index,
                "layers": len(mine) + (1 if output else 0),
                "weights": number(size, label, "sum of the layers' tensors"),
                "kv": number(cache, "exact", "%d bytes a token and layer" % per_layer),
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
    """
    every = shape.layers + 1
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
        would_fit.append("a context of at most %d tokens with %d layers on the GPUs" % (longest, count))
    return {
        "verdict": "no" if problems else "fits",
        "problems": problems,
        "would_fit": would_fit,
        "gpu_layers": count,
        "layers_total": every,
        "devices": places,
        "cpu_share": 0.0 if gpus and count == every else ram / float(sum(place["total"]["value"] for place in places)),
        "largest_context": number(longest, "estimated", "largest that fits with %d layers on the GPUs" % count),
        "kv_bytes_per_token": model_shape.kv_bytes_per_token(shape, request.kv_bytes),
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


# --- disk ---------------------------------------------------------------------------------------------


def disk_bytes(size, merged=False, consume=False, largest_shard=0, ollama=False):
    """Bytes of disk that a model takes at its worst moment, by purpose.

    :param merged: shards are merged into one file (only Ollama needs it); ``consume``: each shard's space is given
        back while merging, so that only one shard is there twice.
    :param ollama: Ollama copies the file into its own store.
    """
    needs = {"download": size}
    if merged:
        needs["merge"] = largest_shard if consume else size
    if ollama:
        needs["ollama"] = size
    return needs
