# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked for, and the memory that there is. Pure; bytes everywhere, MiB in facts."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.kv import Kv

GIB = 1024**3
MIB = 1024**2


class Gpu(NamedTuple):
    """A GPU as a CUDA process sees it, or the one MIG instance that such a process gets."""

    index: int | str  # of several hosts with the host's name
    name: str
    total: int  # bytes, without what the driver reserves: what CUDA calls total
    free: int  # bytes
    held: str = ""  # what others hold of it, in words


class Request(NamedTuple):
    """What is asked for. ``tensor_parallel`` 0 means: the largest size that works on GPUs ÷ (PP × DP)."""

    tensor_parallel: int = 0
    pipeline_parallel: int = 1
    data_parallel: int = 1  # copies of the model, each with its own GPUs
    shared_experts: bool = True  # whether the copies share the experts (vLLM; SGLang's do not)
    layer_groups: bool = False  # whether the engine fills groups of layers and pages up (vLLM, `shape.kept`)
    expert_parallel: int = 1  # parts that the experts, whole, are spread over; 0: every GPU has whole ones
    data_parallel_attention: int = 1  # ranks that each keep their own attention and sequences (SGLang --dp)
    context: int = 8192  # tokens of one sequence
    sequences: int = 1  # at the same time, each of full length
    kv_bytes: float = 2.0  # bytes of one cached number: 2 bf16/f16, 1 fp8/q8_0 (llama.cpp's q8_0: 1.0625)
    kv: Kv | None = None  # vLLM and SGLang: what their type of cache takes; None: `kv_bytes` says it all
    computed_bytes: int = 0  # of a number that the engine computes with, which weights that are not quantised become
    absorbed: bool = False  # whether MLA's up-projection is there a second time, in 16 bits (`parallel.absorbed_bytes`)
    drafts: bool = False  # whether the model's own layer for further tokens (MTP) has a cache, too
    draft_apart: bool = False  # whether something else guesses tokens, of which nothing is known
    utilization: float = 0.9  # share of a GPU's, or the host's, memory that the engine may take
    of_free: bool = False  # whether it is a share of what is free when the engine starts (SGLang), not of all of it
    only_kept: bool = False  # whether it is for weights and cache alone, the overhead beside it (SGLang's, where set)
    even: bool = False  # whether it starts only where all GPUs of a layer have about as much free (SGLang)
    kv_space: int = 0  # bytes that are set aside for the cache of each rank; 0: what the sequences take
    gpu_layers: int = -1  # llama.cpp: layers on GPUs; -1: as many as fit
    ubatch: int = 512  # llama.cpp: tokens computed at once
    batch: int = 2048  # vLLM and SGLang: tokens computed at once, which a sliding window holds besides its own
    graphs: int | None = None  # vLLM: sizes of batches with CUDA graphs; None: not known


def gpus_from_facts(nvidia_smi, users=(), nodes=1):
    """``(GPUs, notes)`` of fact ``nvidia_smi``: a list of `Gpu`, and why others are not in it, one line each.

    Of GPUs that MIG divides a CUDA process gets one instance, the first (NVIDIA, MIG User Guide, "CUDA Device
    Enumeration"). A GPU without a memory of its own, such as GB10, shares the host's: what it can take is not known.

    :param users: system users whose processes give their memory back before the model is loaded: it counts as free.
    :param nodes: hosts of this kind.
    """
    found, instances, notes = [], [], []
    for gpu in nvidia_smi.get("gpus") or []:
        name, index = gpu.get("name") or "GPU", gpu["index"]
        if divided(gpu):
            here = _instances(gpu)
            instances += [(gpu, name, index, one) for one in here]
            if not here:
                notes.append("GPU %d is in MIG mode and has no instance: no process can use it" % index)
            continue
        closed = _closed(gpu, users)
        if closed:
            notes.append("GPU %d (%s): %s" % (index, name, closed))
            continue
        one = _gpu(gpu, name, index, users)
        if one:
            found.append(one)
            if not free_known(gpu):
                notes.append("GPU %d (%s): %s" % (index, name, _FREE_NOT_KNOWN))
        else:
            notes.append("GPU %d (%s): nvidia-smi reports no memory of its own" % (index, name))
    if instances and not found:
        gpu, name, index, instance = instances[0]
        one = _gpu(dict(instance, processes=gpu.get("processes")), "%s, MIG instance" % name, index, users)
        found += [one] if one else []
        if one and not free_known(instance):
            notes.append("GPU %d (%s): %s" % (index, one.name, _FREE_NOT_KNOWN))
        notes.append(
            "MIG divides the GPUs into %d instances; a process gets one%s"
            % (len(instances), "" if one else ", whose memory is not known")
        )
    elif instances:
        notes.append("%d MIG instances are left out: a process gets either one of them or whole GPUs" % len(instances))
    return found * nodes, notes


