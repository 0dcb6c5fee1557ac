#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module that takes some seconds, for the tests of the progress channel."""

from __future__ import annotations

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress


def main():
    module = AnsibleModule(
        argument_spec=dict(
            seconds=dict(type="float", default=3.0),
            mark=dict(type="path"),
            fail=dict(type="bool", default=False),
            secret=dict(type="str", no_log=True),
        ),
        supports_check_mode=True,
    )
    steps = 0 if module.check_mode else int(module.params["seconds"] * 10)
    with Progress("count", steps * 1000) as progress:
        for step in range(steps):
            progress.update(step * 1000)
            time.sleep(0.1)
    if module.params["mark"]:
        with open(module.params["mark"], "w") as file:
            file.write("done")
    if module.params["fail"]:
        module.fail_json(msg="asked to fail", hint="ask for less", error_kind="preflight")
    module.warn("a warning of the module")
    module.exit_json(changed=True, user=os.geteuid(), check=module.check_mode, umlaut="\u00fc\u6b66")


if __name__ == "__main__":
    main()
