# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine has compiled at its starts, carried from one host to another that is its like.

The directory is the service's own: it is read and written by a process of the service's user, so that no link in it
leads root astray. GNU tar keeps the times of files to the nanosecond, by which ninja (FlashInfer) tells what is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import subprocess
from typing import Callable, Dict, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import sha256_of

FROM = ".dsdeploy-from"  # in a directory that was carried over: what it was made for


def processor(cpuinfo: str) -> str:
    """What code for this processor is compiled for: its model and its flags (/proc/cpuinfo)."""
    found = {}
    for name in ("model name", "flags", "CPU part", "Features"):
        line = re.search(r"^%s\s*: (.*)$" % name, cpuinfo, re.M)
        found[name] = " ".join(sorted(line.group(1).split())) if line else ""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode("utf-8")).hexdigest()[:16]


def key(path: str, about: Dict[str, str], cpuinfo: str) -> str:
    """What two hosts must have alike. `about`: release (with the digest of its lock), GPUs, driver, architecture."""
    return json.dumps(dict(about, path=path, processor=processor(cpuinfo)), sort_keys=True)


def count(path: str) -> Tuple[int, int]:
    """Files below a directory, but for the note of where it is from, and their bytes; none where it is not there."""
    files = size = 0
    for directory, _names, names in os.walk(path):
        for name in names:
            if name != FROM:
                files += 1
                size += os.lstat(os.path.join(directory, name)).st_size
    return files, size


def _as_user(user: str) -> Callable[[], None]:
    """What makes a child process the user's own."""
    found = pwd.getpwnam(user)
    groups = os.getgrouplist(user, found.pw_gid)

    def become() -> None:
        if os.geteuid() != found.pw_uid:
            os.setgroups(groups)
            os.setgid(found.pw_gid)
            os.setuid(found.pw_uid)

    return become


def _run(user: str, *command: str, **streams: int) -> None:
    """A program as the user. Failure with its last line."""
    become, environment = _as_user(user), {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, preexec_fn=become, stderr=subprocess.PIPE, cwd="/", env=environment, **streams, check=False
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Failure("%s: %s" % (command[0], said[-1] if said else "it ended with %d" % done.returncode))


def pack(path: str, archive: str, user: str) -> str:
    """Writes all of the directory into an archive that everybody may read; its sha256."""
    with open(archive + ".new", "wb") as handle:
        out = handle.fileno()
        _run(user, "tar", "--format=posix", "-C", path, "--exclude=./" + FROM, "-cf", "-", ".", stdout=out)
    os.chmod(archive + ".new", 0o644)
    os.replace(archive + ".new", archive)
    return str(sha256_of(archive))


def is_free(path: str) -> bool:
    """Whether nothing is there that would be lost: the host's own, or newer."""
    return not os.path.lexists(path) or (os.path.isdir(path) and not os.listdir(path))


def has_come(path: str) -> bool:
    """Whether what is there came from another host."""
    return os.path.lexists(os.path.join(path, FROM))


def unpack(archive: str, checksum: str, path: str, user: str, wanted: str) -> bool:
    """Puts what is in an archive in the place of a directory that is missing or empty; whether it did.

    :param wanted: of `key`, noted beside it.
    """
    if not is_free(path):
        return False
    if sha256_of(archive) != checksum:
        raise Failure("%s is not what was packed (sha256)" % archive)
    new = path + ".new"
    _run(user, "rm", "-rf", new)
    _run(user, "mkdir", "-p", new)
    try:
        with open(archive, "rb") as handle:
            _run(user, "tar", "-C", new, "-xpf", "-", stdin=handle.fileno())
        _run(user, "sh", "-c", 'printf "%s\\n" "$1" >"$0"', os.path.join(new, FROM), wanted)
        # rename(2): over an empty one, and over no other.
        _run(user, "mv", "-T", new, path)
    except Failure:
        _run(user, "rm", "-rf", new)
        raise
    return True


def forget(path: str, user: str) -> bool:
    """Takes away what came from another host; whether there was something. What was made here stays."""
    if not has_come(path):
        return False
    _run(user, "rm", "-rf", path)
    return True
