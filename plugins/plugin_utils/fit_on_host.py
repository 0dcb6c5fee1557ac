# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All of a model in the host's memory: vLLM and SGLang on the CPU. Pure; bytes everywhere."""

from __future__ import annotations

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.parallel import weights_per_gpu
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import GIB, LONGEST, gib, longest
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.shape import number

# What an engine's processes take besides weights and cache. Measured with a model of no size: vLLM 0.32.0 2.4 GB, of
# which 1 GiB is cache, SGLang 0.4.3.post2 2.1 GB.
HOST_OVERHEAD = 3 * GIB // 2


def plan_host(shape, ram_free, request):
    """Plan for vLLM and SGLang on the CPU.

    Two bounds: all that the engine takes, and the share (``utilization``) that SGLang gives to weights and cache.

    :param ram_free: bytes of host memory that may be taken; ``None``: unknown, not checked.
    :returns: ``verdict`` (fits, no, unknown), ``problems``, ``would_fit`` (lines), ``host`` (`number` values in bytes),
        ``largest_context`` (`number`, tokens).
    """
    size = max(1, request.tensor_parallel)
    ranks = size * request.pipeline_parallel
    weights = weights_per_gpu(shape, size)["value"] * size

    block = model_shape.CPU_BLOCK if request.layer_groups else 0

    def kept(tokens):
        one = model_shape.kept(shape, tokens, request.kv_bytes, size, 1, request.batch, block=block)
        return (one["value"] or 0) * size * request.sequences

    unknown = model_shape.not_known(shape)
    wanted = kept(request.context)
    kv = request.kv_space * ranks or wanted
    overhead = HOST_OVERHEAD * ranks
    problems, would_fit = [], []
    if request.context > shape.context > 0:
        problems.append("a context of %d tokens is longer than the model's %d" % (request.context, shape.context))
    room = kv
    if request.kv_space and wanted > kv:
        problems.append(
            "%s: a sequence of %d tokens takes %s of KV cache, %s are set aside for it"
            % (shape.name, request.context, gib(wanted / ranks), gib(request.kv_space))
        )
        would_fit.append("a KV cache of %s" % gib(wanted / ranks))
    if ram_free is not None:
        limit = int(min(ram_free - overhead, ram_free * request.utilization))
        room = kv if request.kv_space else max(0, limit - weights)
        what = "%s does not fit into the memory of this host: weights %s + KV %s" % (shape.name, gib(weights), gib(kv))
        if weights + kv + overhead > ram_free:
            total = weights + kv + overhead
            problems.append("%s + engine %s are %s, %s is available" % (what, gib(overhead), gib(total), gib(ram_free)))
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
    limit = shape.context or LONGEST
    most = None if unknown else longest(room, limit, kept)
    if problems and most is not None and 1024 <= most < request.context:
        would_fit.insert(0, "a context of at most {:,} tokens".format(most))
    label, how = ("not known", ", ".join(unknown)) if unknown else ("exact", "%d tokens" % request.context)
    return {
        "verdict": "no" if problems else "unknown" if unknown else "fits",
        "problems": problems,
        "would_fit": would_fit,
        "host": {
            "weights": number(weights, shape.weight_label, "all of them"),
            "kv": number(kv, "exact", "what is set aside") if request.kv_space else number(kv or None, label, how),
            "overhead": number(overhead, "measured", "an engine with a model of no size"),
        },
        "largest_context": number(
            most, label if unknown else "estimated", how if unknown else "memory left / what a sequence takes"
        ),
    }
