#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: package_plan
short_description: Find one version that several packages all have
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Asks apt or dnf what versions of packages the repositories have, and picks one upstream version for all of them.
  - Fails when there is none, or when apt could not install them, with the reason in one line.
  - Nothing is changed. RV(install) is for M(ansible.builtin.apt) or M(ansible.builtin.dnf), RV(preferences) for a file
    in C(/etc/apt/preferences.d).
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
options:
  packages:
    description:
      - Packages that have to be of one version. V(a | b) means V(a), or V(b) where there is no V(a).
      - The first of them decides which version is the newest.
    type: list
    elements: str
    required: true
  prefix:
    description: Prefix of the role's variables, for messages that name one.
    type: str
    required: true
  others:
    description: Further packages to install, in any version.
    type: list
    elements: str
    default: []
  along:
    description: Names of packages that get the same version too if they are installed.
    type: list
    elements: str
    default: []
  branch:
    description: What the version has to begin with, such as V(550). Empty for any.
    type: str
    default: ""
  version:
    description:
      - The version, either upstream's such as V(550.90.12) or a whole one of a package.
      - Empty for the installed one if it is of the branch, else the newest of the branch.
    type: str
    default: ""
  pin_patterns:
    description: Names of packages, or shell patterns of them, that RV(preferences) is about.
    type: list
    elements: str
    default: []
  preferences_file:
    description: Where RV(preferences) will be written to. What is there now is not heeded.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Find a driver that the fabric manager matches
  dsdeploy.llm.package_plan:
    packages: [nvidia-headless-550-server, nvidia-fabricmanager-550]
    prefix: nvidia_driver
    branch: "550"
  register: plan
"""

RETURN = r"""
version:
  description: The upstream version that was found.
  type: str
  returned: success
  sample: 550.90.12
packages:
  description: The version of each package.
  type: dict
  returned: success
  sample: {nvidia-headless-550-server: 550.90.12-0ubuntu0.22.04.1}
install:
  description: What is still to be installed, as apt or dnf take it. Empty when all is there.
  type: list
  elements: str
  returned: success
  sample: [nvidia-headless-550-server=550.90.12-0ubuntu0.22.04.1]
preferences:
  description: Text of a file that pins the version for apt. Empty without O(pin_patterns) or with dnf.
  type: str
  returned: success
hint:
  description: What to do next.
  type: str
  returned: failure
"""

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import packages as package_plan
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.packages import Candidates

OWN_PREFERENCES = "package-plan.pref"


class Manager:
    """What apt and dnf have in common here."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module

    def run(self, *argv: str) -> tuple[int, str, str]:
        return self._module.run_command(list(argv), environ_update={"LC_ALL": "C"})

    def preferences(self, patterns: list[str], version: str) -> str:
        return ""

    def refusal(self, install: list[str], preferences: str) -> str:
        """Why these cannot be installed; empty when they can, or when it shows only later."""
        return ""


class Apt(Manager):
    def candidates(self, names: list[str]) -> Candidates:
        return package_plan.parse_madison(self.run("apt-cache", "madison", *names)[1])

    def installed(self, names: list[str]) -> dict[str, str]:
        return package_plan.parse_dpkg(self.run(*package_plan.DPKG_QUERY, *names)[1])

    def spec(self, name: str, version: str) -> str:
        return "%s=%s" % (name, version)

    def preferences(self, patterns: list[str], version: str) -> str:
        return package_plan.apt_pin(patterns, version) if patterns else ""

    def refusal(self, install: list[str], preferences: str) -> str:
        with tempfile.TemporaryDirectory(prefix="dsdeploy-") as directory:
            self._others(directory)
            with open(os.path.join(directory, OWN_PREFERENCES), "w", encoding="utf-8") as file:
                file.write(preferences)
            rc, out, err = self.run(
                "apt-get", "install", "--simulate", "--quiet", "--no-install-recommends", "--allow-downgrades",
                "--allow-change-held-packages", "--option=Dir::Etc::preferencesparts=" + directory, *install,
            )  # fmt: skip
        return package_plan.apt_reason(out + err) if rc else ""

    def _others(self, directory: str) -> None:
        """Link the host's other preferences into this directory; the new ones will replace those of their name."""
        parts = "/etc/apt/preferences.d"
        for name in os.listdir(parts) if os.path.isdir(parts) else []:
            if name != os.path.basename(self._module.params["preferences_file"]):
                os.symlink(os.path.join(parts, name), os.path.join(directory, name))


class Dnf(Manager):
    def candidates(self, names: list[str]) -> Candidates:
        return package_plan.parse_dnf_list(self.run("dnf", "--quiet", "list", "--showduplicates", *names)[1])

    def installed(self, names: list[str]) -> dict[str, str]:
        return package_plan.parse_rpm(self.run(*package_plan.RPM_QUERY, *names)[1])

    def spec(self, name: str, version: str) -> str:
        return "%s-%s" % (name, version)


def plan(manager: Manager, params: dict) -> dict:
    """What to return; raises Failure."""
    names = list(dict.fromkeys(package_plan.names_in(params["packages"]) + params["others"] + params["along"]))
    found, missing = package_plan.to_install(
        params["packages"],
        params["others"],
        params["along"],
        manager.candidates(names),
        manager.installed(names),
        params["prefix"],
        params["branch"],
        params["version"],
    )
    install = [manager.spec(name, version) if version else name for name, version in missing.items()]
    preferences = manager.preferences(params["pin_patterns"], found.version)
    refusal = manager.refusal(install, preferences) if install else ""
    if refusal:
        raise Failure("the packages cannot be installed: %s" % refusal, "Set another branch, version or source.")
    return {"version": found.version, "packages": found.packages, "install": install, "preferences": preferences}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "required": True},
            "prefix": {"type": "str", "required": True},
            "others": {"type": "list", "elements": "str", "default": []},
            "along": {"type": "list", "elements": "str", "default": []},
            "branch": {"type": "str", "default": ""},
            "version": {"type": "str", "default": ""},
            "pin_patterns": {"type": "list", "elements": "str", "default": []},
            "preferences_file": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    manager = Apt(module) if module.get_bin_path("apt-get") else Dnf(module)
    try:
        module.exit_json(changed=False, **plan(manager, module.params))
    except Failure as error:
        module.fail_json(**error.fields())


if __name__ == "__main__":
    main()
