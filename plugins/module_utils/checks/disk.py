# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of disks and of what the model store holds. Pure; sections `disks`, `nvme`, `smart`, `log`, `deployments`."""

from __future__ import annotations

import re
from typing import Any, Dict, List

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.check import (
    Skip,
    Unknown,
    Verdict,
    check,
    fail,
    ok,
    warn,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib

NETWORK = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "fuse.sshfs",
    "ceph",
    "glusterfs",
    "fuse.glusterfs",
    "lustre",
    "virtiofs",
)
OVERLAY = ("overlay", "aufs", "fuse.fuse-overlayfs")
FREE_WARN, FREE_FAIL = 0.10, 0.02  # of the file system
FREE_ENOUGH = 50 * 1024**3  # bytes: with so many free a large disk is not full at 95 %
FREE_LEAST = 1024**3
WORN_MOST = 95  # percent of the writes that the maker reckons with

Facts = Dict[str, Any]


def _ours(facts: Facts) -> List[Dict[str, Any]]:
    """The file systems that deployments, or their directories to be, are on; each once."""
    found: Dict[str, Dict[str, Any]] = {}
    for disk in facts["disks"]:
        if disk["what"] != "shm":
            found.setdefault(disk["mount"], disk)
    if not found:
        raise Skip("no directory to look at")
    return list(found.values())


@check(
    "disk_space",
    title="the disks of the system, the data and the programs have room",
    why="A full disk ends downloads at 99 %, and services that cannot write their log or state fail in odd ways.",
    fix="dsdeploy model prune; du -xh --max-depth=2 / | sort -h | tail",
    source="LBNL NHC, check_fs_free; checks/disk.py",
    when=("prepare", "up"),
)
def space(facts: Facts) -> Verdict:
    worst, said = "pass", []
    for disk in _ours(facts):
        free, size = disk["free"], disk["bytes"] or 1
        if free < FREE_FAIL * size and free < FREE_LEAST:
            worst = "fail"
        elif free < FREE_WARN * size and free < FREE_ENOUGH:
            worst = "fail" if worst == "fail" else "warn"
        else:
            continue
        said.append("%s has %s of %s free" % (disk["mount"], mib(free), mib(size)))
    expected = "a tenth, or %s" % mib(FREE_ENOUGH)
    if worst == "fail":
        return fail("; ".join(said), expected)
    if worst == "warn":
        return warn("; ".join(said), expected)
    return ok(", ".join("%s %s" % (disk["mount"], mib(disk["free"])) for disk in _ours(facts)), expected)


@check(
    "disk_inodes",
    title="the disks have inodes left",
    why="'No space left on device' on a disk with free space: an environment of Python is a hundred thousand files.",
    fix="df -i; remove what made many small files",
    source="LBNL NHC, check_fs_inodes",
    when=("prepare",),
)
def inodes(facts: Facts) -> Verdict:
    counted = [disk for disk in _ours(facts) if disk["inodes"]]
    if not counted:
        raise Skip("these file systems count none")
    few = [
        "%s has %d left" % (one["mount"], one["inodes_free"])
        for one in counted
        if one["inodes_free"] < 0.05 * one["inodes"]
    ]
    return warn("; ".join(few), "5 %") if few else ok("enough", "5 %")


@check(
    "disk_read_only",
    title="the disks can be written to",
    why="The kernel makes a disk read-only after errors: nothing is logged, nothing can be changed, what runs goes on.",
    fix="dmesg | grep -i -e 'i/o error' -e remount; fsck after a reboot",
    source="mount(8), errors=remount-ro",
    when=("prepare", "up"),
)
def read_only(facts: Facts) -> Verdict:
    found = [disk["mount"] for disk in _ours(facts) if disk["read_only"]]
    return fail("read-only: %s" % ", ".join(found), "writable") if found else ok("writable", "writable")


@check(
    "disk_errors",
    title="the kernel's log has no errors of a disk since the boot",
    why="Weights that are read wrongly are answers that are wrong; a disk that fails takes hours of downloads with it.",
    fix="smartctl -a /dev/DISK; replace it; dsdeploy model verify",
    source="gpud, component disk",
    when=("prepare",),
)
def errors(facts: Facts) -> Verdict:
    pattern = r"I/O error|EXT4-fs error|XFS \([^)]*\): .*(?:[Cc]orrupt|[Ee]rror)|BTRFS (?:error|critical)|Medium Error"
    bad = [line for line in facts["log"]["lines"] if re.search(pattern, line)]
    return fail("%d lines, last: %s" % (len(bad), bad[-1][-120:]), "none") if bad else ok("none", "none")


