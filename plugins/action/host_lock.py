# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import platform
import shutil
import time
import warnings

from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.lock import holder_of, is_dead, runs, same

display = Display()
LOOK_EVERY_S = 1.0  # whether the run still lives


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
                hint="Wait until it has ended: then the lock goes, also when it is killed. Only where its machine is"
                " gone, run again with -e dsdeploy_break_lock=true.",
                error_kind="preflight",
            )
        elif holder and self._connection.transport != "local":
            self._release_when_the_run_ends(ours, task_vars)
        return result

    def _release_when_the_run_ends(self, ours, task_vars):
        """The lock goes with its run, however that ends (Ctrl-C, kill -9), so that a colleague on another machine need
        not break it: from there it cannot be known whether the run lives. A process of its own, one a host, waits for
        that with this task's connection. On this machine itself the next run sees it (is_dead)."""
        name = hashlib.sha256(task_vars["inventory_hostname"].encode()).hexdigest()[:16]
        try:
            # Two plays of one run take the same lock.
            marker = os.path.join(C.DEFAULT_LOCAL_TMP, "dsdeploy-lock-%s" % name)
            os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with warnings.catch_warnings():
                # Python 3.12 warns of threads; the worker has none that holds a lock of ours.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
        except OSError:
            return
        if child:
            os.waitpid(child, 0)
            return
        try:
            # Neither the run's Ctrl-C nor its terminal concern it, and nobody waits for the end of its output.
            os.setsid()
            if os.fork() == 0:
                _let_go_of_terminals()
                while runs(ours):
                    time.sleep(LOOK_EVERY_S)
                display.verbosity = 0
                self._connection._shell.tmpdir = None  # the task's own is gone
                self._ask(task_vars, state="released", holder=ours)
                self.cleanup(force=True)
                # The run has removed it, and the module was packed in it again.
                shutil.rmtree(C.DEFAULT_LOCAL_TMP, ignore_errors=True)
        finally:
            os._exit(0)

    def _ask(self, task_vars, **options):
        return self._execute_module(
            module_name="dsdeploy.llm.host_lock", module_args=dict(self._task.args, **options), task_vars=task_vars
        )


def _let_go_of_terminals():
    """Nothing of this process keeps a terminal or a pipe open that somebody reads to its end."""
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ["0", "1", "2"]:
        with contextlib.suppress(OSError):
            if int(name) <= 2 or os.isatty(int(name)):
                os.dup2(null, int(name))
