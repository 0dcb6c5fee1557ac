"""The stages of a run that a person knows, and which of them a task belongs to: pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

# Also the tags by which `up` is asked for a part of its way, in its order.
STAGES = ("prepare", "preflight", "model", "install", "configure", "service", "verify")

_PREPARING = frozenset(("nvidia_driver", "nvidia_repository", "cuda_toolkit", "gpu_monitor"))
# Task files that are named otherwise than the stage they are part of.
_ROOMS = {
    "fetch": "model",
    "switch": "configure",
    "serve": "service",
    "among": "service",
    "compiled": "service",
    "ask": "verify",
    "bench": "verify",
}
# What every run begins with. It is shown as preflight, but a run that does no more has not gone through preflight.
_BEGINNING = frozenset(("variables", "lock", "plan", "facts", "resolve", "known"))
# What any stage can ask for, and belongs to the one that did.
_ANYWHERE = frozenset(("unlock", "leave", "packages"))


def stage_of(data: Mapping[str, Any]) -> tuple[str, bool]:
    """(stage, whether the task is part of it proper) of a task in an event of ansible-runner; ("", False) for a task
    that goes with the stage before it.

    Events carry no tags. The stage is told by what the user can rely on as well: the role, the name of its task file
    up to an underscore (`install_wheel`), and the words that the task's own name begins with (`Install | …`).
    """
    role = str(data.get("role") or "").rpartition(".")[2]
    if role in _PREPARING or data.get("play") == "Prepare the host":
        return "prepare", True
    if not role:
        return "", False
    if _word(_file(data)) in _ANYWHERE:
        return "", False
    rooms = [_word(_file(data)), _word(str(data.get("task") or "").partition(" | ")[0])]
    for room in rooms:
        if room in STAGES:
            return room, True
    for room in rooms:
        if room in _ROOMS:
            return _ROOMS[room], True
    if role in STAGES and rooms[0] not in _BEGINNING:
        return role, True
    if any(room in _BEGINNING for room in rooms):
        return "preflight", False
    return "", False


def _file(data: Mapping[str, Any]) -> str:
    """Name of the task file, "" for handlers and for what stands in no role."""
    path = PurePath(str(data.get("task_path") or "").rpartition(":")[0])
    return path.stem if "tasks" in path.parts else ""


def _word(text: str) -> str:
    return text.strip().lower().lstrip("_").partition("_")[0]
