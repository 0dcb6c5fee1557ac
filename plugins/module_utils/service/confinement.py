# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How systemd confines a service: one table of settings, each with who is excepted and why. Data and pure rules.

What a service needs, of which each exception is one:

- ``gpu``: NVIDIA's devices, by its record's device. No host with one was at hand when these settings were tried: what
  is not known to work there is excepted.
- ``jit``: code that is made while it runs.
- ``network``: connections to or from other hosts.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, NamedTuple, Sequence, Set, Tuple
from urllib.parse import urlsplit

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import is_loopback
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.quoting import systemd_word


class Setting(NamedTuple):
    """One line of a unit. Values in braces are filled in.

    :ivar since: the version of systemd that knows it. `without`: needs that except a service. `only`: it is for
        services that need this, where not empty.
    """

    name: str
    value: str
    since: int
    why: str
    without: Tuple[str, ...] = ()
    only: str = ""


TABLE: Tuple[Setting, ...] = (
    Setting("NoNewPrivileges", "yes", 187, "no setuid program gives it rights"),
    Setting("CapabilityBoundingSet", "", 0, "it is no part of root"),
    Setting("ProtectSystem", "strict", 232, "the model store and all else is read-only but for what it owns"),
    Setting("ReadWritePaths", "{write_paths}", 231, "its own directories: state, caches"),
    Setting("ProtectHome", "{protect_home}", 0, "homes are not seen; read-only where its model is in one"),
    Setting("PrivateTmp", "{private_tmp}", 0, "no files of others; not where its model is below /tmp"),
    Setting("InaccessiblePaths", "{hidden}", 231, "keys, hashes and records; not where it reads there"),
    Setting("ProtectKernelTunables", "yes", 232, ""),
    Setting("ProtectKernelModules", "yes", 232, ""),
    Setting("ProtectKernelLogs", "yes", 244, "others' crashes"),
    Setting("ProtectControlGroups", "yes", 232, ""),
    Setting("ProtectClock", "yes", 245, ""),
    Setting("ProtectHostname", "yes", 242, ""),
    Setting("ProtectProc", "invisible", 247, "other users' processes, their arguments and environments"),
    Setting("LockPersonality", "yes", 235, ""),
    Setting("RestrictRealtime", "yes", 231, ""),
    Setting("RestrictSUIDSGID", "yes", 242, ""),
    Setting("RestrictNamespaces", "yes", 233, ""),
    # AF_NETLINK: gloo and NCCL list the interfaces.
    Setting("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK", 211, "no raw packets"),
    Setting("PrivateMounts", "yes", 239, ""),
    Setting("KeyringMode", "private", 235, ""),
    # Shared memory that a killed engine leaves behind.
    Setting("RemoveIPC", "yes", 232, "its user has nothing else"),
    Setting("SystemCallArchitectures", "native", 209, ""),
    Setting("SystemCallFilter", "@system-service", 231, "what services ask of the kernel"),
    # PyTorch and UCX hand memory from process to process with them (@debug).
    Setting(
        "SystemCallFilter",
        "pidfd_getfd process_vm_readv process_vm_writev",
        248,
        "not tried without them",
        only="gpu",
    ),
    # @resources stays: threads are bound to processors, memory to NUMA nodes.
    Setting("SystemCallFilter", "~@privileged", 231, "the kernel refuses them to its user anyway"),
    # Libraries try what they may not, and go on.
    Setting("SystemCallErrorNumber", "EPERM", 209, "refused, not killed"),
    Setting("PrivateDevices", "yes", 209, "no devices", without=("gpu",)),
    Setting("DevicePolicy", "closed", 208, "no devices but those that follow"),
    # By /proc/devices: nvidia, nvidiactl, nvidia-uvm, nvidia-modeset, nvidia-caps, nvidia-nvswitch, nvidia-fs, IMEX.
    # "m": root makes them before it, in the unit's control group (launcher.py); the service has no right to anyway.
    Setting("DeviceAllow", "char-nvidia* rwm", 208, "GPUs", only="gpu"),
    Setting("DeviceAllow", "char-infiniband* rw", 208, "RDMA", only="gpu"),
    Setting("DeviceAllow", "char-gdrdrv rw", 208, "GPUDirect", only="gpu"),
    Setting("DeviceAllow", "/dev/infiniband/rdma_cm rw", 208, "RDMA", only="gpu"),
    Setting("DeviceAllow", "/dev/dxg rw", 208, "GPUs under WSL", only="gpu"),
    Setting("MemoryDenyWriteExecute", "yes", 231, "no code is written", without=("gpu", "jit")),
    # A second belt: where only the gateway and this host ask.
    Setting("IPAddressDeny", "any", 235, "no other host", without=("network",)),
    Setting("IPAddressAllow", "localhost", 235, "this host", without=("network",)),
)
# What is in no unit, and why.
LEFT_OUT = {
    "PrivateUsers": "fails where a container or virtual machine has no user namespaces",
    "PrivateNetwork": "it is asked over loopback",
    "PrivateIPC": "NCCL and the workers of an engine share memory with each other by names",
    "ProcSubset": "engines read /proc/meminfo and /proc/cpuinfo",
    "SystemCallFilter=~@resources": "threads are bound to processors, memory to NUMA nodes",
}
# Hidden from a service that is confined, unless it has to read there.
_HOMES = re.compile(r"/(home|root|run/user)(/|\Z)")
_TEMPORARY = re.compile(r"/(var/)?tmp(/|\Z)")


def needs_of(definition: Dict[str, Any]) -> Set[str]:
    """What a service needs: what it says, and what its record tells."""
    found = set(definition["needs"])
    record = definition["record"]
    if record.get("device") == "gpu":
        found.add("gpu")
    host = urlsplit(str(record.get("endpoint") or "")).hostname
    if host and not is_loopback(host):
        found.add("network")
    return found


def settings(definition: Dict[str, Any], real_paths: Sequence[str], systemd_version: int) -> List[str]:
    """The lines of a unit that confine it; none with `hardening` off.

    :param real_paths: what it has to read and to write, every link resolved: a path that looks harmless may lead into
        a home directory.
    :param systemd_version: what it does not know is left out.
    """
    if not definition["hardening"]:
        return []
    needs = needs_of(definition)
    filled = {
        "write_paths": " ".join(systemd_word(path) for path in [definition["state_dir"], *definition["write_paths"]]),
        "protect_home": "read-only" if any(_HOMES.match(path) for path in real_paths) else "yes",
        "private_tmp": "no" if any(_TEMPORARY.match(path) for path in real_paths) else "yes",
        "hidden": ""
        if any((path + "/").startswith(places.CONFIG + "/") for path in real_paths)
        else "-" + places.CONFIG,
    }
    lines = []
    for row in TABLE:
        if row.since > systemd_version or needs.intersection(row.without) or (row.only and row.only not in needs):
            continue
        value = row.value.format(**filled)
        if value or not row.value:
            lines.append("%s=%s" % (row.name, value))
    return lines
