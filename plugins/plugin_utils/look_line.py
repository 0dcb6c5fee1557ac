# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A look (docs/status.schema.json) as one line for a person. Pure. What is not known is "?"."""

from __future__ import annotations

from typing import Any

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line


def known(value: float | None, digits: int = 0, unit: str = "") -> str:
    return "?" if value is None else f"{value:,.{digits}f}{unit}"


def state(deployment: dict[str, Any]) -> str:
    """What it does, in a word or two."""
    if deployment["stopped_on_purpose"]:
        return "stopped"
    if deployment["ready"]:
        return "ready"
    active = deployment["active"] or "unknown"
    return "not ready" if active == "running" else active


def gpus(found: list[dict[str, Any]] | None) -> str:
    """All GPUs in a few words: how many, the busiest, memory, the hottest, power. "" on a host without."""
    if found is None:
        return "GPUs ?"
    if not found:
        return ""

    def values(name: str) -> list[float]:
        return [gpu[name] for gpu in found if gpu[name] is not None]

    def total(name: str) -> float | None:
        return sum(values(name)) if len(values(name)) == len(found) else None

    used, whole = total("memory_mib"), total("memory_total_mib")
    busy = values("utilization")
    return (
        f"{len(found)} GPU{'s' if len(found) > 1 else ''} {known(sum(busy) / len(busy) if busy else None)}% "
        f"{known(None if used is None else used / 1024)}/{known(None if whole is None else whole / 1024)} GiB "
        f"{known(max(values('temperature_c'), default=None))}°C {known(total('power_w'))} W"
    )


def deployment(found: dict[str, Any]) -> str:
    parts = [f"{found['engine']} {found['version'] or '?'} {found['model'] or '?'}: {state(found)}"]
    if found["ready"]:
        parts.append(f"{known(found['running'])} running, {known(found['waiting'])} waiting")
        parts.append(f"{known(found['generated_s'], 1)} tokens/s")
        parts.append(f"KV {known(None if found['kv_use'] is None else 100 * found['kv_use'])}%")
    elif found["ready_detail"] and not found["stopped_on_purpose"]:
        parts.append(one_line(found["ready_detail"], 120))
    return ", ".join(parts)


def line(host: str, look: dict[str, Any]) -> str:
    said = [deployment(found) for found in look["deployments"]] or ["nothing is deployed"]
    cards = gpus(look["gpus"])
    return one_line(f"{look['at'][11:19]} {host}: {'; '.join(said)}{'; ' + cards if cards else ''}", 1000)
