# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the facts that checks are made on off this host: one section at a time, and only those that are asked for.

A section that breaks is `{"problem": why}`; the checks that need it are then unknown.
"""

from __future__ import annotations

from typing import Any, Callable, Dict

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import (
    look_answers,
    look_deep,
    look_disks,
    look_engine,
    look_gang,
    look_gateway,
    look_gpu,
    look_network,
    look_system,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line

SECTIONS: Dict[str, Callable[[Place], Any]] = {
    "host": look_system.host,
    "files": look_system.files,
    "processes": look_system.processes,
    "clock": look_system.clock,
    "log": look_system.log,
    "packages": look_system.packages,
    "gpus": look_gpu.gpus,
    "pci": look_gpu.pci,
    "driver": look_gpu.driver,
    "cuda": look_gpu.cuda,
    "disks": look_disks.disks,
    "nvme": look_disks.nvme,
    "smart": look_disks.smart,
    "network": look_network.network,
    "infiniband": look_network.infiniband,
    "listeners": look_network.listeners,
    "deployments": look_engine.deployments,
    "replicas": look_gateway.replicas,
    "answers": look_answers.answers,
    "gang": look_gang.gang,
    "deep_context": look_deep.context,
    "deep_bandwidth": look_deep.bandwidth,
    "deep_disk": look_deep.disk,
}


def look(place: Place, section: str) -> Any:
    """One section. One that breaks is `{"problem": why}`, whatever breaks it."""
    try:
        return SECTIONS[section](place)
    except OSError as error:
        told = "%s: %s" % (error.filename, error.strerror) if error.filename else str(error)
    except Exception as error:  # what a host says may be anything; the other sections are read all the same
        told = "%s: %s" % (type(error).__name__, error)
    return {"problem": one_line(told, 200)}
