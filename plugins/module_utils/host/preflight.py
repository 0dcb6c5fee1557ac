# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host must offer before anything is changed on it: a free port, free disk, commands.

Pure functions over text and numbers; the module `preflight` reads them off the host.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.disk import shortage
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import is_loopback
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.access import Barrier, Weak, hint_for, weak_hint
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.packages import DPKG_QUERY

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"  # RFC 1123, 2.1
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)%s(\.%s)*\Z" % (_LABEL, _LABEL), re.IGNORECASE)


class Problem(NamedTuple):
    """One thing that is wrong, and what to do about it; `kind`: with the host (preflight) or a variable (usage)."""

    msg: str
    hint: str
    kind: str = "preflight"


def error_kind(problems: Sequence[Problem]) -> str:
    """What kind of failure they are together: wrong usage only where nothing is wrong with the host as well."""
    return "usage" if all(problem.kind == "usage" for problem in problems) else "preflight"


def port_problem(port: int, owner: Optional[dict], user: str, variable: str) -> Optional[Problem]:
    """What is wrong with a port that somebody listens on.

    :param owner: None when nobody listens; else `{pid, command, user}`; pid is None for a process that cannot be seen
        (root in a container sees no other user's).
    :param user: the system user of the service that wants the port, which no other service has.
    :param variable: name of the variable that sets the port, for the hint.
    """
    if owner is None or (user and owner["user"] == user):
        return None
    who = "%s (pid %s)" % (owner["command"], owner["pid"]) if owner["pid"] else "a process"
    return Problem(
        "port %d is taken by %s of user %s" % (port, who, owner["user"]),
        "Stop it, or choose another port in %s." % variable,
    )


def disk_problems(plan: List[Dict[str, Any]]) -> List[Problem]:
    """What does not fit; `plan` as of `ground/disk.py`."""
    return [
        Problem(
            shortage(item["mount"], item["need"], item["free"], item["for"]),
            "Free space there, or enlarge it: mount -o remount,size=1G /dev/shm; of a container, --shm-size."
            if item["mount"] == SHM
            else "Free space there, or move %s to a larger file system (dsdeploy_data_dir, dsdeploy_install_dir)."
            % " and ".join(sorted(item["paths"])),
        )
        for item in plan
        if not item["fits"]
    ]


def host_problem(host: str, has_key: bool, has_tls: bool, prefix: str) -> Optional[Problem]:
    """What is wrong with the address to listen on: no address, or beyond loopback without an API key and TLS."""
    if is_loopback(host):
        return None
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # What ends in a number is meant as an IPv4 address.
        if not _HOST_NAME.match(host) or host.rpartition(".")[2].isdigit():
            return Problem(
                "%s_host is %r, which is neither an address nor a host name" % (prefix, host),
                "Set %s_host to an address of the host, such as 127.0.0.1, or to its name." % prefix,
                "usage",
            )
    missing = [what for what, there in (("an API key", has_key), ("TLS", has_tls)) if not there]
    if not missing:
        return None
    what = " and ".join(missing) + (" is" if len(missing) == 1 else " are")
    return Problem(
        "%s_host is %s, which others can reach, but %s not set" % (prefix, host, what),
        "Keep {0}_host at 127.0.0.1 and reach it through an SSH tunnel, or set {0}_api_key, {0}_ssl_certfile and "
        "{0}_ssl_keyfile.".format(prefix),
        "usage",
    )


def address_problem(host: str, said: str, prefix: str) -> Optional[Problem]:
    """What is wrong with an address that is none of this host's.

    :param said: why nothing can listen there, "" where something can.
    """
    if not said:
        return None
    return Problem(
        "%s_host is %s, which is no address of this host (%s)" % (prefix, host, said),
        "Set %s_host to one that `ip address` shows there." % prefix,
        "usage",
    )


def refused_user(why: str, prefix: str) -> Problem:
    """What is wrong with the user that a service is to run as; `why` as of `users.user_problem`."""
    return Problem(
        "%s: an engine cannot run as this user" % why,
        "Name another in %s_user; a user that does not exist is created, and removed with the service." % prefix,
        "usage",
    )


def way_problems(user: str, ways: Sequence[Tuple[str, Optional[Barrier]]]) -> List[Problem]:
    """What keeps a user from paths that it needs: one problem a barrier, with all the paths behind it.

    :param ways: each path, and what stops the user on its way there.
    """
    stopped: Dict[Barrier, List[str]] = {}
    for path, stops in ways:
        if stops:
            stopped.setdefault(stops, []).append(path)
    return [
        Problem(
            "%s: the engine's user %s %s" % (", ".join(paths), user, stops),
            hint_for(stops),
        )
        for stops, paths in stopped.items()
    ]


def weak_problems(ways: Sequence[Tuple[str, Weak]]) -> List[Problem]:
    """What is wrong with paths that somebody else than root can change: one problem a directory, with all the paths
    behind it. Root would run what he puts there."""
    found: Dict[Weak, List[str]] = {}
    for path, at in ways:
        found.setdefault(at, []).append(path)
    return [Problem("%s: on the way is %s" % (", ".join(paths), at), weak_hint(at)) for at, paths in found.items()]


