# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host of a gang tells the others, for the checks between them; section `gang` of look.py.

Who belongs together stands in the deployment's record, or else in the inventory, which the controller knows.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import look_gpu
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place
from ansible_collections.dsdeploy.llm.plugins.module_utils.gang import look as gang_look
from ansible_collections.dsdeploy.llm.plugins.module_utils.gang import meet
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import own_path, store
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import read_records
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.readiness import look as look_at


def record_of(place: Place) -> Optional[Dict[str, Any]]:
    """The record of what is served together with other hosts."""
    found = [one for one in read_records(place.records or places.RECORDS)[0] if one.get("gang")]
    return next((one for one in found if place.engine in ("", one["engine"])), None)


def gang(place: Place) -> Dict[str, Any]:
    """What the controller has brought together; else what this host alone knows of it: no `looks`."""
    if place.others is not None:
        return place.others
    record = record_of(place)
    if record is None:
        return {}
    hosts = record["gang"]["hosts"]
    return {"hosts": hosts, "here": hosts[record["gang"]["rank"]], "looks": None, "met": {}, "away": {}}


def tell(place: Place, inventory: Dict[str, str], here: str, interface: str) -> Dict[str, Any]:
    """What this host tells of itself; empty where it is in no gang.

    :param inventory: address or name by host of its gang, by rank, as the inventory has it; empty where it has none.
    :param here: this host's name there.
    """
    record = record_of(place)
    names = dict(inventory)
    if record:
        names = {host: inventory.get(host, host) for host in record["gang"]["hosts"]}
        names.update(record["gang"].get("addresses") or {})
        here = record["gang"]["hosts"][record["gang"]["rank"]]
    if len(names) < 2 or here not in names:
        return {}
    found = gang_look.look(names, here, interface)
    smi = look_gpu.gpus(place)
    told = dict(found, hosts=list(names), here=here, driver=smi.get("driver_version"), gpus=_gpus(smi))
    told.update(release=None, model=None, active=None)
    if record:
        told.update(release=_release(record), model=_model(record), active=_active(record, place))
    return told


def _gpus(smi: Dict[str, Any]) -> Optional[str]:
    """Such as `8 × NVIDIA H200`."""
    names: List[str] = [str(gpu.get("name")) for gpu in smi.get("gpus") or []]
    return "%d × %s" % (len(names), ", ".join(sorted(set(names)))) if names else None


def _release(record: Dict[str, Any]) -> str:
    """Engine, version, profile and the digest of its lock, as its environment is named."""
    name = os.path.basename(os.path.realpath(os.path.join(record.get("releases") or "", "current")))
    return "%s %s" % (record["engine"], name if record.get("releases") else record.get("version"))


def _model(record: Dict[str, Any]) -> Optional[str]:
    """The model's name, and what tells whether two hosts have the same files of it."""
    path = record.get("model_path")
    if not isinstance(path, str) or not path.startswith("/"):
        return None
    directory = path if os.path.isdir(path) else os.path.dirname(path)
    manifest = store.read_manifest(directory) or store.find_manifest(path)[1]
    try:
        said = own_path.digest(path, manifest)
    except OSError:
        return None
    return "%s, %s %s" % (record.get("model"), "sha256" if manifest else "sizes", said[:12])


def _active(record: Dict[str, Any], place: Place) -> Optional[str]:
    state = look_at(record, False, 1.0, place.supervisor_config or places.SUPERVISOR_CONFIG)["state"]
    return state["active"] if state else None


def meet_others(asked: Dict[str, Any]) -> Any:
    """Of each other host `{why, wrong}`, both empty where it was reached (gang/meet.py); or why none was tried.

    :param asked: `here`, `addresses` by host, `port`, `mark` and `timeout` (s).
    """
    meeting = meet.Meeting(asked["here"], asked["addresses"], asked["port"], asked["mark"])
    try:
        reached = meeting.hold(asked["timeout"])
    except OSError as error:
        own = "%s port %d" % (asked["addresses"][asked["here"]], asked["port"])
        return "%s cannot be taken: %s" % (own, error.strerror)
    return {peer: {"why": why, "wrong": meeting.wrong[peer]} for peer, why in reached.items()}
