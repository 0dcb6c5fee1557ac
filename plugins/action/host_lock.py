# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.lock import is_dead, is_ending, same
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.run_lock import LEASE_S, LockingAction, this_run

ENDS_WITHIN_S = 20.0  # a run whose command was killed ends its tasks and its connections first
END_IT = "It is a run of this machine, which `kill -INT %s` ends. "


def wait_for_its_end(holder):
    """A run whose command was killed ends by itself: the next one need not be started twice."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while is_ending(holder) and not is_dead(holder) and time.monotonic() < deadline:
        time.sleep(0.2)


class ActionModule(LockingAction):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        ours = this_run()
        # On this machine itself the next run sees whether it lives.
        if self._connection.transport != "local":
            ours["lease_s"] = LEASE_S
        found = self._ask(task_vars, holder=ours)
        if found.get("holder") and not same(found["holder"], ours):
            wait_for_its_end(found["holder"])
        if found.get("holder") and not same(found["holder"], ours) and is_dead(found["holder"]):
            found = self._ask(task_vars, holder=ours, dead=found["holder"])
        result.update(found)
        holder = found.get("holder")
        if holder and not same(holder, ours):
            result.update(
                failed=True,
                msg="another run works on this host: %s, process %s, since %s"
                % (holder.get("who"), holder.get("pid"), holder.get("since")),
                hint=(END_IT % holder.get("pid") if holder.get("machine") == ours["machine"] else "")
                + "Wait until it has ended: then the lock goes, also when it is killed; where its machine is gone,"
                " after %d minutes, or at once with -e dsdeploy_break_lock=true." % (LEASE_S // 60),
                error_kind="preflight",
            )
        elif self._connection.transport == "local":
            pass
        elif holder:
            self.release_when_the_run_ends(ours, task_vars)
        elif not found.get("failed") and self._task.args.get("state") == "released":
            self.released(task_vars)
        return result

    def lock_options(self):
        return {"path": self._task.args["path"]} if "path" in self._task.args else {}

    def _ask(self, task_vars, **options):
        """What the module says; with `facts` it is module host_facts that takes the lock, in the same process."""
        args = dict(self._task.args)
        facts = boolean(args.pop("facts", False), strict=False)
        options = dict(args, **options)
        if facts:
            options.pop("state", None)
            return self._execute_module(
                module_name="dsdeploy.llm.host_facts", module_args={"lock": options}, task_vars=task_vars
            )
        return self._execute_module(module_name="dsdeploy.llm.host_lock", module_args=options, task_vars=task_vars)
