# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and directories as they are to be: compared with what is there, changed where it differs, and told of."""

from __future__ import annotations

import os
import stat
from typing import Any, Callable, Dict, List, Optional, Set

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign, removing
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import fsync_directory, is_device, whole_or_not


class Desired:
    """Collects what was changed, or would be in check mode.

    :ivar changes: one line a change.
    :ivar diffs: as Ansible's `--diff` shows them; of a secret file the path only.
    """

    def __init__(
        self,
        check_mode: bool = False,
        made: Callable[[str], None] = lambda path: None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """
        :param made: told the path of each directory that is made, the parents first.
        :param before: called before each change that is made; what it raises leaves that one out.
        """
        self.check_mode = check_mode
        self._tell, self._before = made, before
        self.changes: List[str] = []
        self.diffs: List[Dict[str, Any]] = []
        self._made: Set[str] = set()  # in check mode they are not there when they are asked for again

    def change(self, what: str, act: Optional[Callable[[], Any]] = None, **diff: Any) -> None:
        """Note one change, and make it outside check mode."""
        if act and not self.check_mode:
            self._before()
        self.changes.append(what)
        if diff:
            self.diffs.append(diff)
        if act and not self.check_mode:
            act()

    def file(
        self,
        path: str,
        text: str,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        secret: bool = False,
        what: str = "",
        quiet: bool = False,
    ) -> bool:
        """A file with this text; whether it was changed. It is replaced by a rename, never seen half written.

        :param secret: its text is for nobody's eyes. `quiet`: nor is it worth showing.
        """
        wanted = text.encode("utf-8")
        state, found = _look(path)
        if state is not None and stat.S_ISDIR(state.st_mode):
            raise Failure("%s is a directory, where a file should be" % path, hint="Move it away, and run again.")
        _require_no_device(path, state)
        if state is not None and not stat.S_ISREG(state.st_mode):
            found = None  # a link is no file of ours: replaced, never followed
        same = state is not None and found == wanted
        if same and (stat.S_IMODE(state.st_mode), state.st_uid, state.st_gid) == (mode, uid, gid):
            return False
        if secret or quiet or (found is None and state is not None):
            diff = {"prepared": "%s: %s\n" % (path, "changed, not shown" if secret or quiet else "replaced")}
        else:
            before = (found or b"").decode("utf-8", "replace")
            diff = {"before_header": path, "after_header": path, "before": before, "after": text}
        if same:
            diff = {
                "before_header": path,
                "after_header": path,
                "before": _rights(state.st_mode, state.st_uid, state.st_gid),
            }
            diff["after"] = _rights(mode, uid, gid)

        def write() -> None:
            temporary = path + ".new"
            if os.path.lexists(temporary):
                os.unlink(temporary)  # of a run that was cut
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with whole_or_not(temporary), open(descriptor, "wb") as handle:
                handle.write(wanted)
                handle.flush()
                os.fchown(handle.fileno(), uid, gid)
                os.fchmod(handle.fileno(), mode)
                os.fsync(handle.fileno())
            os.replace(temporary, path)
            fsync_directory(os.path.dirname(path))

        self.change("%s %s" % ("write" if state is None else "change", what or path), write, **diff)
        return True

    def directory(self, path: str, mode: int, uid: int = 0, gid: int = 0, keep_mode: bool = False) -> bool:
        """A directory; parents that are missing are root's, 0755. Whether the directory itself was made.

        :param keep_mode: leave one that is there as it is.
        """
        try:
            state: Optional[os.stat_result] = os.stat(path)
        except FileNotFoundError:
            state = None
        if state is None and path in self._made:
            return False
        if state is None:
            self._made.add(path)
            self.change(
                "make directory " + path, lambda: _make(path, mode, uid, gid, self._tell), prepared="%s: made\n" % path
            )
            return True
        found, wanted = (stat.S_IMODE(state.st_mode), state.st_uid, state.st_gid), (mode, uid, gid)
        if found != wanted and not keep_mode:

            def mend() -> None:
                os.chown(path, uid, gid)
                os.chmod(path, mode)

            self.change(
                "change rights of " + path,
                mend,
                before_header=path,
                after_header=path,
                before=_rights(*found),
                after=_rights(*wanted),
            )
        return False

    def absent(self, path: str) -> bool:
        """No file, link or tree of that path, but a mount point that is empty or a device; whether there was one."""
        if not os.path.lexists(path) or removing.is_empty_mount(path) or is_device(os.lstat(path)):
            return False
        self.change("remove " + path, lambda: removing.remove(path), prepared="%s: removed\n" % path)
        return True


def _look(path: str) -> Any:
    try:
        state = os.lstat(path)
        if not stat.S_ISREG(state.st_mode):
            return state, None
        with open(path, "rb") as handle:
            # More than any file of ours: one that was blown up differs by what is read of it.
            return state, handle.read(foreign.MOST_BYTES)
    except FileNotFoundError:
        return None, None


def _require_no_device(path: str, state: Optional[os.stat_result]) -> None:
    """Failure for what a rename must not replace: /dev/null is everybody's, and a link to it says "do not start"."""
    if state is None:
        return
    if stat.S_ISLNK(state.st_mode) and os.readlink(path) == os.devnull:
        raise Failure(
            "%s is masked (a link to %s): somebody wants it not to be started" % (path, os.devnull),
            hint="systemctl unmask %s, where that is not wanted any more." % os.path.basename(path),
        )
    if is_device(state):
        raise Failure("%s is a device, where a file should be" % path, hint="Name another file.")


def _rights(mode: int, uid: int, gid: int) -> str:
    return "mode %04o, uid %d, gid %d\n" % (stat.S_IMODE(mode), uid, gid)


def _make(path: str, mode: int, uid: int, gid: int, tell: Callable[[str], None]) -> None:
    # A link that leads nowhere is somebody's wish: what it names is made.
    path = os.path.realpath(path)
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make(parent, 0o755, 0, 0, tell)
    os.mkdir(path, 0o700)
    os.chown(path, uid, gid)
    os.chmod(path, mode)  # whatever the umask is
    tell(path)
