# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What uv (docs.astral.sh/uv) is asked, and what its output means. Pure: module `uv_venv` runs it."""

from __future__ import annotations

import os
import re
import stat
from typing import Callable, Dict, Iterable, List, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import has_userinfo

TAIL_LINES = 20
_SCALE = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_DOWNLOADING = re.compile(r"^\s*Downloading (\S+) \(([\d.]+)\s*([KMG]?i?B)\)$")
_DOWNLOADED = re.compile(r"^\s*Downloaded (\S+)$")
_ERROR = re.compile(r"error:|\s*×")
_MISMATCH = re.compile(r"Hash mismatch for `([^`]+)`")
_DAMAGED = re.compile(r"Failed to extract archive: (\S+)")
_DIST_INFO = re.compile(r"^(?P<name>[A-Za-z0-9._]+)-(?P<version>[^-]+)\.dist-info$")


class Output:
    """What `uv pip sync` says on its standard error, line by line, as progress.

    uv names large files only: "Downloading torch (183.0MiB)", later "Downloaded torch".
    """

    def __init__(self) -> None:
        self.done = 0  # bytes
        self.total = 0  # bytes, of the files named so far
        self._sizes: Dict[str, int] = {}
        self._lines: List[str] = []  # the last ones, and from its error on all: that may list a hundred hashes
        self._failed = False

    def feed(self, line: str) -> bool:
        """Take one line; whether `done` or `total` has changed."""
        line = line.rstrip()
        begun, ended = _DOWNLOADING.match(line), _DOWNLOADED.match(line)
        if begun:
            self._sizes[begun.group(1)] = int(float(begun.group(2)) * _SCALE.get(begun.group(3), 1))
            self.total += self._sizes[begun.group(1)]
            return True
        if ended:
            self.done += self._sizes.pop(ended.group(1), 0)
            return True
        if line.strip():
            self._failed = self._failed or bool(_ERROR.match(line))
            self._lines.append(line)
            if not self._failed:
                del self._lines[:-TAIL_LINES]
        return False

    def tail(self) -> List[str]:
        return self._lines[-TAIL_LINES:]

    def reason(self) -> str:
        """Why it failed, in one line: uv's error and its first causes."""
        begin = next((number for number, line in enumerate(self._lines) if _ERROR.match(line)), 0)
        causes = [
            re.sub(r"^[\s×╰─▶├│·]*(error: |[Cc]ause(d by)?: )?", "", line).strip() for line in self._lines[begin:]
        ]
        return ": ".join(cause.rstrip(":") for cause in causes[:3] if cause) or "no output"

    def wrong_file(self) -> Optional[str]:
        """The package whose file is not the lock's, and in which way, in one line; None where uv failed otherwise."""
        text = "\n".join(self._lines)
        mismatch, damaged = _MISMATCH.search(text), _DAMAGED.search(text)
        if damaged:
            return "the index serves %s damaged or cut short" % damaged.group(1)
        if not mismatch:
            return None
        found = re.search(r"Computed:\s*sha256:(\w+)", text[mismatch.end() :])
        served = " (its sha256 is %s)" % found.group(1) if found else ""
        return "the index serves another file of %s than the lock names%s" % (mismatch.group(1), served)


def environment(
    pip: Dict[str, str],
    cache_dir: str,
    python_dir: str,
    index_url: str = "",
    index_url_default: str = "",
    python_mirror: str = "",
) -> Dict[str, str]:
    """Variables for uv, so that it uses what pip on this host is configured for.

    :param pip: `pypi.pip_config` of the host.
    :param index_url: package index that wins over pip's.
    :param index_url_default: package index where neither names one; empty: then none is named, and uv must
        run with ``--no-index``.
    :param python_mirror: where uv gets Python builds from; empty: it downloads none.
    """
    variables = {
        "UV_CACHE_DIR": cache_dir,
        "UV_PYTHON_INSTALL_DIR": python_dir,
        "UV_NO_PROGRESS": "1",
        "UV_HTTP_TIMEOUT": "300",
        # The hashes say which file is right, whichever index has it.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        # Of the one who runs this; they would choose another environment or Python.
        "VIRTUAL_ENV": "",
        "PYTHONHOME": "",
        "PYTHONPATH": "",
    }
    index = index_url or pip.get("index-url", "") or index_url_default
    if index:
        variables["UV_DEFAULT_INDEX"] = index
    extra = [url for url in pip.get("extra-index-url", "").split() if url.startswith(("http://", "https://"))]
    if extra and not index_url:
        variables["UV_INDEX"] = " ".join(extra)
    if pip.get("cert"):
        variables["SSL_CERT_FILE"] = pip["cert"]
    if pip.get("proxy"):
        variables["HTTPS_PROXY"] = variables["HTTP_PROXY"] = pip["proxy"]
    if python_mirror:
        variables["UV_PYTHON_INSTALL_MIRROR"] = python_mirror
    else:
        variables["UV_PYTHON_DOWNLOADS"] = "never"
    return variables


def sync_argv(
    program: str, python: str, lock: str, build_lock: Optional[str], places: Iterable[str], has_index: bool
) -> Tuple[List[str], List[str]]:
    """(the command that installs what the lock names, no less and no more; those of `places` that it must not name)

    Hashes are not optional. What holds a password is no argument, which others on the host can see: it goes into
    UV_FIND_LINKS.

    :param build_lock: what is built with what it names; None: nothing is built.
    :param places: directories and pages with packages, besides the indexes.
    :param has_index: whether there is any index.
    """
    command = [program, "pip", "sync", "--python", python, "--require-hashes"]
    command += ["--build-constraints", build_lock, "--require-build-hashes"] if build_lock else ["--no-build"]
    hidden = []
    for place in places:
        if has_userinfo(place):
            hidden.append(place)
        else:
            command += ["--find-links", place]
    return command + ([] if has_index else ["--no-index"]) + [lock], hidden


def interpreter_names(version: str, directories: Iterable[str]) -> List[str]:
    """Paths at which a Python of version `3.11` may lie, in the order to try."""
    names = ("python" + version, "python3")
    usual = [*directories, "/usr/local/bin", "/usr/bin"]
    ordered = [os.path.join(directory, name) for name in names for directory in usual if directory]
    return list(dict.fromkeys(ordered))


def others_can_run(path: str, stat_of: Callable[[str], os.stat_result] = os.stat) -> bool:
    """Whether every user can run a program: a service's user cannot reach one below /root (pyenv, conda)."""
    path = os.path.realpath(path)
    while True:
        if not stat_of(path).st_mode & stat.S_IXOTH:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)


def packages(names: Iterable[str]) -> Dict[str, str]:
    """Distribution to version, from the names in a site-packages directory."""
    found = {}
    for name in names:
        match = _DIST_INFO.match(name)
        if match:
            found[normalized(match.group("name"))] = match.group("version")
    return found


def normalized(distribution: str) -> str:
    """The name of a distribution as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def lock_problem(text: str) -> Optional[str]:
    """Why a text is no lock: `name==version` with hashes, and nothing else. None where it is one."""
    lines = [line.strip() for line in re.sub(r"\\\s*\n", " ", text).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    for line in lines:
        if not re.match(r"[A-Za-z0-9._-]+(\[[^\]]*\])?==\S+", line):
            return "%r is not a pinned requirement" % line[:80]
        if "--hash=sha256:" not in line:
            return "%s has no hash" % line.split()[0]
    return None if lines else "it is empty"
