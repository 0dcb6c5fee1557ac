# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the facts of checks are read: nothing waits for ever, nothing is written, what cannot be read says so.

Programs get TIMEOUT, files are read up to MOST bytes.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Dict, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import Answer, run
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import driver_gather

TIMEOUT = 15.0  # s, for each program
MOST = 1024 * 1024  # bytes of a file


class Place(NamedTuple):
    """Where and how to look. `sysfs` and `procfs` stand for /sys and /proc; `paths` are directories to look at."""

    sysfs: str = "/sys"
    procfs: str = "/proc"
    timeout: float = 30.0
    expected_gpus: int = 0
    controller_time: Optional[float] = None
    began: Optional[float] = None  # time.monotonic() of when this process began, to go with it
    paths: Tuple[str, ...] = ()
    records: str = ""
    supervisor_config: str = ""
    health: bool = True
    engine: str = ""
    known: Tuple[Dict[str, Any], ...] = ()  # deployments that were looked at already, as `readiness.look` does
    others: Optional[Dict[str, Any]] = None  # what the hosts of its gang told, as checks/gang.py has it

    def at(self, path: str) -> str:
        """Where a path below /sys or /proc is."""
        for root, place in (("/sys/", self.sysfs), ("/proc/", self.procfs)):
            if path.startswith(root):
                return os.path.join(place, path[len(root) :])
        return path


def read(path: str) -> Dict[str, Any]:
    """`{text}`, `{missing: true}` or `{problem: why}`. What is no plain file, such as a pipe, is not waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return {"missing": True}
    except OSError as error:
        return {"problem": error.strerror or "not readable"}
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return {"problem": "not a file"}
        return {"text": os.read(handle, MOST).decode("utf-8", "replace").replace("\0", " ")}
    except OSError as error:
        return {"problem": error.strerror or "not readable"}
    finally:
        os.close(handle)


def text(path: str) -> str:
    """The text of a file; empty where there is none, or it cannot be read."""
    return str(read(path).get("text", "")).strip()


def whole(path: str) -> Optional[int]:
    """The whole number in a file, or None."""
    found = text(path)
    return int(found, 0) if re.fullmatch(r"-?(\d{1,20}|0x[0-9a-fA-F]{1,16})", found) else None


def program(name: str) -> Optional[str]:
    return driver_gather.path(name)


def says(*argv: str, timeout: Optional[float] = None) -> Optional[Answer]:
    """What a program says within `timeout` (s; TIMEOUT by default); None where it is not there."""
    path = program(argv[0])
    return run([path, *argv[1:]], TIMEOUT if timeout is None else timeout) if path else None
