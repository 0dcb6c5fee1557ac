# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One answer to "does this model fit this host", for preflights: catalog entry + facts in, plan and lines out. Pure."""

from __future__ import annotations

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.parallel import plan_parallel
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import (
    Request,
    gib,
    gpus_from_facts,
    gpus_of_hosts,
    memory_unknown,
    ram_from_facts,
)
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.fit_layers import plan_layers
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.fit_on_host import plan_host

# Of a file that says 32 bits a number: what it must hold at least, else its tensors are shorter than it says.
_WHOLE_32 = 3.5


def shape_for(entry, request):
    """The shape of a catalog entry as an engine has it: weights in the type that it computes with, its type of cache.

    :raises ValueError: the entry has not the numbers for it, in one line.
    """
    shape = model_shape.from_catalog(entry)
    stored = entry.get("weight_bits")
    if request.computed_bytes and stored in (16, 32) and request.computed_bytes * 8 != stored:
        if stored == 16:
            shape = shape._replace(weight_bytes=2 * shape.weight_bytes, weight_label="estimated")
        elif shape.weight_bytes >= _WHOLE_32 * (model_shape.parameters(shape)["value"] or shape.weight_bytes):
            shape = shape._replace(weight_bytes=shape.weight_bytes // 2, weight_label="estimated")
    shape = model_shape.with_kv(shape, request.kv) if request.kv else shape
    return model_shape.with_draft(shape) if request.drafts else shape


def check(entry, nvidia_smi, request=None, memory=None, users=(), on_cpu=False, nodes=1, gang=()):
    """Plan one catalog entry: by layers for GGUF, tensor-parallel for safetensors; ``users`` as for `gpus_from_facts`.

    :param memory: the fact ``dsdeploy_memory``; without it the host's memory is not checked.
    :param on_cpu: whether the engine computes on the CPU, whatever GPUs there are.
    :param nodes: hosts of this kind that serve it together (vLLM and SGLang).
    :param gang: ``(name, fact nvidia_smi)`` of each of them, where they are known: the least of their GPUs counts.
    :returns: the plan with ``summary`` (one line) and ``notes`` (of GPUs that are left out) added. ``verdict`` is
        ``unknown`` when numbers of the model or of the GPUs are not known.
    """
    request = request or Request()
    try:
        shape = shape_for(entry, request)
    except ValueError as error:
        return _unknown("memory not checked: %s" % error)
    if on_cpu:
        gpus, notes = [], []
    else:
        gpus, notes = gpus_of_hosts(gang, users) if gang else gpus_from_facts(nvidia_smi, users, nodes)
    ram = ram_from_facts(memory, users)
    if notes and not gpus and memory_unknown(nvidia_smi):
        return _unknown("memory not checked: %s" % "; ".join(notes), notes)
    if entry.get("format") == "gguf":
        plan = plan_layers(shape, gpus, request, ram)
        placed = "%s of %d layers on %d GPUs" % (plan.get("gpu_layers"), plan["layers_total"], len(gpus))
    elif on_cpu:
        plan = plan_host(shape, ram, request)
        placed = "on the CPU"
    else:
        plan = plan_parallel(shape, gpus, request, notes)
        placed = "TP %d × PP %d" % (plan.get("tensor_parallel", 0), plan.get("pipeline_parallel", 0))
    plan["notes"] = notes
    if plan["problems"]:
        summary = "; ".join(plan["problems"])
    elif plan["verdict"] == "unknown":
        summary = "%s: memory not known (%s), weights %s (%s)" % (
            *(shape.name, plan["largest_context"]["how"], gib(shape.weight_bytes), shape.weight_label),
        )
    else:
        tight = "fits only if the engine's overhead stays low"
        if any(cache.window for cache in shape.caches):
            tight += " and it drops what leaves a window"
        summary = "%s %s: %s, weights %s (%s), largest context %d tokens (%s)" % (
            shape.name,
            {"fits": "fits", "tight": tight}.get(plan["verdict"], "?"),
            placed,
            gib(shape.weight_bytes),
            shape.weight_label,
            plan["largest_context"]["value"],
            plan["largest_context"]["label"],
        )
        if notes:
            summary += "; " + "; ".join(notes)
    return dict(plan, summary=summary)


def tight(entry, fit):
    """A line where a model fits vLLM or SGLang only if the engine needs little besides the weights: its start may end
    after minutes of loading. No line where it fits, does not, or is not known to."""
    numbers = fit.get("per_gpu")
    if fit["verdict"] != "tight" or not numbers:
        return []
    sizes = [gib(numbers[key]["value"]) for key in ("usable", "weights", "kv", "overhead_low", "overhead_high")]
    beside = numbers["beside"]["value"]
    return [
        "%s fits only if the engine needs little else: of %s a GPU that it may use, weights take %s and one context "
        "%s, and %s to %s go to activations and CUDA graphs%s. Better: a %s share of the memory, more GPUs, or a "
        "shorter context"
        % (
            entry.get("name") or "the model",
            *sizes,
            ", which have %s beside it" % gib(beside) if beside else "",
            "smaller" if beside else "larger",
        )
    ]


def _unknown(summary, notes=()):
    return {"verdict": "unknown", "problems": [], "would_fit": [], "summary": summary, "notes": list(notes)}


# By kind of source, the keys of the table of mirrors of which one must name a place.
_PLACES = {
    "modelscope": ("modelscope",),
    "huggingface": ("huggingface",),
    "pypi": ("pypi_index", "pypi_index_default"),
}


def offered(catalog, mirrors=None, source_order=()):
    """Models of the catalog that can be had: by the kinds of ``source_order`` (empty: all), over mirrors that are set.

    :param mirrors: the table of mirrors; None: nothing is known of it, and nothing left out.
    """

    def can_be_had(source):
        kind = source["kind"]
        if source_order and kind not in source_order:
            return False
        return mirrors is None or kind not in _PLACES or any(mirrors.get(key) for key in _PLACES[kind])

    return {name: entry for name, entry in catalog.items() if any(map(can_be_had, entry.get("sources") or []))}


def alternatives(
    catalog, entry, engine, nvidia_smi, request=None, memory=None, users=(), on_cpu=False, nodes=1, gang=(), most=4
):
    """Names of other models of the catalog that ``engine`` serves and that fit, the largest first.

    The layout that is asked for is left open, and the context is no longer than the other model's own.
    """
    request = (request or Request())._replace(
        tensor_parallel=0, pipeline_parallel=1, data_parallel=1, gpu_layers=-1, drafts=False
    )
    found = []
    for name, other in catalog.items():
        if name == entry.get("name") or engine not in other.get("engines", []) or name.startswith("tiny-"):
            continue
        longest = (other.get("architecture") or {}).get("context") or request.context
        fitting = request._replace(context=min(request.context, longest))
        plan = check(dict(other, name=name), nvidia_smi, fitting, memory, users, on_cpu, nodes, gang)
        if plan["verdict"] == "fits":
            found.append((model_shape.from_catalog(dict(other, name=name)).weight_bytes, name))
    return [name for _size, name in sorted(found, reverse=True)[:most]]
