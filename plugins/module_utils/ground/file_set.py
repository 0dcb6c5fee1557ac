# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One small file: as it is, as it is to be, and the way from one to the other."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import tempfile
from typing import Any, Dict, NamedTuple, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import fsync_directory, make_directory


class File(NamedTuple):
    """A file as it is to be. `mode` is a number, `secret` whether its content may be shown nowhere."""

    path: str
    content: bytes
    owner: str
    group: str
    mode: int
    secret: bool

    @classmethod
    def of(cls, wanted: Dict[str, Any]) -> File:
        """From the options of module `file_set`. Raises Failure."""
        if not wanted["path"].startswith("/"):
            raise Failure("file_set: '%s' is not an absolute path" % wanted["path"], error_kind="usage")
        try:
            mode = int(wanted["mode"], 8)
        except ValueError:
            raise Failure("file_set: '%s' is no octal mode" % wanted["mode"], error_kind="usage") from None
        secret = wanted.get("secret") is not None
        text = wanted["secret"] if secret else wanted["content"]
        return cls(wanted["path"], text.encode(), wanted["owner"], wanted["group"], mode, secret)


class Change(NamedTuple):
    """What is, or would be, done to a file. `before` is None where none was there, or where it is a secret."""

    path: str
    before: Optional[bytes]
    after: Optional[bytes]
    before_owner: str
    after_owner: str

    def diff(self) -> Dict[str, str]:
        """For Ansible's `--diff`; of a secret, and where the contents agree, the owner and the mode alone."""
        if self.before == self.after:
            before, after = self.before_owner + "\n", self.after_owner + "\n"
        else:
            before = (self.before or b"").decode("utf-8", "replace")
            after = (self.after or b"").decode("utf-8", "replace")
        return {"before_header": self.path, "after_header": self.path, "before": before, "after": after}


def _look(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _owner(uid: int, gid: int, mode: int) -> str:
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return "%s:%s %04o" % (user, group, mode)


def apply(wanted: File, check: bool) -> Optional[Change]:
    """Make the file what it is to be, or with `check` only tell; None where it is so already. Raises Failure.

    A link is replaced by a file: what it leads to is not ours. An owner that is still to be made is no failure with
    `check`.
    """
    try:
        return _apply(wanted, check)
    except OSError as error:
        raise Failure(
            "%s cannot be written: %s" % (wanted.path, error.strerror), "Is the file system full, or read-only?"
        ) from None


def _apply(wanted: File, check: bool) -> Optional[Change]:
    found = _look(wanted.path)
    if found and stat.S_ISDIR(found.st_mode):
        raise Failure("%s is a directory, and is to be a file" % wanted.path, "Move it away.")
    after = _wanted_owner(wanted, check)
    content = None
    if found and stat.S_ISREG(found.st_mode):
        with open(wanted.path, "rb") as handle:
            content = handle.read()
    before = _owner(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) if found else "absent"
    if content == wanted.content and before == after:
        return None
    if not check:
        if content == wanted.content:
            _own(wanted.path, wanted)
        else:
            _write(wanted)
    if wanted.secret:
        differs = content != wanted.content
        return Change(wanted.path, None, None, before, after + (" (the content is not shown)" if differs else ""))
    return Change(wanted.path, content, wanted.content, before, after)


def _wanted_owner(wanted: File, check: bool) -> str:
    for kind, name, lookup in (("user", wanted.owner, pwd.getpwnam), ("group", wanted.group, grp.getgrnam)):
        try:
            lookup(name)
        except KeyError:
            if not check:
                raise Failure("%s: this host has no %s %s" % (wanted.path, kind, name)) from None
    return "%s:%s %04o" % (wanted.owner, wanted.group, wanted.mode)


def _own(path: str, wanted: File) -> None:
    os.chown(path, pwd.getpwnam(wanted.owner).pw_uid, grp.getgrnam(wanted.group).gr_gid)
    os.chmod(path, wanted.mode)


def _write(wanted: File) -> None:
    directory = os.path.dirname(wanted.path)
    make_directory(directory)
    # Of root alone until it has its owner and mode.
    handle, temporary = tempfile.mkstemp(prefix=".dsdeploy-", dir=directory)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(wanted.content)
            out.flush()
            os.fsync(out.fileno())
        _own(temporary, wanted)
        os.replace(temporary, wanted.path)
    except BaseException:
        os.unlink(temporary)
        raise
    fsync_directory(directory)