def read_problems(user: str, ways: Sequence[Tuple[str, Optional[Barrier]]]) -> List[Problem]:
    """What keeps a user from reading the files of one model: the first of them, and how many more there are.

    :param ways: as of `way_problems`.
    """
    stopped = [(path, stops) for path, stops in ways if stops]
    if not stopped:
        return []
    path, stops = stopped[0]
    more = " and %d more of its files" % (len(stopped) - 1) if len(stopped) > 1 else ""
    return [Problem("%s%s: the engine's user %s %s" % (path, more, user, stops), hint_for(stops))]


def unreachable_index(reason: str) -> Problem:
    """What is wrong where a package source does not answer; `reason` as of `packages.apt_unreachable`."""
    return Problem(
        "packages could not be installed: %s" % reason,
        "Are the package sources of this host (/etc/apt/sources.list.d) reachable from it? A proxy goes into "
        "dsdeploy_mirrors.http_proxy.",
    )


def missing_file(variable: str, path: str, executable: bool) -> Problem:
    """What is wrong with a variable that names a file, where the host has none there."""
    return Problem(
        "%s: there is no %s %s on this host" % (variable, "program" if executable else "file", path),
        "Put it there, or correct %s." % variable,
        "usage",
    )


def glibc_problems(found: str, oldest: str) -> List[Problem]:
    """What is wrong with a C library, as confstr names it (`glibc 2.36`), for packages that are built on `oldest`."""

    def key(version: str) -> List[int]:
        return [int(part) for part in version.split(".")]

    name, _space, version = found.partition(" ")
    if name == "glibc" and key(version) >= key(oldest):
        return []
    return [
        Problem(
            "glibc %s or newer is needed, this host has %s" % (oldest, found or "another C library"),
            "Use a newer release of the distribution.",
        )
    ]


# Of the two kinds of distributions. As dpkg's: the name without the architecture, `libgomp1`, not `libgomp1:amd64`.
QUERIES = (DPKG_QUERY, ("rpm", "--query", "--queryformat", "%{NAME} %{VERSION} installed\\n"))


def installed_packages(text: str, names: Sequence[str]) -> Dict[str, str]:
    """Version by name of the packages that a query's output says are installed; others' lines are passed over."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "installed" and words[0] in names:
            found[words[0]] = words[1]
    return found


SHM = "/dev/shm"
INSTALL_DIR_LENGTH = 80  # the kernel before 5.1 cuts a script's first line at 127 bytes, and our paths below it take 45


def install_dir_problems(path: str) -> List[Problem]:
    """What is wrong with a directory for programs: it stands in scripts' first lines and in what compilers are told."""
    if not re.match(r"/[A-Za-z0-9._/+@~=,-]*\Z", path):
        what = "has characters that break what is started from or built in it"
    elif len(path) > INSTALL_DIR_LENGTH:
        what = "has %d characters, more than the %d that fit a script's first line" % (len(path), INSTALL_DIR_LENGTH)
    else:
        return []
    return [
        Problem(
            "dsdeploy_install_dir is %r, which %s" % (path, what),
            "Choose an absolute path of ASCII letters, digits and ._/+@~=,- without spaces.",
            "usage",
        )
    ]


def file_system_problem(variable: str, path: str, mount: str, flags: int, programs: bool) -> Optional[Problem]:
    """What is wrong with the file system that a directory lies on.

    :param mount: where it is mounted. `flags`: as `os.statvfs` tells them. `programs`: whether they are to run there.
    """
    if flags & os.ST_RDONLY:
        what, option = "read-only: nothing can be written there", "rw"
    elif programs and flags & getattr(os, "ST_NOEXEC", 8):
        what, option = "noexec: no program runs there", "exec"
    else:
        return None
    return Problem(
        "%s: %s is on %s, which is mounted %s" % (variable, path, mount, what),
        "Mount it otherwise (mount -o remount,%s %s), or set %s to a directory on another file system."
        % (option, mount, variable),
    )


def undeployed_problem(engine: str, tags: Sequence[str], recorded: bool) -> Optional[Problem]:
    """What is wrong with a run that is only to ask what is deployed, where nothing is: it would fetch the model, and
    note what it never makes, before it found nobody to ask.

    :param tags: of the run, `all` where it has none.
    :param recorded: whether the deployment has a record.
    """
    if recorded or "verify" not in tags or set(tags) - {"prepare", "preflight", "verify"}:
        return None
    return Problem(
        "--tags verify asks what is deployed, and %s is not deployed on this host" % engine,
        "`dsdeploy up` deploys it.",
    )


def missing_command(name: str) -> Problem:
    """What is wrong when a command is not there."""
    hints = {
        "nvcc": "Install the CUDA toolkit (role cuda_toolkit), or set the install method to one that runs on the CPU "
        "(it is far slower)."
    }
    return Problem("%s is not on this host" % name, hints.get(name, "Install it."))
