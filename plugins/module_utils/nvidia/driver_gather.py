# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read NVIDIA's driver off this host; driver.py judges what is read."""

from __future__ import annotations

import glob
import os
import shutil
from typing import Any

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import run
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import driver as nvidia_driver
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import pci
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.devices import is_given_away

TIMEOUT = 30.0  # s; a package database that is locked, or a driver that hangs, must not hold up its caller
SBIN = ("/sbin", "/usr/sbin", "/usr/local/sbin")
SECURE_BOOT = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# Where DKMS, and Ubuntu's shim, keep the key that they sign modules with.
MACHINE_OWNER_KEYS = ("/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der")
LIBRARY_DIRECTORIES = ("/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/lib/wsl/lib")
# NVLink's subnet manager, which the fabric manager starts where NVSwitches are behind network cards.
SUBNET_MANAGER = "/opt/nvidia/nvlsm/sbin/nvlsm"
# What NVIDIA's .run file leaves to be removed with, and takes away with itself; no package has them.
RUN_FILE = ("nvidia-uninstall", "nvidia-installer")
PACKAGE_QUERIES = (
    ["dpkg-query", "--show", "--showformat=${Package} ${Version} ${db:Status-Status}\n"],
    ["rpm", "--query", "--all", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE} installed\n"],
)


def read(*names: str) -> bytes | None:
    try:
        with open(os.path.join(*names), "rb") as file:
            return file.read()
    except OSError:
        return None


def text(*names: str) -> str:
    return (read(*names) or b"").decode("utf-8", "replace")


def library() -> str | None:
    """The file that libnvidia-ml.so.1 is in the end."""
    found = [path for pattern in LIBRARY_DIRECTORIES for path in glob.glob(pattern + "/libnvidia-ml.so.1")]
    return os.path.realpath(found[0]) if found else None


def path(command: str) -> str | None:
    """Where a program of the host is; none of them need be there."""
    return shutil.which(command, path=os.pathsep.join((os.environ.get("PATH", os.defpath),) + SBIN))


def says(*argv: str) -> str:
    """What a program prints; empty where it is not there, or does not end in time."""
    program = path(argv[0])
    return run([program, *argv[1:]], TIMEOUT).stdout if program else ""


def packages() -> dict[str, str]:
    query = next((query for query in PACKAGE_QUERIES if path(query[0])), None)
    return nvidia_driver.driver_packages(says(*query) if query else "")


def mok_key() -> str | None:
    return next((key for key in MACHINE_OWNER_KEYS if os.path.exists(key)), None)


def mok_enrolled() -> bool | None:
    """Whether one of the keys is; None where nobody can tell."""
    keys = [key for key in MACHINE_OWNER_KEYS if os.path.exists(key)]
    if keys and not path("mokutil"):
        return None
    return any("already enrolled" in says("mokutil", "--test-key", key) for key in keys)


def gather(sysfs: str, procfs: str) -> dict[str, Any]:
    """The value of `ansible_facts.nvidia_driver`."""
    bus = os.path.join(sysfs, "bus/pci/devices")
    found = [one for one in pci.scan(bus) or [] if one.kind == "nvswitch" or one.generation]
    own = [one for one in found if not is_given_away(one.driver)]
    release = text(procfs, "sys/kernel/osrelease").strip()
    compiler = nvidia_driver.compiler_of(text(procfs, "version"))
    loaded = nvidia_driver.loaded_module(text(procfs, "driver/nvidia/version"))
    facts = {
        "gpus": [
            {"address": one.address, "device_id": one.device_id, "generation": one.generation}
            for one in own
            if one.kind == "gpu"
        ],
        "vfio_gpus": [one.address for one in found if one.kind == "gpu" and one not in own],
        "nvswitches": sum(one.kind == "nvswitch" for one in own),
        "switch_bridges": pci.switch_bridges(bus, own),
        "kernel": {
            "release": release,
            "compiler": compiler,
            "has_compiler": bool(compiler and path(compiler)),
            "has_headers": os.path.exists("/lib/modules/%s/build" % release),
        },
        "nouveau_loaded": "nouveau" in nvidia_driver.loaded_names(text(procfs, "modules")),
        "may_load_modules": nvidia_driver.may_load_modules(text(procfs, "self/status")),
        "secure_boot": nvidia_driver.secure_boot(read(sysfs, SECURE_BOOT)),
        "mok_enrolled": mok_enrolled(),
        "mok_key": mok_key(),
        "run_file": next(filter(None, map(path, RUN_FILE)), None),
        "loaded_version": loaded.version,
        "loaded_open": loaded.open,
        "library_version": nvidia_driver.library_version(library()),
        "fabric_manager_version": nvidia_driver.fabric_manager_version(says("nv-fabricmanager", "--version")),
        "subnet_manager": os.path.exists(SUBNET_MANAGER),
        "packages": packages(),
    }
    facts["wants_fabric_manager"] = nvidia_driver.wants_fabric_manager(facts)
    facts["switches"] = nvidia_driver.switches(facts)
    problems = [problem._asdict() for problem in nvidia_driver.mix_problems(facts)]
    return dict(facts, problems=problems, reboot_reasons=nvidia_driver.reboot_reasons(facts))
