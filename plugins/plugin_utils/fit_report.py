# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One answer to "does this model fit this host", for preflights: catalog entry + facts in, plan and lines out. Pure."""

from __future__ import annotations

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import memory_fit
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.memory_fit import Request, gib


def check(entry, nvidia_smi, request=None, memory=None, users=(), on_cpu=False):
    """Plan one catalog entry: by layers for GGUF, tensor-parallel for safetensors; ``users`` as for `gpus_from_facts`.

    :param memory: the fact ``dsdeploy_memory``; without it the host's memory is not checked.
    :param on_cpu: whether the engine computes on the CPU, whatever GPUs there are.
    :returns: the plan of `memory_fit` with ``summary`` (one line) added. ``verdict`` is ``unknown`` when the model's
        numbers are not known (a path of the user's own without an entry).
    """
    request = request or Request()
    try:
        shape = model_shape.from_catalog(entry)
    except ValueError as error:
        return {"verdict": "unknown", "problems": [], "would_fit": [], "summary": "memory not checked: %s" % error}
    gpus = [] if on_cpu else memory_fit.gpus_from_facts(nvidia_smi, users)
    ram = memory_fit.ram_from_facts(memory, users)
    if entry.get("format") == "gguf":
        plan = memory_fit.plan_layers(shape, gpus, request, ram)
        placed = "%d of %d layers on %d GPUs" % (plan["gpu_layers"], plan["layers_total"], len(gpus))
    elif on_cpu:
        plan = memory_fit.plan_host(shape, ram, request)
        placed = "on the CPU"
    else:
        plan = memory_fit.plan_parallel(shape, gpus, request)
        placed = "TP %d × PP %d" % (plan.get("tensor_parallel", 0), plan.get("pipeline_parallel", 0))
    if plan["problems"]:
        summary = "; ".join(plan["problems"])
    else:
        summary = "%s %s: %s, weights %s (%s), largest context %d tokens (%s)" % (
            shape.name,
            {"fits": "fits", "tight": "fits only if the engine's overhead stays low"}.get(plan["verdict"], "?"),
            placed,
            gib(shape.weight_bytes),
            shape.weight_label,
            plan["largest_context"]["value"],
            plan["largest_context"]["label"],
        )
    return dict(plan, summary=summary)


def alternatives(catalog, entry, engine, nvidia_smi, request=None, memory=None, users=(), on_cpu=False, most=4):
    """Names of other models of the catalog that ``engine`` serves and that fit, the largest first.

    The layout that is asked for is left open, and the context is no longer than the other model's own.
    """
    request = (request or Request())._replace(tensor_parallel=0, pipeline_parallel=1, gpu_layers=-1)
    found = []
    for name, other in catalog.items():
        if name == entry.get("name") or engine not in other.get("engines", []) or name.startswith("tiny-"):
            continue
        longest = (other.get("architecture") or {}).get("context") or request.context
        fitting = request._replace(context=min(request.context, longest))
        plan = check(dict(other, name=name), nvidia_smi, fitting, memory, users, on_cpu)
        if plan["verdict"] == "fits":
            found.append((model_shape.from_catalog(dict(other, name=name)).weight_bytes, name))
    return [name for _size, name in sorted(found, reverse=True)[:most]]
