#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_watch
short_description: Look at a host and its deployments again and again
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Looks at the GPUs of a host and at what its deployments do, once in O(interval_s), and tells each look while it
    runs.
  - It is one process on the host, over one connection, for as long as it is wanted. It ends when its connection does.
  - The C(dsdeploy) command gets the looks through the socket that C(DSDEPLOY_WATCH_SOCKET) names; without it each is a
    line of output.
  - A host that cannot be reached is tried again until it can.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.supervisor
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: N/A
    details:
      - This action does not modify state; two looks differ.
options:
  interval_s:
    description: Time between two looks in seconds, from 0.5 to 3600.
    type: float
    default: 2
  duration_s:
    description:
      - How long to look, in seconds. V(0) is one look.
      - By default until it is stopped.
    type: float
  engine:
    description: Look at the deployment of this engine alone.
    type: str
  path:
    description: Directory of the deployment records.
    type: path
    default: /etc/dsdeploy/deployments
seealso:
  - module: dsdeploy.llm.deployment_facts
"""

EXAMPLES = r"""
- name: Watch all hosts for a minute
  dsdeploy.llm.host_watch:
    interval_s: 5
    duration_s: 60
"""

RETURN = r"""
look:
  description: The last look, in the shape of docs/status.schema.json.
  returned: always
  type: dict
"""

import json
import os
import select
import signal
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.look import Looker

# Before each look on stdout, whose reader is plugins/action/host_watch.py.
PREFIX = "DSDEPLOY_LOOK "
STDOUT = 1
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
# The longest run of this module in s; the action plugin starts it again. Where the network was cut without a word, a
# process that nobody hears ends by then.
LONGEST_S = 600.0


class HungUp(Exception):
    """Nobody reads any more."""


def _hung_up(_number: int, _frame: Any) -> None:
    raise HungUp()


def tell(look: Any) -> None:
    """One line on stdout. Raises HungUp."""
    left = (PREFIX + json.dumps(look) + "\n").encode("ascii")
    try:
        while left:
            left = left[os.write(STDOUT, left) :]
    except OSError:
        raise HungUp() from None


def pause(seconds: float) -> None:
    """Sleep. Raises HungUp as soon as nobody reads any more."""
    poll = select.poll()
    poll.register(STDOUT, 0)
    if poll.poll(max(0.0, seconds) * 1000.0):  # an error or the end of the other side; nothing else was asked for
        raise HungUp()


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            interval_s=dict(type="float", default=2),
            duration_s=dict(type="float"),
            engine=dict(type="str"),
            path=dict(type="path", default=places.RECORDS),
            supervisor_config=dict(type="path", default=places.SUPERVISOR_CONFIG),
        ),
        supports_check_mode=True,
    )
    params = module.params
    if not 0.5 <= params["interval_s"] <= 3600:
        module.fail_json(msg="interval_s: %s is not from 0.5 to 3600" % params["interval_s"], error_kind="usage")
    endless = params["duration_s"] is None
    duration = LONGEST_S if endless else min(params["duration_s"], LONGEST_S)
    for number in SIGNALS:
        signal.signal(number, _hung_up)
    looker = Looker(params["interval_s"], params["engine"], params["path"], params["supervisor_config"])
    look = None
    due = time.monotonic()
    end = due + duration
    try:
        looker.gpus_wait(2.0)
        while True:
            look = looker.take()
            tell(look)
            now = time.monotonic()
            due = max(due + params["interval_s"], now)  # a look that took long is not made up for
            if due <= end or endless:
                pause(due - now)
            if due > end:
                break
    except HungUp:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STDOUT)
        os.dup2(nowhere, 2)
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        looker.close()
    module.exit_json(changed=False, look=look)


if __name__ == "__main__":
    main()