def _closed(gpu, users):
    """Why no process may compute on a GPU whose memory is free, by its compute mode; empty where one may."""
    mode = str(gpu.get("compute_mode")).lower()
    if mode == "prohibited":
        return "its compute mode is Prohibited: no process can use it (nvidia-smi --compute-mode=0)"
    others = [one for one in gpu.get("processes") or [] if one.get("user") not in users and "C" in str(one.get("type"))]
    if mode.startswith("exclusive") and others:
        return "its compute mode is %s, and process %s has it" % (gpu["compute_mode"], others[0].get("pid"))
    return ""


def gpus_of_hosts(facts, users=()):
    """As `gpus_from_facts`, of several hosts that serve one model together, each with GPUs of its own.

    :param facts: ``(name of the host, fact nvidia_smi)`` of each, by rank.
    """
    each, notes = [], []
    for host, nvidia_smi in facts:
        gpus, said = gpus_from_facts(nvidia_smi, users)
        each.append([gpu._replace(index="%s of %s" % (gpu.index, host)) for gpu in gpus])
        notes += ["%s: %s" % (host, line) for line in said]
    # In turn: an engine takes as many of each host.
    return [gpu for row in itertools.zip_longest(*each) for gpu in row if gpu], notes


def memory_unknown(nvidia_smi):
    """Whether there is a GPU, or a MIG instance, of whose memory nothing is known."""
    for gpu in nvidia_smi.get("gpus") or []:
        units = _instances(gpu) if divided(gpu) else [gpu]
        if any(unit.get("memory_total_mib") is None for unit in units):
            return True
    return False


_FREE_NOT_KNOWN = "how much of its memory is free is not known, all counts as free"


def free_known(unit):
    """Whether it is known how much memory of a GPU, or of a MIG instance, is free."""
    return unit.get("memory_free_mib") is not None or unit.get("memory_used_mib") is not None


def _instances(gpu):
    """The MIG instances of a GPU, by their index."""
    found = (gpu.get("mig") or {}).get("instances") or []
    return sorted(found, key=lambda one: (one.get("index") is None, one.get("index")))


def first_instance(gpu):
    """The MIG instance that a CUDA process gets of a GPU; None where there is none."""
    return next(iter(_instances(gpu)), None)


def for_a_process(nvidia_smi):
    """What a CUDA process sees of the GPUs of fact ``nvidia_smi``: the whole ones, or the first MIG instance."""
    gpus = nvidia_smi.get("gpus") or []
    whole = [gpu for gpu in gpus if not divided(gpu)]
    return whole or [one for one in map(first_instance, gpus) if one][:1]


def divided(gpu):
    """Whether MIG divides the GPU: by its mode, or by its instances where that is not told."""
    mig = gpu.get("mig") or {}
    return str(mig.get("mode")).lower() == "enabled" or bool(mig.get("instances"))


def _gpu(facts, name, index, users):
    """A `Gpu` of its facts in MiB; None where its memory is not known."""
    total, free, used = (facts.get("memory_%s_mib" % kind) for kind in ("total", "free", "used"))
    if total is None:
        return None
    reserved = facts.get("memory_reserved_mib") or 0
    if free is not None and used is not None:
        # What is neither used nor free is the driver's, also where it does not call it reserved.
        reserved = max(reserved, total - used - free)
    total = max(0, total - reserved)
    if free is None:
        free = total - (used or 0)
    processes = facts.get("processes") or []
    ours = [one.get("used_memory_mib") for one in processes if one.get("user") in users]
    others = [one for one in processes if one.get("user") not in users and one.get("used_memory_mib")]
    if None in ours:  # WSL, containers: what of it is given back is not told, and counts as free
        free = total - sum(one["used_memory_mib"] for one in others)
    else:
        free += sum(ours)
    free = max(0, min(free, total))
    others.sort(key=lambda one: -one["used_memory_mib"])
    held = ", ".join(
        "%s of %s with %s"
        % (one.get("name") or one.get("pid"), one.get("user") or "?", gib(one["used_memory_mib"] * MIB))
        for one in others[:3]
    )
    return Gpu(index, name, total * MIB, free * MIB, held)


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


def longest(room, limit, kept):
    """Tokens, up to ``limit``, of the longest sequence whose ``kept(tokens)`` bytes are at most ``room``."""
    low, high = 0, limit
    if kept(high) <= room:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if kept(middle) <= room else (low, middle)
    return low


LONGEST = 16 * 1024 * 1024  # tokens, where a model does not say how long its context is
