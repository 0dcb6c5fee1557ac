# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engine a name means, and whether the GPUs of a host can serve one."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.words import nearest
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.devices import given_away
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.driver import GIVE_BACK


def resolve_engine(engines: Dict[str, Dict[str, Any]], name: str) -> Dict[str, Any]:
    """The engine's entry of the table `dsdeploy_engines`, with its `name` filled in.

    Hyphens and case do not matter: `llama-cpp`, `llama.cpp` and `LLAMA_CPP` mean `llama_cpp`.

    :raises Failure: no such engine.
    """
    known = {key.replace("_", ""): key for key in engines}
    plain = str(name).lower().replace("-", "").replace(".", "").replace("_", "")
    if plain in known:
        return dict(engines[known[plain]], name=known[plain])
    near = nearest(plain, known, 0.5)
    guess = "; did you mean %s?" % known[near] if near else ""
    raise Failure(
        "there is no engine %s%s" % (name, guess),
        hint="Engines of this dsdeploy: %s." % ", ".join(sorted(engines)),
        error_kind="usage",
    )


def gpus_hidden(nvidia_smi: Dict[str, Any]) -> bool:
    """Whether a host has GPUs that cannot be used, by its fact `nvidia_smi`; the CPU must not serve without a word."""
    status = nvidia_smi["status"]
    if given_to_machines(nvidia_smi):
        return True
    none_here = status in ("not_installed", "no_devices") and not (nvidia_smi.get("pci_gpu_count") or 0)
    return status != "ok" and not none_here


def given_to_machines(nvidia_smi: Dict[str, Any]) -> int:
    """GPUs of a host that are bound to vfio-pci, where it has no others."""
    if nvidia_smi.get("gpus") or nvidia_smi.get("pci_gpu_count"):
        return 0
    return int(nvidia_smi.get("vfio_gpu_count") or 0)


def hidden_reason(nvidia_smi: Dict[str, Any]) -> str:
    """Why a host's GPUs cannot be used."""
    given = given_to_machines(nvidia_smi)
    return given_away(given) if given else str(nvidia_smi.get("reason"))


def gpu_problem(nvidia_smi: Dict[str, Any], expected: int, instead: str) -> Optional[Failure]:
    """What is wrong with the GPUs of a host that an engine is to use where there are any, or None.

    Told before anything else of the host: without them the engine would be planned for the CPU, and refused for that.

    :param nvidia_smi: the fact. `expected`: GPUs that the host is said to have, 0 for not known. `instead`: what serves
        from the CPU all the same.
    """
    if gpus_hidden(nvidia_smi):
        return Failure(
            "the GPUs of this host cannot be used: %s" % hidden_reason(nvidia_smi),
            hint="%s To serve from the CPU all the same, %s."
            % (GIVE_BACK if given_to_machines(nvidia_smi) else nvidia_smi.get("hint"), instead),
        )
    vfio = int(nvidia_smi.get("vfio_gpu_count") or 0)
    return missing_gpus(len(nvidia_smi.get("gpus") or []), expected, vfio=vfio)


def missing_gpus(found: int, expected: int, least: Optional[int] = None, vfio: int = 0) -> Optional[Failure]:
    """What is wrong with the number of GPUs of a host, or None.

    :param expected: GPUs that the host is said to have, 0 for not known.
    :param least: as many of them are enough for now, such as 1 before there is a driver, with which all are to be seen.
    :param vfio: further ones that it has, which are bound to vfio-pci.
    """
    if found >= (expected if least is None else min(least, expected)):
        return None
    return Failure(
        "this host has %s; %d are expected (nvidia_driver_expected_gpus)"
        % (
            ("%d NVIDIA GPU%s that can be used" % (found, "s" if found > 1 else "") if found else "no NVIDIA GPU")
            + (", and %s" % given_away(vfio) if vfio else ""),
            expected,
        ),
        hint=GIVE_BACK
        if vfio
        else "Look at `lspci -d 10de:`; in a virtual machine the GPUs must be passed through. Or correct the variable.",
    )
