# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import getpass
import os
import platform
import time

from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.lock import holder_of, is_dead, same


def _user():
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # A task runs in a worker; the run is the process that started it.
        ours = holder_of(os.getppid(), "%s@%s" % (_user(), platform.node()), since)
        found = self._ask(task_vars, holder=ours)
        if found.get("holder") and not same(found["holder"], ours) and is_dead(found["holder"]):
            found = self._ask(task_vars, holder=ours, dead=found["holder"])
        result.update(found)
        holder = found.get("holder")
        if holder and not same(holder, ours):
            result.update(
                failed=True,
                msg="another run works on this host: %s, process %s, since %s"
                % (holder.get("who"), holder.get("pid"), holder.get("since")),
                hint="Wait until it has ended. If it is dead, run again with -e dsdeploy_break_lock=true.",
                error_kind="preflight",
            )
        return result

    def _ask(self, task_vars, **options):
        return self._execute_module(
            module_name="dsdeploy.llm.host_lock", module_args=dict(self._task.args, **options), task_vars=task_vars
        )
