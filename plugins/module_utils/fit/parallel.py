# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model cut over GPUs: vLLM and SGLang. Pure; bytes everywhere.

Every layer is cut over a tensor-parallel group, layers over pipeline stages, copies over data-parallel ranks. On each
GPU ``fits iff utilization × total >= weights + overhead + what is kept of context × sequences``, and vLLM starts only
where that share is free. SGLang takes its share of what is free, and one that is set is for weights and cache alone:
the overhead has the rest (mem_cache/kv_cache_configurator.py). Measured of 0.5.23 on an H200 of which another process
held 44 GiB: at 0.40, 32.95 GiB of cache beside 5.28 of weights, of 95.68 free.

Every number carries its label: exact (arithmetic on the model's own numbers), estimated, or measured.
"""

from __future__ import annotations

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import GIB, LONGEST, gib, longest
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.shape import number

GPUS_OF_A_HOST = 8
EVEN = 0.9  # of the most that is free on one of its GPUs, each other must have (SGLang, init_torch_distributed)
LARGEST_GPU = 288 * GIB  # that is sold today (B300, MI355X): what needs a larger one needs more of them


def tensor_parallel_problems(shape, size, expert_parallel=1):
    """Why ``size`` GPUs cannot share each layer, as at most one line; empty when they can.

    Attention heads and feed-forward widths must divide evenly; KV heads must divide by the size or the size by them
    (source: vLLM model_executor/models/qwen2.py and layers/linear.py, SGLang likewise). Weights that are quantised in
    blocks are cut between them (vLLM layers/quantization/fp8.py: "not divisible by weight quantization block_n"), and
    so are those in groups, along what goes in (layers/quantization/awq.py, gptq.py: "not aligned with the quantized
    weight shape"); experts in groups have kernels that cut them anyhow (moe_wna16.py).

    :param expert_parallel: see `Request`. Experts that are spread whole are not cut; those that all tokens go through
        are, like the rest.
    """
    parts = size // expert_parallel if expert_parallel else 1  # that each expert is cut into
    shared = shape.shared_experts * shape.moe_intermediate
    uneven = []
    if shape.heads % size:
        uneven.append("%d attention heads" % shape.heads)
    heads = {cache.heads for cache in shape.caches if cache.heads} if not shape.mla else set()
    uneven += ["%d KV heads" % count for count in sorted(heads) if count % size and size % count]
    if shape.intermediate % size:
        uneven.append("a feed-forward width of %d" % shape.intermediate)
    if shape.experts and shape.moe_intermediate % max(1, parts):
        uneven.append("an experts' width of %d" % shape.moe_intermediate)
    elif shape.experts and shared % size:
        uneven.append("a shared experts' width of %d" % shared)
    if uneven:
        return ["%s do not divide by %d" % (" and ".join(uneven), size)]
    dense = [(shape.intermediate, size)] if not shape.experts or shape.dense_layers else []
    widths = dense + ([(shape.moe_intermediate, max(1, parts)), (shared, size)] if shape.experts else [])
    for width, count in widths:
        if shape.block and count > 1 and width // count % shape.block:
            return ["a width of %d in %d parts is cut within blocks of %d weights" % (width, count, shape.block)]
    heads_width = 0 if shape.mla else shape.heads * shape.head_dim
    for width, count in [*dense, (heads_width, size)]:
        if shape.group and count > 1 and width // count % shape.group:
            return ["a width of %d in %d parts is cut within groups of %d weights" % (width, count, shape.group)]
    return []


def tensor_parallel_sizes(shape, largest, expert_parallel=1):
    """All tensor-parallel sizes up to ``largest`` that work."""
    return [size for size in range(1, largest + 1) if not tensor_parallel_problems(shape, size, expert_parallel)]


def absorbed_bytes(shape, tensor_parallel=1, pipeline_parallel=1, data_parallel_attention=1):
    """Bytes on the fullest GPU of what an engine makes of MLA's up-projection (kv_b_proj), which stays beside it.

    ``kv_lora_rank × heads × (qk_nope + v) × 2`` a layer: SGLang copies it into w_kc and w_vc (srt/models/
    deepseek_common/deepseek_weight_loader.py, post_load_weights), vLLM where it is quantised and has to be computed
    with in 16 bits (layers/attention/mla_attention.py, process_weights_after_loading; else they are views of it).
    """
    layers = sum(cache.kind in ("latent", "indexed") for cache in shape.caches[: shape.layers])
    if not shape.mla or not layers:
        return 0
    one = shape.mla.kv_lora * shape.heads * (shape.mla.nope + shape.mla.value) * 2
    ranks = 1 if data_parallel_attention > 1 else tensor_parallel
    return -(-layers // pipeline_parallel) * one // ranks


def weights_per_gpu(shape, tensor_parallel=1, pipeline_parallel=1, data_parallel_attention=1, data_parallel=1):
    """Bytes of weights on the fullest GPU, as a `number`.

    ``(layers of the stage − what cannot be cut) / TP + what cannot be cut + rest / TP``; with attention run data
    parallel, each rank holds its attention whole and only the rest is cut (experts are spread instead of sliced,
    which takes the same bytes). Copies of a model with experts share these (vLLM, data_parallel_deployment.md). The
    fullest stage has ceil(layers / PP) layers and the embeddings or the head.
    """
    layers, rest = model_shape.layer_weights(shape)
    count = -(-shape.layers // pipeline_parallel)
    whole = pipeline_parallel == 1
    stage = sum(sorted(layers, reverse=True)[:count])
    tail = rest if whole else rest // 2
    each = sum(layers) / float(model_shape.layers_parameters(shape))
    attention, uncut = model_shape.attention_parameters(shape)
    kept = count * each * (attention if data_parallel_attention > 1 else uncut)
    if tensor_parallel == 1:
        value = stage + tail
    else:
        value = (stage - kept) / tensor_parallel + kept + tail / tensor_parallel
    if data_parallel > 1 and shape.experts:
        experts = sum(model_shape.experts_parameters(shape, layer) for layer in range(shape.layers)) * each
        experts = min(experts / pipeline_parallel, stage) / tensor_parallel
        value -= experts * (1 - 1.0 / data_parallel)
    label = shape.weight_label if tensor_parallel == pipeline_parallel == data_parallel == 1 else "estimated"
    how = "weights of the fullest stage / TP %d / PP %d" % (tensor_parallel, pipeline_parallel)
    if data_parallel > 1 and shape.experts:
        how += ", experts / DP %d" % data_parallel
    if kept and tensor_parallel > 1:
        how += ", %s kept whole on each rank" % gib(kept)
    return number(int(value), label, how)


# The width of DeepSeek V3 and R1, of whose shapes the overhead was measured.
MEASURED_WIDTH = 7168


def overhead_range(shape, size=1, graphs=None):
    """``(low, high)`` bytes per GPU for activations, CUDA graphs, NCCL and the CUDA context.

    3 to 10 GiB at R1's width (hidden 7168), less for narrower models; to 20 GiB with experts. Sources: open-r1 PR 43
    (10 GB for graphs), vLLM issue 54677 (4 GiB between versions). An engine's own start-up profile is the truth.

    Where vLLM's number of graphs is known, and the model is as wide as R1 with its attention and experts, 0.7 to 1.4
    times ``2.4 + 4.8 / TP + 12.4 / TP × graphs / 51`` GiB. Measured of 0.32.0 on an H100 and on one and two H200, GiB:
    19.2 to 19.7 (TP 1, 51 graphs), 7.5 (TP 1, none), 11.1 (TP 2, 51), 5.2 and 5.5 (TP 2, 8), 3.5 (TP 2, none). More
    than two GPUs are what this formula makes of them.

    :param size: tensor parallelism.
    :param graphs: sizes of batches that vLLM keeps CUDA graphs of (plugin_utils/vllm_graphs.py); ``None``: not known.
    """
    if graphs is not None and shape.mla and shape.experts and shape.hidden >= MEASURED_WIDTH:
        middle = 2.4 + 4.8 / size + 12.4 / size * graphs / 51
        how = "activations, NCCL and %d CUDA graphs, as measured of R1's shapes" % graphs
        return tuple(number(int(share * middle * GIB), "estimated", how) for share in (0.7, 1.4))
    width = min(1.0, shape.hidden / float(MEASURED_WIDTH))
    most = 20 if shape.experts else 10
    how = "activations, CUDA graphs, NCCL: 3 to %d GiB at hidden size 7168, less below" % most
    return number(int((0.5 + 2.5 * width) * GIB), "estimated", how), number(
        int((1.0 + (most - 1.0) * width) * GIB), "estimated", how
    )


def _fit(shape, gpu, request, size, stages, lean=False):
    """Bytes of one GPU under a parallel layout; ``left`` may be negative, and is None where the cache is not known.

    ``lean``: without the longest contexts, which take most of the time.
    """
    usable, beside = _share(gpu, request)
    copies = request.data_parallel if request.shared_experts else 1
    weights = weights_per_gpu(shape, size, stages, request.data_parallel_attention, copies)
    again = absorbed_bytes(shape, size, stages, request.data_parallel_attention) if request.absorbed else 0
    if again:
        how = "%s, and %s of kv_b_proj once more in 16 bits" % (weights["how"], gib(again))
        weights = number(weights["value"] + again, "estimated", how)
    low, high = overhead_range(shape, size, request.graphs)
    per_token = model_shape.kv_bytes_per_token(shape, request.kv_bytes, size, stages)
    sequences = -(-request.sequences // (request.data_parallel_attention * request.data_parallel))

    def kept(tokens, windows=True):
        one = _kept(shape, request, size, stages, tokens, windows)
        return (one["value"] or 0) * sequences

    base = usable - weights["value"]
    whole = "free" if request.of_free else "total"
    fit = {
        "usable": number(usable, "exact", "utilization %.2f × %s" % (request.utilization, whole)),
        "beside": number(
            beside,
            "exact",
            "free beside it, for the overhead" if request.only_kept else "the overhead is within the share",
        ),
        "weights": weights,
        "kv_bytes_per_token": per_token,
        "overhead_low": low,
        "overhead_high": high,
    }
    if model_shape.not_known(shape):
        nothing = model_shape.kept(shape, request.context)
        fit.update(dict.fromkeys(("kv", "left_low", "left_high", "context_low", "context_high"), nothing))
        return fit
    one = _kept(shape, request, size, stages, request.context)
    kv, all_of_it = kept(request.context), kept(request.context, False)
    limit = shape.context or LONGEST
    over = "%s overhead" if not beside else "what the %s overhead takes of it"
    how = "usable − weights − " + over + " − " + ("KV" if kv == all_of_it else "KV%s")
    low_how = how % ("high",) if kv == all_of_it else how % ("high", ", windows kept whole")
    high_how = how % ("low",) if kv == all_of_it else how % ("low", "")
    least, most = (max(0, one["value"] - beside) for one in (low, high))
    fit.update(
        kv=number(kv, one["label"], "%s × %d sequences" % (one["how"], sequences)),
        # An engine without a cache for windows keeps all tokens of them.
        left_low=number(base - most - all_of_it, "estimated", low_how),
        left_high=number(base - least - kv, "estimated", high_how),
    )
    if lean:
        return fit
    fit.update(
        context_low=number(
            longest(base - most, limit, lambda tokens: kept(tokens, False)),
            "estimated",
            "what is left for the cache with the high overhead / what a sequence takes",
        ),
        context_high=number(
            longest(base - least, limit, kept),
            "estimated",
            "what is left for the cache with the low overhead / what a sequence takes",
        ),
    )
    return fit


def _share(gpu, request):
    """``(what weights and cache may take, what the overhead has beside that)`` of a GPU, bytes."""
    usable = int((gpu.free if request.of_free else gpu.total) * request.utilization)
    return usable, max(0, gpu.free - usable) if request.only_kept else 0


def _kept(shape, request, size, stages, tokens, windows=True):
    """What one sequence keeps on the fullest rank, as a `number`."""
    block = model_shape.GPU_BLOCK if request.layer_groups else 0
    return model_shape.kept(shape, tokens, request.kv_bytes, size, stages, request.batch, windows, block)


def layout_text(size, stages=1, copies=1):
    """TP 8, TP 8 × PP 2, TP 2 × DP 4."""
    kinds = (("PP", stages), ("DP", copies))
    return " × ".join(["TP %d" % size] + ["%s %d" % kind for kind in kinds if kind[1] > 1])


def _within(fit, name):
    """What an overhead takes of the usable share, bytes."""
    return max(0, fit[name]["value"] - fit["beside"]["value"])


def verdict_of(fit):
    """``fits``, ``tight`` (only if the overhead stays low), ``no``, or ``unknown`` (only the weights are known)."""
    if fit["left_low"]["value"] is None:
        rest = fit["usable"]["value"] - fit["weights"]["value"] - _within(fit, "overhead_low")
        return "no" if rest < 0 else "unknown"
    if fit["left_low"]["value"] >= 0:
        return "fits"
    return "tight" if fit["left_high"]["value"] >= 0 else "no"


def plan_parallel(shape, gpus, request, notes=()):
    """Plan for vLLM and SGLang.

    :param gpus: `Gpu` list, of all hosts together when there are several; the engine takes the first it needs.
    :param notes: why GPUs are not in it, lines.
    :returns: ``verdict`` (fits, tight, no, unknown), ``problems`` (lines), ``would_fit`` (lines), ``tensor_parallel``,
        ``pipeline_parallel``, ``data_parallel``, ``tensor_parallel_sizes``, ``per_gpu`` (`number` values in bytes of
        the smallest GPU), ``largest_context`` (`number`, tokens, with the high overhead), ``gpus`` (used).
    """
    result = {"verdict": "no", "problems": [], "would_fit": [], "per_gpu": None, "largest_context": None}
    if not gpus:
        result["problems"].append("; ".join(notes) or "no GPU was found")
        return result
    stages, copies = request.pipeline_parallel, request.data_parallel
    whole = request.expert_parallel
    sizes = tensor_parallel_sizes(shape, max(1, len(gpus) // (stages * copies)), whole)
    size = request.tensor_parallel or max(sizes)
    needed = size * stages * copies
    result.update(tensor_parallel=size, pipeline_parallel=stages, data_parallel=copies, gpus=needed)
    result["tensor_parallel_sizes"] = sizes
    problems = ["%s at TP %d: %s" % (shape.name, size, line) for line in tensor_parallel_problems(shape, size, whole)]
    if problems:
        line = "tensor-parallel sizes that work on %d GPUs: %s"
        result["would_fit"].append(line % (len(gpus), ", ".join(str(one) for one in sizes)))
    if needed > len(gpus):
        layout = layout_text(size, stages, copies)
        problems.append(
            "%s needs %d GPUs, there %s %d" % (layout, needed, "is" if len(gpus) == 1 else "are", len(gpus))
        )
        problems[-1] += " (%s)" % "; ".join(notes) if notes else ""
    if request.context > shape.context > 0:
        problems.append(
            "%s: a context of %d tokens is longer than the model's %d" % (shape.name, request.context, shape.context)
        )
    used = gpus[:needed]
    smallest = min(used, key=lambda gpu: gpu.free if request.of_free else gpu.total)
    if problems:
        result["problems"] = problems
        return result
    fit = _fit(shape, smallest, request, size, stages)
    result["per_gpu"] = fit
    result["verdict"] = verdict_of(fit)
    most = ", at most the model's own" if fit["context_low"]["value"] is not None else ""
    result["largest_context"] = dict(fit["context_low"], how=fit["context_low"]["how"] + most)
    if result["verdict"] == "no":
        result["problems"].append(_too_large(shape, smallest, fit, needed, request.of_free))
        result["would_fit"] = _what_would_fit(shape, smallest, request, size, stages, fit)
    busy = [] if request.of_free else [gpu for gpu in used if gpu.free < int(gpu.total * request.utilization)]
    if busy:
        result["problems"].append(_busy(busy, request))
        share = min(gpu.free / float(gpu.total) for gpu in busy)
        enough = request._replace(utilization=int(share * 100) / 100.0)
        if result["verdict"] != "no" and verdict_of(_fit(shape, smallest, enough, size, stages, lean=True)) != "no":
            result["would_fit"].append("a utilization of at most %.2f" % enough.utilization)
        result["would_fit"].append("ending what holds the memory")
        result["verdict"] = "no"
    uneven = _uneven(used, request, size, size * stages)
    if uneven:
        result["problems"].append(uneven)
    empty = [gpu._replace(free=gpu.total) for gpu in used]
    if request.of_free and (uneven or result["verdict"] == "no") and not _uneven(empty, request, size, size * stages):
        least = min(empty, key=lambda gpu: gpu.total)
        if least.total > smallest.free and verdict_of(_fit(shape, least, request, size, stages, lean=True)) != "no":
            result["would_fit"].append("ending what holds the memory")
    if uneven:
        result["verdict"] = "no"
    return result


def _uneven(gpus, request, size, world):
    """Why SGLang would not start over GPUs of which one has less free than the others; empty where it would."""
    for first in range(0, len(gpus) if request.even and size > 1 else 0, world):
        group = gpus[first : first + world]
        least, most = min(group, key=lambda gpu: gpu.free), max(group, key=lambda gpu: gpu.free)
        if least.free < EVEN * most.free:
            return (
                "SGLang does not start over GPUs whose free memory differs by more than 10 %%: "
                "%s on GPU %s, %s on GPU %s%s"
                % (
                    *(gib(least.free), least.index, gib(most.free), most.index),
                    ": the rest is held by %s" % least.held if least.held else "",
                )
            )
    return ""


def _too_large(shape, gpu, fit, count, of_free):
    kv, weights = fit["kv"]["value"], fit["weights"]["value"]
    low, high = _within(fit, "overhead_low"), _within(fit, "overhead_high")
    need = "weights %s" % gib(weights) + (" + overhead %s to %s" % (gib(low), gib(high)) if high else "")
    over = weights + low + (kv or 0) - fit["usable"]["value"]
    size = "%s free of %s" % (gib(gpu.free), gib(gpu.total)) if of_free else gib(gpu.total)
    return "%s does not fit on %d × %s (%s): of %s usable, %s%s are at least %s too many%s" % (
        *(shape.name, count, gpu.name, size, gib(fit["usable"]["value"]), need),
        *("" if kv is None else " + KV %s" % gib(kv), gib(over)),
        ": the rest is held by %s" % gpu.held if gpu.held and of_free else "",
    )


def _busy(gpus, request):
    """vLLM refuses to start where less is free than it is to take (v1/worker/utils.py, request_memory)."""
    worst = min(gpus, key=lambda gpu: gpu.free)
    line = "on GPU %s %s of %s are free, the engine wants %.2f of it, %s" % (
        *(worst.index, gib(worst.free), gib(worst.total), request.utilization),
        gib(worst.total * request.utilization),
    )
    if len(gpus) > 1:
        line += " (so on %d GPUs)" % len(gpus)
    return line + (": held by %s" % worst.held if worst.held else "")


def _what_would_fit(shape, gpu, request, size, stages, fit):
    """Lines: a shorter context, a smaller cache, more of these GPUs, or larger ones."""
    lines = []
    known = fit["kv"]["value"] is not None
    if known and 1024 <= fit["context_high"]["value"] < request.context:
        lines.append("a context of at most {:,} tokens".format(fit["context_high"]["value"]))
    if known and request.kv_bytes > 1:
        smaller = _fit(shape, gpu, request._replace(kv_bytes=1.0), size, stages, lean=True)
        if smaller["left_high"]["value"] >= 0:
            lines.append("a KV cache in fp8 ({:,} bytes a token)".format(smaller["kv_bytes_per_token"]["value"]))
    more = _more_of_them(shape, gpu, request, size) if known else None
    if more:
        lines.append("%d of these GPUs (%s)" % (more[0] * more[1], layout_text(*more)))
    need = (fit["weights"]["value"] + _within(fit, "overhead_high") + (fit["kv"]["value"] or 0)) / request.utilization
    if need <= LARGEST_GPU:
        lines.append("%d GPU%s of at least %s" % (size * stages, "" if size * stages == 1 else "s", gib(need)))
    return lines


def _more_of_them(shape, gpu, request, size):
    """``(tensor-parallel size, pipeline stages)`` with the fewest such GPUs on which it fits, or ``None``.

    The size that is asked for, or up to what a host usually holds, 8; of equal ones the one with fewer stages.
    """
    sizes = (
        [size]
        if request.tensor_parallel
        else tensor_parallel_sizes(shape, max(size, GPUS_OF_A_HOST), request.expert_parallel)
    )
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
        if (_fit(shape, gpu, request, size, stages, lean=True)["left_low"]["value"] or 0) >= 0:
            return stages
    return None
