# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a host's memory can be had."""

import getpass
import sys

from ansible_collections.dsdeploy.llm.plugins.module_utils.host import memory as host_memory
from run_module import run

GIB = 2**30
MEMINFO = (
    "MemTotal:       24684084 kB\nMemFree:        14799388 kB\nMemAvailable:   23198332 kB\nHugePages_Total:       0\n"
)
STAT = "anon 1073741824\nfile 3221225472\ninactive_file 2147483648\nactive_file 0\n"


def test_a_kernel_that_does_not_tell_what_is_available():
    # WSL 1 (heim issue 305), and an OpenVZ container (centreon-plugins issue 24), which has no buffers either.
    wsl = "MemTotal:       33483712 kB\nMemFree:        22743224 kB\nBuffers:           34032 kB\nCached:  188576 kB\n"
    assert host_memory.available(wsl) == (33483712 * 1024, (22743224 + 34032 + 188576) * 1024)
    openvz = "MemTotal:        6291456 kB\nMemFree:         1840024 kB\nCached:          3320736 kB\n"
    assert host_memory.available(openvz) == (6291456 * 1024, (1840024 + 3320736) * 1024)


def test_a_host_without_a_limit():
    assert host_memory.available(MEMINFO) == (24684084 * 1024, 23198332 * 1024)
    assert host_memory.available(MEMINFO, "max\n", "1\n", "") == (24684084 * 1024, 23198332 * 1024)


def test_a_container_has_what_its_limit_leaves_and_what_is_only_cached():
    assert host_memory.available(MEMINFO, f"{8 * GIB}\n", f"{4 * GIB}\n", STAT) == (8 * GIB, 6 * GIB)
    # The host may have less than the limit.
    assert host_memory.available(MEMINFO, f"{64 * GIB}\n", "0\n", "") == (24684084 * 1024, 23198332 * 1024)
    # What it uses is not told.
    assert host_memory.available(MEMINFO, f"{8 * GIB}\n", "", "") == (8 * GIB, 8 * GIB)


def group(directory, **texts):
    """A cgroup as a container sees it; `__` in a name is a directory."""
    for name, text in texts.items():
        path = directory.joinpath(*name.split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(directory)


def test_a_container_before_cgroup_2(tmp_path):
    total, _free = host_memory.free(str(tmp_path / "none"))
    few, used, cached = total // 4 // 4096 * 4096, 64 * 2**20, 16 * 2**20
    files = {
        "memory__memory.limit_in_bytes": f"{few}\n",
        "memory__memory.usage_in_bytes": f"{used}\n",
        # What groups below it cache is in the totals alone.
        "memory__memory.stat": "inactive_file 0\nactive_file 4096\n"
        f"total_inactive_file {cached}\ntotal_active_file 4096\n",
    }
    assert host_memory.free(group(tmp_path / "v1", **files))[0] == few
    left = host_memory.available(host_memory.read("/proc/meminfo"), *files.values())[1]
    assert left == few - used + cached + 4096
    # No limit is a number beyond all memory.
    files["memory__memory.limit_in_bytes"] = "9223372036854771712\n"
    assert host_memory.free(group(tmp_path / "v1", **files))[0] == total


def test_what_a_process_alone_holds():
    status = "Name:\tvllm\nUid:\t998\t998\t998\t998\nVmRSS:\t 900 kB\nRssAnon:\t 512 kB\nRssFile:\t 388 kB\n"
    assert host_memory.own(status) == (998, 512 * 1024)
    assert host_memory.own("Name:\tkthreadd\nUid:\t0\t0\t0\t0\n") is None
    assert host_memory.own("") is None


def test_the_module_reads_this_very_machine():
    held = bytearray(64 * 2**20)
    found = run("memory_facts", {})["ansible_facts"]["dsdeploy_memory"]
    assert 0 < found["available_mib"] <= found["total_mib"]
    assert found["users"][getpass.getuser()] >= len(held) // 2**20
    assert sys.getsizeof(held) > 0
