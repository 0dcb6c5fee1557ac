#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_check
short_description: Check a GPU host, from its driver to the answers of what is deployed
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Makes the checks of C(dsdeploy doctor) in one process, and tells of each what was found, what was expected, why it
    matters and how to mend it.
  - It reads only. What cannot be read, for want of privileges or because a program does not answer in time, is
    V(unknown), and never a pass.
  - Nothing is written but the file in O(textfile).
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.supervisor
attributes:
  check_mode:
    support: full
    details:
      - The checks are made in check mode, too; O(textfile) is then not written.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  only:
    description: Ids of checks, groups of them, or beginnings of ids that end with C(*). All of them when empty.
    type: list
    elements: str
    default: []
  moment:
    description: Only the quick checks that V(up) or V(prepare) ends with.
    type: str
    choices: [up, prepare]
  deep:
    description:
      - Also make the checks that take minutes and load the GPUs and disks.
      - They are left out where an engine runs on the GPUs.
    type: bool
    default: false
  fail_on:
    description: What fails the task, a check that is V(fail), also one that is V(warn), or nothing (V(never)).
    type: str
    choices: [fail, warn, never]
    default: fail
  report_warnings:
    description: Whether to warn with a line for each check that warns or fails.
    type: bool
    default: false
  engine:
    description: Only look at the deployment of this engine.
    type: str
    default: ""
  expected_gpus:
    description: Number of GPUs that there must be. V(0) for as many as the PCI bus holds.
    type: int
    default: 0
  controller_time:
    description: The controller's time, in seconds since the epoch. The host's is not compared when it is missing.
    type: float
  gang:
    description:
      - A step before the checks between hosts that serve one model together, for all hosts of a play at once
        (strategy linear).
      - V(look) tells what this host has in RV(gang_look). Register it as C(_doctor_looked).
      - V(meet) lets each host of a gang listen and go to each of the others. Register it as C(_doctor_met).
      - Without these steps the checks of the group C(gang) are unknown for a host that is in one.
    type: str
    choices: [look, meet]
  others:
    description: What the action plugin has brought together of the other hosts, or asks of this one.
    type: dict
  paths:
    description: Directories on whose disks something is to be put, besides those of what is deployed.
    type: list
    elements: path
    default: []
  textfile:
    description:
      - Directory of the Prometheus node exporter's textfile collector.
      - The results are written into its file C(dsdeploy_doctor.prom), in one step, readable for everybody.
    type: path
  timeout:
    description: Seconds in which C(nvidia-smi) has to answer everything.
    type: int
    default: 30
  records:
    description: Directory of the deployment records.
    type: path
    default: /etc/dsdeploy/deployments
  sysfs:
    description: Where sysfs is mounted.
    type: path
    default: /sys
  procfs:
    description: Where procfs is mounted.
    type: path
    default: /proc
seealso:
  - module: dsdeploy.llm.nvidia_driver_check
  - module: dsdeploy.llm.deployment_facts
"""

EXAMPLES = r"""
- name: Ask the hosts that serve one model together
  dsdeploy.llm.host_check:
    gang: look
  register: _doctor_looked

- name: Let them meet
  dsdeploy.llm.host_check:
    gang: meet
  register: _doctor_met

- name: Is this host in order?
  dsdeploy.llm.host_check:

- name: Look at the GPUs alone, and go on whatever is found
  dsdeploy.llm.host_check:
    only: [gpu, driver_xid]
    fail_on: never
  register: found
"""

RETURN = r"""
status:
  description:
    - That of the host, the first that occurs of V(fail), V(warn), V(unknown), V(pass) and V(skip) among its checks.
  type: str
  returned: always
counts:
  description: Number of checks by their status.
  type: dict
  returned: always
  sample: {pass: 41, warn: 1, fail: 0, skip: 30, unknown: 2}
checks:
  description: A check each. C(docs/doctor.schema.json) is their schema.
  type: list
  elements: dict
  returned: always
  contains:
    id:
      description: Its name.
      type: str
      sample: gpu_row_remap
    group:
      description: The first word of its name.
      type: str
    status:
      description: V(pass), V(warn), V(fail), V(skip) where it does not apply, V(unknown) where it could not be read.
      type: str
    value:
      description: What was found, or why it was skipped or could not be read.
      type: str
    expected:
      description: What should have been found.
      type: str
    why:
      description: What goes wrong otherwise.
      type: str
    fix:
      description: A command, or what to do. Empty where nothing is wrong.
      type: str
    source:
      description: Where the rule or the threshold is from.
      type: str
