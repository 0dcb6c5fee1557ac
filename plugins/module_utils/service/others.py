# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who stops for whom: the one rule for which deployments make room for another. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

CHOICES = ("gpu", "all", "none")


def making_room(
    deployments: Sequence[Dict[str, Any]], engine: str, device: str, stop_others: str
) -> List[Dict[str, Any]]:
    """Those of the deployments, the gateway left out, that are stopped before `engine` starts on `device`.

    :param deployments: records; of those with a `state` only what runs or starts.
    :param device: gpu or cpu, of the engine that is to start.
    :param stop_others: gpu: one engine at a time has the GPUs, those on the CPU run side by side; all; none.
    """
    if stop_others == "none" or (stop_others == "gpu" and device != "gpu"):
        return []
    return [
        other
        for other in deployments
        if other["engine"] != engine
        and other.get("api") != "gateway"
        and (stop_others == "all" or other.get("device") == "gpu")
        and ("state" not in other or (other["state"] and other["state"]["active"] in ("running", "starting")))
    ]


def reason(other: Dict[str, Any], engine: str, stop_others: str) -> str:
    """Why one is stopped, for a warning."""
    does = "holds the GPUs" if other.get("device") == "gpu" else "runs"
    return "%s is stopped first: it %s, and %s takes its place (dsdeploy_stop_others is %s)" % (
        other["engine"],
        does,
        engine,
        stop_others,
    )
