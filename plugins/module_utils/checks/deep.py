# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that take minutes and load GPUs and disks: with `--deep` alone. Pure; sections of look_deep.py."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.check import (
    Skip,
    Unknown,
    Verdict,
    check,
    fail,
    ok,
    warn,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.gpu import gpus, listed
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.thresholds import normal

READ_LEAST = 1.0  # GB/s: 404 GB in seven minutes
# What is left of the bandwidth where the NVSwitches' own sums (NVLS) are not used: 2(n-1)/n transfers instead of one.
WITHOUT_NVLS = 0.7

Facts = Dict[str, Any]


def _measured(facts: Facts, section: str) -> Dict[str, Any]:
    gpus(facts)
    found = facts[section]
    if found.get("skip"):
        raise Skip(found["skip"])
    return dict(found)


@check(
    "deep_cuda_context",
    title="every GPU takes a program's memory and gives it back unchanged",
    why="It finds what cuInit does not: a GPU that hangs, or whose memory is wrong.",
    fix="dmesg | grep -i nvrm; nvidia-smi --gpu-reset",
    source="CUDA Driver API, cuCtxCreate, cuMemcpy",
    deep=True,
)
def context(facts: Facts) -> Verdict:
    found = _measured(facts, "deep_context")
    bad = {int(index): said for index, said in found["gpus"].items() if said}
    return fail(listed(bad), "unchanged") if bad else ok("%d GPUs" % len(found["gpus"]), "unchanged")


@check(
    "deep_host_copy",
    title="copies from the host's memory to each GPU are as fast as its link",
    why="A link at half its lanes or generation shows only under load; weights load at that speed.",
    fix="nvidia-smi -q -d PERFORMANCE under load; lspci -vv (LnkSta); slot, riser, firmware",
    source="github.com/Azure/azurehpc-health-checks, check_gpu_bw (48 GB/s on Gen5 x16); checks/thresholds.py",
    deep=True,
)
def host_copy(facts: Facts) -> Verdict:
    found = _measured(facts, "deep_bandwidth")
    if found.get("copy") is None:
        raise Skip(found.get("copy_skip") or "nothing here measures it")
    names = {gpu["index"]: gpu["name"] for gpu in gpus(facts)}
    rates = {int(index): float(rate) for index, rate in found["copy"].items()}
    said = ", ".join("GPU %d: %.1f" % pair for pair in sorted(rates.items())) + " GB/s (%s)" % found["by"]
    slow = {}
    judged = False
    for index, rate in rates.items():
        least = normal(names.get(index)).host_copy_gb_s
        judged = judged or least is not None
        # One that is much slower than its best neighbour is wrong whatever its model.
        floor = max(least or 0.0, 0.5 * max(rates.values()))
        if rate < floor:
            slow[index] = "%.1f GB/s, expected %.0f" % (rate, floor)
    if slow:
        return fail(listed(slow), "the link's speed")
    if not judged and len(rates) < 2:
        raise Unknown("%s: no threshold is known for this GPU" % said)
    return ok(said, "the link's speed")


@check(
    "deep_all_reduce",
    title="an all-reduce over all GPUs is as fast as these GPUs do it",
    why="Tensor parallelism is all-reduces: one slow link, or PCIe in place of NVLink, sets the pace of every token.",
    fix="nvidia-smi topo -m; nvidia-smi nvlink --status; NCCL_DEBUG=INFO shows which way it goes",
    source="nccl-tests#212 (H100: 480 GB/s), nccl#1374 (H800: 215 GB/s), azurehpc-health-checks; checks/thresholds.py",
    deep=True,
)
def all_reduce(facts: Facts) -> Verdict:
    found = _measured(facts, "deep_bandwidth")
    if len(gpus(facts)) < 2:
        raise Skip("there is one GPU")
    if found.get("all_reduce") is None:
        raise Skip(found.get("all_reduce_skip") or "nothing here measures it")
    rate = float(found["all_reduce"])
    least = min((normal(gpu["name"]).all_reduce_gb_s or 0.0) for gpu in gpus(facts))
    said = "%.0f GB/s of bus bandwidth over %d GPUs (%s)" % (rate, len(gpus(facts)), found["by"])
    if not least or len(gpus(facts)) < 8:
        # Published figures are of eight GPUs; two on NVLink reach less, and on PCIe a tenth.
        linked = all(gpu["nvlinks"] for gpu in gpus(facts))
        floor = 100.0 if linked and least else 0.0
        if rate < floor:
            return fail(said, "at least %.0f GB/s over NVLink" % floor)
        if not floor:
            raise Unknown("%s: no threshold is known for these GPUs" % said)
        return ok(said, "at least %.0f GB/s over NVLink" % floor)
    floor = least if found.get("nvls", True) else WITHOUT_NVLS * least
    expected = "at least %.0f GB/s" % floor
    return fail(said, expected) if rate < floor else ok(said, expected)


@check(
    "deep_disk_read",
    title="the models' disk reads fast enough",
    why="At 200 MB/s 404 GB take half an hour, at every start.",
    fix="set dsdeploy_data_dir to a directory on NVMe",
    source="LBNL NHC; checks/deep.py (404 GB in seven minutes)",
    deep=True,
)
def disk_read(facts: Facts) -> Verdict:
    found = facts["deep_disk"]
    if found.get("skip"):
        raise Skip(found["skip"])
    said = "%.2f GB/s of %s" % (found["rate"], found["path"])
    expected = "at least %.0f GB/s" % READ_LEAST
    return warn(said, expected) if found["rate"] < READ_LEAST else ok(said, expected)