@check(
    "disk_nvme",
    title="the NVMe disks are alive",
    why="A controller that the kernel gave up is gone with all that was on it until a reboot.",
    fix="dmesg | grep nvme; reboot, then replace it",
    source="docs.kernel.org/ABI/stable/sysfs-class-nvme (state)",
    when=("prepare",),
)
def nvme(facts: Facts) -> Verdict:
    if not facts["nvme"]:
        raise Skip("there is no NVMe disk here")
    bad = ["%s is %s" % (one["name"], one["state"]) for one in facts["nvme"] if one["state"] not in ("live", "")]
    return fail(", ".join(bad), "live") if bad else ok("%d live" % len(facts["nvme"]), "live")


@check(
    "disk_smart",
    title="the disks say of themselves that they are in order (SMART)",
    why="A disk tells of its end before it comes: what is on it now can still be copied.",
    fix="smartctl -a /dev/DISK; copy what is on it, and replace it",
    source="NVM Express Base Specification, SMART / Health Information; smartctl(8)",
    when=("prepare",),
)
def smart(facts: Facts) -> Verdict:
    disks = facts["smart"]
    told = [one for one in disks if not one["problem"]]
    expected = "no warning, below %d %% worn" % WORN_MOST
    failing = ["%s: %s" % (one["name"], one["failing"]) for one in told if one["failing"]]
    if failing:
        name = next(one["name"] for one in told if one["failing"])
        return fail("; ".join(failing), expected, "smartctl -a /dev/%s; copy what is on it, and replace it" % name)
    worn = ["%s: %d %% of its life are used" % (one["name"], one["worn"]) for one in told if _is_worn(one)]
    if worn:
        return warn("; ".join(worn), expected)
    if len(told) < len(disks):
        raise Unknown("; ".join("%s: %s" % (one["name"], one["problem"]) for one in disks if one["problem"]))
    if not told:
        raise Skip("no disk here tells of its health, as virtual ones do not")
    return ok(", ".join(one["name"] for one in told), expected)


def _is_worn(disk: Dict[str, Any]) -> bool:
    return disk["worn"] is not None and disk["worn"] >= WORN_MOST


@check(
    "disk_filesystem",
    title="the models are on a disk of this host",
    why="404 GB over a network take an hour at each start; in a container's overlay they are gone with the container.",
    fix="set dsdeploy_data_dir to a directory on a local disk (in a container: a volume)",
    source="field reports (deepseek on NFS: minutes per shard); docs.docker.com/storage",
    when=("prepare", "up"),
)
def filesystem(facts: Facts) -> Verdict:
    data = [disk for disk in facts["disks"] if disk["what"] == "data"]
    if not data:
        raise Skip("nothing is deployed, and no directory was named")
    far = sorted({"%s is %s" % (one["mount"], one["fstype"]) for one in data if one["fstype"] in NETWORK})
    if far:
        return warn("; ".join(far), "a local disk")
    gone = [one for one in data if one["large"] and one["fstype"] in OVERLAY + ("tmpfs", "ramfs")]
    if gone:
        said = sorted({"%s is %s" % (one["path"], one["fstype"]) for one in gone})
        return warn("; ".join(said), "a local disk", "put a volume or a disk at %s" % gone[0]["path"])
    return ok(", ".join(sorted({one["fstype"] for one in data})), "a local disk")


@check(
    "disk_models",
    title="the served models are whole",
    why="A pointer of git-lfs or a page of a proxy in place of weights fails after minutes of loading, in odd words.",
    fix="dsdeploy model verify; dsdeploy up",
    source="ollama#5245, transformers#15325; manifests of the model store",
    when=("up",),
)
def models(facts: Facts) -> Verdict:
    looked = [
        record["model_problem"] for record in facts["deployments"]["records"] if record["model_problem"] is not None
    ]
    if not looked:
        raise Skip("no deployment serves a model of the store")
    bad = [problem for problem in looked if problem]
    return fail("; ".join(bad), "whole") if bad else ok("%d whole" % len(looked), "whole")
