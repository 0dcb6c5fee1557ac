# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines that are Python packages require of their host and their lock, before anything is installed. Pure."""

from __future__ import annotations

import re
from typing import Any, Dict, List

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.parameters import version_key


def locked_version(text: str, distribution: str) -> str:
    """The version at which a lock pins a package; "" where it does not."""
    pattern = r"^%s(?:\[[^\]]*\])?==([^\s;\\]+)" % re.escape(distribution)
    found = re.search(pattern, text, re.MULTILINE | re.IGNORECASE)
    return found.group(1) if found else ""


def requirements(about: Dict[str, Any]) -> List[Dict[str, Any]]:
    """What has to hold, as module preflight takes it: ``that``, ``msg``, ``hint``, and ``kind`` of a wrong variable.

    :param about: ``role``, ``name`` (of the engine), ``distribution``, ``version``; ``profile`` (cpu or cuda) and
        ``profile_set`` (what the user said); ``architecture``, ``nvidia_smi`` (of the host); ``lock`` (its path),
        ``lock_set`` (what the user said), ``lock_found`` (whether there is such a file), ``lock_text``; ``versions``
        (of the role's own locks for the profile); ``oldest`` (version without known ones), ``vulnerabilities``,
        ``allow_vulnerable``, ``safe_hint``; ``wheel_cuda`` (that the lock is built for) and ``cuda_hint``.
    """
    role, name, version, on_cpu = about["role"], about["name"], str(about["version"]), about["profile"] == "cpu"
    smi, own_lock = about["nvidia_smi"], bool(about["lock_set"])
    driver_cuda, wheel_cuda = str(smi.get("cuda_version") or ""), str(about["wheel_cuda"])
    locked = locked_version(about["lock_text"], about["distribution"])
    required = [
        {
            "that": on_cpu or bool(smi.get("gpus")),
            "msg": "%s_profile is cuda, but this host has no GPU" % role,
            "hint": "Set %s_profile to auto or cpu." % role,
        },
        {
            "that": about["architecture"] == "x86_64" or own_lock,
            "msg": "the locks of %s are for x86_64, this host is %s" % (name, about["architecture"]),
            "hint": "Make a lock for it and give it as %s_lock." % role,
        },
        {
            "that": version_key(version) >= version_key(about["oldest"]) or about["allow_vulnerable"],
            "msg": "%s %s has known vulnerabilities (%s), fixed in %s"
            % (name, version, about["vulnerabilities"], about["oldest"]),
            "hint": "%s %s_allow_vulnerable accepts that risk." % (about["safe_hint"], role),
            "kind": "usage",
        },
        {
            "that": on_cpu or not driver_cuda or version_key(wheel_cuda)[0] <= version_key(driver_cuda)[0],
            "msg": "%s %s is built for CUDA %s, the driver %s serves CUDA %s"
            % (name, version, wheel_cuda, smi.get("driver_version"), driver_cuda),
            "hint": about["cuda_hint"],
        },
    ]
    if not about["lock_found"] and own_lock:
        msg = "%s_lock: there is no file %s on the controller" % (role, about["lock"])
        hint = "Correct %s_lock, or leave it out for the role's own lock." % role
    elif not about["lock_found"]:
        msg = "there is no lock for %s %s with profile %s (%s)" % (name, version, about["profile"], about["lock"])
        hint = "Set %s_version to one of %s, or make a lock (README of role %s) and give it as %s_lock."
        hint %= (role, ", ".join(about["versions"]), role, role)
    elif not locked:
        msg = "%s does not pin %s" % (about["lock"], about["distribution"])
        hint = "Make the lock anew (README of role %s)." % role
    else:
        msg = "%s holds %s %s, %s_version is %s" % (about["lock"], name, locked, role, version)
        hint = "Set %s_version to %s, or give the lock of %s." % (role, locked, version)
    return required + [{"that": about["lock_found"] and locked == version, "msg": msg, "hint": hint, "kind": "usage"}]


def warnings(about: Dict[str, Any]) -> List[str]:
    """What is said, and refuses nothing; `about` as above, with ``hosts`` (that serve the model together)."""
    found = []
    if about["profile"] == "cpu" and about["nvidia_smi"].get("gpus"):
        found.append("this host has GPUs, but %s_profile is cpu; it is far slower" % about["role"])
    if version_key(about["version"]) < version_key(about["oldest"]) and about["allow_vulnerable"]:
        line = "%s %s has known vulnerabilities (%s) and is allowed by %s_allow_vulnerable; keep it on loopback"
        found.append(line % (about["name"], about["version"], about["vulnerabilities"], about["role"]))
    if int(about["hosts"]) > 1:
        line = "what the %d hosts tell each other is neither encrypted nor authenticated; keep it on %s"
        found.append(line % (int(about["hosts"]), "a network of their own"))
    return found
