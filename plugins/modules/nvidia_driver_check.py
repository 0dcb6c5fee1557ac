#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_check
short_description: Judge NVIDIA's driver on a host by its facts
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Fails with all that is wrong in one message, each part by a name and with what to do about it.
  - Looks at nothing but the facts it is given, and changes nothing.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
options:
  stage:
    description:
      - V(install) asks whether a driver can be installed, and with which kernel modules.
      - V(use) asks whether the driver that is there can be used.
    type: str
    required: true
    choices: [install, use]
  driver:
    description: C(ansible_facts.nvidia_driver) of M(dsdeploy.llm.nvidia_driver_facts).
    type: dict
    default: {}
  nvidia_smi:
    description: C(ansible_facts.nvidia_smi) of M(dsdeploy.llm.nvidia_smi_facts). Needed for O(stage=use).
    type: dict
    default: {}
  expected_gpus:
    description: Number of GPUs that there must be. V(0) for as many as the PCI bus holds.
    type: int
    default: 0
  kernel_modules:
    description: Kernel modules asked for.
    type: str
    choices: [auto, open, proprietary]
    default: auto
  kernel_modules_available:
    description: Kernel modules that the source has, the preferred ones first.
    type: list
    elements: str
    default: [open, proprietary]
  kernel_min:
    description: Oldest kernel that the driver is installed for.
    type: str
    default: "5.0"
seealso:
  - module: dsdeploy.llm.nvidia_driver_facts
"""

EXAMPLES = r"""
- name: Check that all GPUs can be used
  dsdeploy.llm.nvidia_driver_check:
    stage: use
    driver: "{{ ansible_facts.nvidia_driver }}"
    nvidia_smi: "{{ ansible_facts.nvidia_smi }}"
    expected_gpus: 8
"""

RETURN = r"""
kernel_modules:
  description: Kernel modules to install, V(open) or V(proprietary).
  type: str
  returned: for O(stage=install)
problems:
  description: All that is wrong, each with C(name), C(msg) and C(hint).
  type: list
  elements: dict
  returned: always
hint:
  description: What to do next.
  type: str
  returned: failure
error_kind:
  description: V(preflight) or V(verify), by O(stage).
  type: str
  returned: failure
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import devices as nvidia_gpus
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import driver as nvidia_driver
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.driver import Problem

KINDS = {"install": "preflight", "use": "verify"}


def judge_install(params: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Whether a driver can be installed: what else to return, and the problems."""
    driver = params["driver"]
    problems = nvidia_driver.install_problems(driver, params["kernel_min"])
    generations = [gpu["generation"] for gpu in driver["gpus"]]
    try:
        modules = nvidia_gpus.kernel_modules(generations, params["kernel_modules"], params["kernel_modules_available"])
    except Failure as error:
        return {}, problems + [Problem("kernel_modules", str(error), error.hint)]
    return {"kernel_modules": modules}, problems


def judge(params: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """What to return besides the problems, and the problems."""
    if params["stage"] == "install":
        return judge_install(params)
    mixed = nvidia_driver.mix_problems(params["driver"])
    return {}, mixed + nvidia_driver.gpu_problems(params["driver"], params["nvidia_smi"], params["expected_gpus"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "stage": {"type": "str", "required": True, "choices": ["install", "use"]},
            "driver": {"type": "dict", "default": {}},
            "nvidia_smi": {"type": "dict", "default": {}},
            "expected_gpus": {"type": "int", "default": 0},
            "kernel_modules": {"type": "str", "choices": ["auto", "open", "proprietary"], "default": "auto"},
            "kernel_modules_available": {"type": "list", "elements": "str", "default": ["open", "proprietary"]},
            "kernel_min": {"type": "str", "default": "5.0"},
        },
        supports_check_mode=True,
    )
    result, problems = judge(module.params)
    result.update(changed=False, problems=[problem._asdict() for problem in problems])
    if problems:
        module.fail_json(
            msg="; ".join(problem.msg for problem in problems),
            hint=" ".join(dict.fromkeys(problem.hint for problem in problems if problem.hint)),
            error_kind=KINDS[module.params["stage"]],
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
