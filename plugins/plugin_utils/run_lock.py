# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a host, for the actions that take it or give it back: who the run is, and a process that gives the lock
back for a run that does not do so itself."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import platform
import shlex
import shutil
import signal
import time
import warnings

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.lock import PATH, holder_of, parent_of, runs

display = Display()
LOOK_EVERY_S = 1.0  # whether the run still lives
# How often a run says on the host that it lives, and after how long without it is gone with its machine: longer than a
# lost connection is tried again.
BEAT_S, LEASE_S = 60.0, 900


def _user():
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def this_run():
    """The holder that the run is which the task belongs to: a task runs in a worker of the process that started it."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    ours = holder_of(os.getppid(), "%s@%s" % (_user(), platform.node()), since)
    ours["starter"] = parent_of(os.getppid())
    return ours


def _marker(task_vars):
    name = hashlib.sha256(task_vars["inventory_hostname"].encode()).hexdigest()[:16]
    return os.path.join(C.DEFAULT_LOCAL_TMP, "dsdeploy-lock-%s" % name)


class LockingAction(ActionBase):
    def release_when_the_run_ends(self, ours, task_vars):
        """The lock goes with its run, however that ends (Ctrl-C, kill -9), so that a colleague on another machine need
        not break it: from there it cannot be known whether the run lives. A process of its own, one a host, waits for
        that with this task's connection; `released` ends it. On this machine itself the next run sees it (is_dead)."""
        marker = _marker(task_vars)
        try:
            # Two plays of one run take the same lock.
            handle = os.fdopen(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")
            with warnings.catch_warnings():
                # Python 3.12 warns of threads; the worker has none that holds a lock of ours.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
        except FileExistsError:
            return
        except OSError:
            # Nobody will say that it lives.
            self._take(task_vars, {key: value for key, value in ours.items() if key != "lease_s"})
            return
        if child:
            os.waitpid(child, 0)
            handle.close()
            return
        try:
            # Neither the run's Ctrl-C nor its terminal concern it, and nobody waits for the end of its output.
            os.setsid()
            watcher = os.fork()
            if watcher:
                json.dump(holder_of(watcher, "", ""), handle)
                handle.flush()
            else:
                _let_go_of_terminals()
                display.verbosity = 0
                beaten = time.monotonic()
                while runs(ours):
                    time.sleep(LOOK_EVERY_S)
                    if time.monotonic() - beaten >= BEAT_S:
                        beaten = time.monotonic()
                        # A host that cannot be reached now may be at the next beat.
                        with contextlib.suppress(AnsibleError):
                            self._low_level_execute_command(beat(self.lock_options().get("path", PATH), ours))
                self._connection._shell.tmpdir = None  # the task's own is gone
                self._execute_module(
                    module_name="dsdeploy.llm.host_lock",
                    module_args={"state": "released", "holder": ours, **self.lock_options()},
                    task_vars=task_vars,
                )
                self.cleanup(force=True)
                # The run has removed it, and the module was packed in it again.
                shutil.rmtree(C.DEFAULT_LOCAL_TMP, ignore_errors=True)
        finally:
            os._exit(0)

    def _take(self, task_vars, holder):
        self._execute_module(
            module_name="dsdeploy.llm.host_lock",
            module_args={"holder": holder, **self.lock_options()},
            task_vars=task_vars,
        )

    def lock_options(self):
        """What of the task's options says which lock it is."""
        return {}

    def released(self, task_vars):
        """The lock was given back: nothing is left to do for the process that waits for the end of the run, which would
        ask the host once more."""
        marker = _marker(task_vars)
        with contextlib.suppress(OSError, ValueError):
            with open(marker, encoding="utf-8") as handle:
                watcher = json.load(handle)
            os.unlink(marker)
            if runs(watcher):
                os.kill(watcher["pid"], signal.SIGKILL)


def beat(path, holder):
    """The command that touches the lock, where this run still holds it."""
    held = '"started": %s' % json.dumps(holder["started"])
    return "grep -qF %s %s && touch -c %s" % (shlex.quote(held), shlex.quote(path), shlex.quote(path))


def _let_go_of_terminals():
    """Nothing of this process keeps a terminal or a pipe open that somebody reads to its end."""
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ["0", "1", "2"]:
        with contextlib.suppress(OSError):
            if int(name) <= 2 or os.isatty(int(name)):
                os.dup2(null, int(name))
