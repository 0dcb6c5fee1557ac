# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A finished build on disk: `<prefix>/bin/...` and a stamp that is written last and says what it is a build of.

All work is done beside the prefix, on its file system, and put in place by a rename:

    <prefix>.work   source and build tree
    <prefix>.new    the programs, before the rename
    <prefix>.old    what stood there before
    <prefix>.lock   held by the one process that works on this prefix, and by the compilers it has started

Whatever kills that process, the next one finds leftovers by their names and removes them.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import json
import lzma
import os
import tarfile
import time
import zlib
from typing import Callable, Dict, Iterator, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import cmake
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign, process, removing
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import (
    CHUNK,
    fsync_directory,
    make_directory,
    sha256_of,
    write_durably,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.locked import open_lock

STAMP = ".dsdeploy-build.json"
START_TIMEOUT = 120  # s; the first start of a CUDA program may have to wake the GPU
LOCK_TIMEOUT = 3600  # s; the longest build that another run is waited for


def read_stamp(prefix: str) -> Optional[Dict]:
    """The stamp of a finished build, or None when there is none, or a program of it is missing or was cut.

    :returns: `{identity, cmake_args: [str], programs: {name: bytes}}`.
    """
    try:
        found = foreign.read(os.path.join(prefix, STAMP))
        found.text("identity", pattern=".+")
        found.texts("cmake_args", most=100000)
        programs = found.mapping("programs").value
        for name, size in programs.items():
            path = os.path.join(prefix, "bin", name)
            if os.path.getsize(path) != size or not os.access(path, os.X_OK):
                return None
        return found.value if programs else None
    except (OSError, ValueError, Failure):
        return None


def open_to_all(prefix: str, check: bool = False) -> bool:
    """Give a finished build back to every user, which an older release has made under a strict umask.

    :param check: only look.
    :returns: whether something had to be given back.
    """
    paths = [prefix, os.path.join(prefix, "bin")]
    closed = [path for path in paths if os.stat(path).st_mode & 0o755 != 0o755]
    if not check:
        for path in closed:
            os.chmod(path, 0o755)
    return bool(closed)


def is_finished(prefix: str, identity: str) -> bool:
    """Whether the build with this identity is there."""
    stamp = read_stamp(prefix)
    return stamp is not None and stamp["identity"] == identity


def remove(path: str) -> None:
    """Remove a file or a tree, if it is there."""
    removing.remove(path)


@contextlib.contextmanager
def locked(prefix: str, waiting: Callable[[], None], timeout: float = LOCK_TIMEOUT) -> Iterator[int]:
    """Be the only one that works on `prefix`; waits for another. Yields the lock's file descriptor.

    Handed to children (`pass_fds`), the lock outlives a killed process until the last of them is gone too.

    :param waiting: called once a second.
    """
    path = prefix + ".lock"
    deadline = time.monotonic() + timeout
    make_directory(os.path.dirname(path))
    while True:
        handle = open_lock(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one before us removes the file before it lets go: then the lock we got is nobody's any more.
            if os.path.exists(path) and os.path.samestat(os.fstat(handle), os.stat(path)):
                break
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(handle)
                raise Failure(
                    "another run has been working on %s for %d s" % (prefix, timeout),
                    "Look for its ninja process on this host; end it, or wait for it.",
                ) from None
            waiting()
            time.sleep(1)
        os.close(handle)
    try:
        yield handle
    finally:
        os.unlink(path)
        os.close(handle)


def clean(prefix: str) -> None:
    """Remove what a killed run has left; a build that lacked only its rename is put in place."""
    if not os.path.lexists(prefix) and read_stamp(prefix + ".new"):
        os.rename(prefix + ".new", prefix)
    for leftover in (".work", ".new", ".old"):
        remove(prefix + leftover)


def start(prefix: str, command: List[str]) -> str:
    """Run a program of the build (`[name, argument ...]`) and return what it prints.

    :raises Failure: it does not run.
    """
    answer = process.run([os.path.join(prefix, "bin", command[0])] + command[1:], START_TIMEOUT)
    said = (answer.stdout + answer.stderr).strip()
    if answer.rc == 0:
        return said
    ended = "not finished after %d s" % START_TIMEOUT
    if not answer.timed_out:
        ended = "not started" if answer.rc is None else cmake.how_it_ended(answer.rc)
    lines = said.splitlines()
    raise Failure(
        "%s does not run (%s)%s" % (" ".join(command), ended, ": " + lines[0] if lines else ""),
        cmake.start_hint(answer.rc, said),
        log_tail=lines[-cmake.TAIL_LINES :],
    )


def publish(prefix: str, identity: str, cmake_args: List[str]) -> None:
    """Stamp `<prefix>.new` and put it in the place of what is there."""
    new, old = prefix + ".new", prefix + ".old"
    programs = {}
    for name in sorted(os.listdir(os.path.join(new, "bin"))):
        path = os.path.join(new, "bin", name)
        os.chmod(path, 0o755)
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
        programs[name] = os.path.getsize(path)
    stamp = {"identity": identity, "cmake_args": cmake_args, "programs": programs}
    write_durably(os.path.join(new, STAMP), json.dumps(stamp, indent=1, sort_keys=True) + "\n")
    os.chmod(os.path.join(new, STAMP), 0o644)
    for path in (new, os.path.join(new, "bin")):
        os.chmod(path, 0o755)
    if os.path.lexists(prefix):
        os.rename(prefix, old)
    os.rename(new, prefix)
    fsync_directory(os.path.dirname(prefix))
    remove(old)


# --- archives -------------------------------------------------------------------------------------


def check_sha256(path: str, expected: str) -> None:
    """:raises Failure: the file is not the one that was meant."""
    found = sha256_of(path)
    if found != expected.lower():
        raise Failure(
            "%s has sha256 %s, expected %s" % (path, found, expected),
            "The file is not the one that was meant: use another mirror, or correct the sha256 if it was replaced.",
        )


def unpack(archive: str, directory: str) -> None:
    """Unpack a tar archive (gzip, bzip2, xz) into a new directory; nothing of it may land outside.

    :raises Failure: it is no whole archive, or a member points outside.
    """
    os.mkdir(directory, 0o755)
    root = os.path.realpath(directory)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _refuse_outside(member, root, archive)
                if hasattr(tarfile, "data_filter"):
                    tar.extract(member, root, filter="data")
                elif member.isfile() or member.isdir() or member.issym() or member.islnk():
                    member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
                    tar.extract(member, root)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise Failure(
            "%s is not a whole tar archive: %s" % (archive, error), "Fetch it again; zip is not supported."
        ) from None


def _refuse_outside(member: tarfile.TarInfo, root: str, archive: str) -> None:
    # Python before 3.12 (and unpatched older ones) extracts whatever a member's name says.
    names = [member.name]
    if member.issym():
        names.append(os.path.join(os.path.dirname(member.name), member.linkname))
    elif member.islnk():
        names.append(member.linkname)
    for name in names:
        target = os.path.realpath(os.path.join(root, name))
        if target != root and not target.startswith(root + os.sep):
            raise Failure("%s holds %s, which lies outside of it" % (archive, member.name), "Do not use this archive.")


def pack(prefix: str, archive: str) -> str:
    """Write a finished build to a tar.gz that depends on nothing but its files; returns the sha256."""
    part = archive + ".part"
    make_directory(os.path.dirname(archive))
    with open(part, "wb") as raw:
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed:
            with tarfile.open(fileobj=packed, mode="w", bufsize=CHUNK) as tar:
                for name in [STAMP] + ["bin/" + name for name in sorted(os.listdir(os.path.join(prefix, "bin")))]:
                    tar.add(os.path.join(prefix, name), arcname=name, filter=_anonymous)
        raw.flush()
        os.fsync(raw.fileno())
    os.chmod(part, 0o644)
    os.replace(part, archive)
    return sha256_of(archive)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    return member
