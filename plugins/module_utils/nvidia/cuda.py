# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a CUDA toolkit goes with, and what its compiler and its run time say.

Pure functions; the table of versions is data of role `cuda_toolkit`.
"""

from __future__ import annotations

import re
from typing import Dict, List, Optional, Tuple

# (what nvcc prints, what to do). The first that is found counts.
_COMPILE_HINTS = (
    (
        r"unsupported GNU version",
        "The host compiler is too new for this CUDA: install an older one and name it in cuda_toolkit_host_compiler.",
    ),
    (
        r"(No such file or directory|Failed to preprocess host compiler|cannot execute .cc1plus)",
        "The C++ compiler is missing or incomplete: install g++ (gcc-c++ on the RHEL family).",
    ),
    (r"cannot find -l(cudart|cuda)", "The toolkit is incomplete: its package of the CUDA runtime is missing."),
)

# Codes of cudaError_t, CUDA Runtime API, "Data types used by CUDA Runtime".
_RUN_HINTS = {
    3: "The driver could not be initialised: look into dmesg, and whether its kernel module is loaded.",
    35: "The driver is older than this CUDA: install a newer one, or an older CUDA (cuda_toolkit_version).",
    100: "The driver shows no GPU to programs: check CUDA_VISIBLE_DEVICES, and what the container was given.",
    209: "The program holds no code for this GPU: this CUDA is too old, or too new, for it (cuda_toolkit_version).",
    802: "On a machine with NVSwitch the fabric manager must run, in exactly the driver's version: "
    "systemctl status nvidia-fabricmanager.",
    803: "The driver's library and its kernel module are of different versions: reboot, or load the module anew.",
    804: "The compatibility package of CUDA is not for this GPU: remove cuda-compat, or install a newer driver.",
}


def numbers(version: str) -> Tuple[int, ...]:
    """A version for comparing: `550.54.14` as (550, 54, 14)."""
    return tuple(int(part) for part in re.findall(r"[0-9]+", version))


def nvcc_version(text: str) -> Optional[str]:
    """The version in the output of `nvcc --version`, such as `12.4.131`; None if there is none."""
    found = re.search(r"\bV([0-9]+(?:\.[0-9]+)+)", text)
    return found.group(1) if found else None


def knows_native(version: str) -> bool:
    """Whether nvcc of this version takes `-arch=native`, as it does since CUDA 11.6 (CUDA compiler driver NVCC)."""
    return numbers(version) >= (11, 6)


def compatibility(
    table: Dict[str, dict], versions: List[str], driver: str, compiler: str, gcc: str
) -> Tuple[List[dict], List[str]]:
    """What stands in the way of these versions of CUDA, and what is to be warned of.

    :param table: version to `{driver, oldest_driver, gcc}`, see role cuda_toolkit.
    :param versions: such as `12.4`.
    :param driver: version of the driver on the host; empty when there is none, which is no problem for a compiler.
    :param compiler: the host compiler's command.
    :param gcc: its version; empty when it is not there yet, or sees to itself.
    :returns: `[{msg, hint}]` and lines.
    """
    problems, warnings = [], []
    for version in versions:
        if version not in table:
            warnings.append(
                "CUDA %s is not in cuda_toolkit_compatibility: neither driver nor compiler are checked" % version
            )
            continue
        entry = table[version]
        if driver and numbers(driver) < numbers(str(entry["oldest_driver"])):
            problems.append(
                {
                    "msg": "CUDA %s needs driver %s, this host has %s" % (version, entry["oldest_driver"], driver),
                    "hint": "Install a newer driver (role nvidia_driver), or an older CUDA in cuda_toolkit_version.",
                }
            )
        elif driver and numbers(driver) < numbers(str(entry["driver"])):
            warnings.append(
                "driver %s is older than the one of CUDA %s (%s): programs run, but only those that were compiled for "
                "this very GPU" % (driver, version, entry["driver"])
            )
        if gcc and numbers(gcc)[0] > int(entry["gcc"]):
            problems.append(
                {
                    "msg": "nvcc of CUDA %s takes gcc up to %s, %s is %s" % (version, entry["gcc"], compiler, gcc),
                    "hint": "Install g++-%s and set cuda_toolkit_host_compiler to it, or choose a newer CUDA in "
                    "cuda_toolkit_version." % entry["gcc"],
                }
            )
    return problems, warnings


def compile_hint(output: str) -> str:
    """What to do about what nvcc printed when it failed."""
    return next(
        (hint for pattern, hint in _COMPILE_HINTS if re.search(pattern, output)),
        "See nvcc's output; remove the toolkit's packages and run this again if files are missing.",
    )


def run_hint(code: int) -> str:
    """What to do about a cudaError_t."""
    return _RUN_HINTS.get(code, "See nvidia-smi and dmesg; the code is one of cudaError_t in the CUDA Runtime API.")