gang_look:
  description: What this host tells the others of its gang; empty where it is in none.
  type: dict
  returned: with O(gang=look)
gang_met:
  description:
    - By host of the gang C(why), empty where it was reached, and C(wrong), what of it; or why they did not meet.
  type: raw
  returned: with O(gang=meet)
deep:
  description: Whether the checks that take minutes were made.
  type: bool
  returned: always
textfile:
  description: The file that was written.
  type: str
  returned: when O(textfile) is set
hint:
  description: What to do next.
  type: str
  returned: failure
"""

import os
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import check, look_gang, textfile
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.make import make
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

BEGAN = time.monotonic()  # s
FAILS = {"fail": ("fail",), "warn": ("fail", "warn"), "never": ()}


def publish(path: str, text: str) -> None:
    """Put a file for everybody in place of the old one, in one step; nobody else's link is followed."""
    handle, temporary = tempfile.mkstemp(prefix=".", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def write(module: AnsibleModule, found: dict[str, Any]) -> dict[str, Any]:
    """Write the metrics where they differ; what to return of it."""
    directory = module.params["textfile"]
    if not directory:
        return {}
    path = os.path.join(directory, textfile.NAME)
    try:
        smi = found["facts"]["gpus"]
    except check.Unknown:
        smi = None
    text = textfile.render(found, smi)
    try:
        # Nothing is waited for: whoever owns the directory may have put a pipe there.
        same = foreign.read_text(path) == text
    except (OSError, ValueError):
        same = False
    if not same and not module.check_mode:
        try:
            publish(path, text)
        except OSError as error:
            hint = "Give the directory of the node exporter's --collector.textfile.directory, and run it as root."
            raise Failure("%s cannot be written: %s" % (path, error.strerror), hint, "") from None
    return {"textfile": path, "changed": not same}


def step(name: str, asked: dict[str, Any], place: Place) -> dict[str, Any]:
    """A step before the checks between hosts."""
    if name == "look":
        names, here = asked.get("names") or {}, asked.get("here") or ""
        return {"gang_look": look_gang.tell(place, names, here, asked.get("interface") or "")}
    return {"gang_met": look_gang.meet_others(asked)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "only": {"type": "list", "elements": "str", "default": []},
            "moment": {"type": "str", "choices": ["up", "prepare"]},
            "deep": {"type": "bool", "default": False},
            "fail_on": {"type": "str", "choices": ["fail", "warn", "never"], "default": "fail"},
            "report_warnings": {"type": "bool", "default": False},
            "engine": {"type": "str", "default": ""},
            "expected_gpus": {"type": "int", "default": 0},
            "controller_time": {"type": "float"},
            "gang": {"type": "str", "choices": ["look", "meet"]},
            "others": {"type": "dict"},
            "paths": {"type": "list", "elements": "path", "default": []},
            "textfile": {"type": "path"},
            "timeout": {"type": "int", "default": 30},
            "records": {"type": "path", "default": places.RECORDS},
            "sysfs": {"type": "path", "default": "/sys"},
            "procfs": {"type": "path", "default": "/proc"},
            "supervisor_config": {"type": "path", "default": places.SUPERVISOR_CONFIG},
        },
        supports_check_mode=True,
    )
    p = module.params
    place = Place(
        sysfs=p["sysfs"],
        procfs=p["procfs"],
        timeout=p["timeout"],
        expected_gpus=p["expected_gpus"],
        controller_time=p["controller_time"],
        began=BEGAN,
        paths=tuple(p["paths"]),
        records=p["records"],
        supervisor_config=p["supervisor_config"],
        engine=p["engine"],
        others=p["others"] if not p["gang"] else None,
    )
    if p["gang"]:
        module.exit_json(changed=False, **step(p["gang"], p["others"] or {}, place))
    try:
        found = make(place, p["only"], p["moment"], p["deep"])
    except Failure as failure:
        module.fail_json(changed=False, **failure.fields())
    result = {key: found[key] for key in ("status", "counts", "checks")}
    result.update(changed=False, deep=p["deep"])
    try:
        result.update(write(module, found))
    except Failure as failure:
        module.fail_json(**dict(result, **failure.fields()))
    if p["report_warnings"]:
        for line in check.told(found["checks"]):
            module.warn(line)
    bad = [one for one in found["checks"] if one["status"] in FAILS[p["fail_on"]]]
    if bad:
        names = ", ".join(one["id"] for one in bad)
        msg = "%d of %d checks do not pass: %s" % (len(bad), len(found["checks"]), names)
        module.fail_json(msg=msg, hint="%s: %s" % (bad[0]["id"], bad[0]["fix"]), error_kind="", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
