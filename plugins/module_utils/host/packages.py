# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions of packages to install so that all of them are of one and the same upstream version.

Pure functions over what apt and dnf print; the module `package_plan` runs them.
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

OTHERS_HINT = (
    "Add the repository that has it to the host's package sources. Headers are there for the distribution's current "
    "kernels: upgrade the kernel and boot it."
)
# What `parse_dpkg` and `parse_rpm` read; `${Status}` of dpkg ends in " installed" also for a package on hold.
DPKG_QUERY = ("dpkg-query", "--show", "--showformat=${Package} ${Version} ${db:Status-Status}\n")
RPM_QUERY = ("rpm", "--query", "--queryformat", "%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE}\n")
# {package: [version, …]}, the newest first, as the package manager orders them.
Candidates = Dict[str, List[str]]


class Plan(NamedTuple):
    """`version` is the upstream version of all, `packages` {name: version} in the order asked for."""

    version: str
    packages: Dict[str, str]


def upstream(version: str) -> str:
    """The upstream version in a package's: "3:550.90.12-1.el9" and "550.90.12-0ubuntu1" are both 550.90.12."""
    return version.split(":", 1)[-1].split("-", 1)[0]


def parse_madison(text: str) -> Candidates:
    """From `apt-cache madison PACKAGE…`: lines " name | version | source"."""
    found: Candidates = {}
    for line in text.splitlines():
        columns = [column.strip() for column in line.split("|")]
        if len(columns) == 3 and "Packages" in columns[2] and columns[1] not in found.get(columns[0], []):
            found.setdefault(columns[0], []).append(columns[1])
    return found


def parse_dnf_list(text: str) -> Candidates:
    """From `dnf list --showduplicates PACKAGE…`: lines "name.arch  version  repository", the oldest first. What is too
    long for a line is broken behind the name."""
    found: Candidates = {}
    for line in re.sub(r"^(\S+\.(?:x86_64|aarch64|noarch)) *\n +", r"\1 ", text, flags=re.M).splitlines():
        columns = line.split()
        name = re.match(r"^(.+)\.(?:x86_64|aarch64|noarch)$", columns[0]) if len(columns) == 3 else None
        if name and columns[1] not in found.get(name.group(1), []):
            found.setdefault(name.group(1), []).insert(0, columns[1])
    return found


def parse_dpkg(text: str) -> Dict[str, str]:
    """{name: version} of what is installed, from what DPKG_QUERY prints."""
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 3 and line[2] == "installed"}


def parse_rpm(text: str) -> Dict[str, str]:
    """The same from what RPM_QUERY prints; without an epoch of 0, as dnf names versions."""
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: line[1][2:] if line[1].startswith("0:") else line[1] for line in lines if len(line) == 2}


def names_in(wanted: List[str]) -> List[str]:
    """All names in packages written as "a | b" (the first that there is, as in Debian's dependencies)."""
    return [name.strip() for one in wanted for name in one.split("|")]


def choose(
    wanted: List[str], candidates: Candidates, prefix: str, branch: str = "", version: str = "", kept: str = ""
) -> Plan:
    """One upstream version that every package has.

    :param wanted: packages, each "a" or "a | b"; the first one decides which version is the newest.
    :param prefix: of the role's variables, for hints that name one.
    :param branch: the version has to begin with this and a dot; empty for any.
    :param version: the version asked for, upstream ("550.90.12") or a package's whole one; empty for the newest.
    :param kept: upstream version that is installed; it stays when nothing else is asked for and it is of the branch.
    :raises Failure: a package is in no repository, or not in a version that the others have.
    """
    names = [_first(one, candidates, prefix, branch) for one in wanted]
    if version:
        target = version
    elif kept and _in_branch(kept, branch):
        target = kept
    else:
        newest = {name: _of_branch(candidates[name], branch)[0] for name in names}
        target = upstream(newest[names[0]])
        if any(upstream(found) != target for found in newest.values()):
            raise Failure(
                "the newest versions do not match: %s" % ", ".join("%s %s" % pair for pair in newest.items()),
                _common_hint(names, candidates, prefix, branch),
            )
    chosen = {}
    for name in names:
        matching = [found for found in candidates[name] if target in (found, upstream(found))]
        if not matching:
            raise Failure(
                "%s has no version %s; it has %s" % (name, target, ", ".join(candidates[name][:8])),
                _common_hint(names, candidates, prefix, branch),
            )
        chosen[name] = matching[0]
    return Plan(upstream(chosen[names[0]]), chosen)


def known(candidates: Candidates, installed: Dict[str, str]) -> Candidates:
    """The candidates with what is installed, which may have left the repository, as the last ones."""
    result = {name: list(versions) for name, versions in candidates.items()}
    for name, version in installed.items():
        if version not in result.setdefault(name, []):
            result[name].append(version)
    return result


def to_install(
    wanted: List[str],
    others: List[str],
    along: List[str],
    candidates: Candidates,
    installed: Dict[str, str],
    prefix: str,
    branch: str = "",
    version: str = "",
) -> Tuple[Plan, Dict[str, Optional[str]]]:
    """The plan of `choose`, and what of all is not installed so: {name: version, or None for any}.

    :param others: packages that have to be there in any version.
    :param along: packages that take the plan's version where they are installed.
    :raises Failure: as `choose`; one of `others` is in no repository.
    """
    candidates = known(candidates, installed)
    first = next((name for name in names_in(wanted[:1]) if name in installed), None)
    kept = upstream(installed[first]) if first else ""
    found = choose(wanted, candidates, prefix, branch, version, kept)
    try:
        beside = [name for one in others for name in choose([one], candidates, prefix).packages]
    except Failure as error:
        raise Failure(str(error), OTHERS_HINT) from None
    moved = family({name: installed[name] for name in along if name in installed}, found, candidates)
    missing: Dict[str, Optional[str]] = {
        name: target for name, target in dict(found.packages, **moved).items() if installed.get(name) != target
    }
    for name in beside:
        if name not in installed:
            missing.setdefault(name, None)
    return found, missing


def family(installed: Dict[str, str], plan: Plan, candidates: Candidates) -> Dict[str, str]:
    """Installed packages of another version than the plan's that have to come along: {name: version to install}."""
    along = {}
    for name, version in installed.items():
        if name not in plan.packages and upstream(version) != plan.version:
            matching = [found for found in candidates.get(name, []) if upstream(found) == plan.version]
            if matching:
                along[name] = matching[0]
    return along


def apt_pin(patterns: List[str], version: str) -> str:
    """Text of a file for /etc/apt/preferences.d that makes apt prefer `version` of these packages, even to a newer one
    that is installed (a priority above 1000, apt_preferences(5))."""
    return "Package: %s\nPin: version %s-*\nPin-Priority: 1001\n" % (" ".join(patterns), version)


def apt_reason(said: str) -> str:
    """Why `apt-get install` cannot, in one line, from what it printed."""
    unmet = re.search(r"have unmet dependencies:\n(.*?)(?=^E: )", said, re.S | re.M)
    if unmet:
        return " ".join(unmet.group(1).split())
    errors = re.findall(r"^E: (.*)$", said, re.M)
    return "; ".join(errors) or " ".join(said.split())[-300:]


def apt_entries(name: str, text: str) -> List[str]:
    """The URIs that a file of apt's package sources has in use, by sources.list(5): what is commented out or disabled
    counts for nothing.

    :param name: of the file: one that ends in .sources has stanzas, another one a line an entry.
    """
    if not name.endswith(".sources"):
        lines = [line.partition("#")[0] for line in text.splitlines()]
        return [word for line in lines for word in line.split() if "://" in word]
    found = []
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n(?:[ \t]*\n)+", "\n".join(lines)):
        fields: Dict[str, str] = {}
        field = ""
        for line in stanza.splitlines():
            if line[:1] not in (" ", "\t"):
                field, _colon, line = line.partition(":")
                field = field.strip().lower()
            fields[field] = fields.get(field, "") + " " + line
        # As apt reads a yes or no.
        if fields.get("enabled", "").strip().lower() not in ("no", "false", "without", "off", "disable", "0"):
            found += fields.get("uris", "").split()
    return found


def parse_apt_uris(text: str) -> List[str]:
    """The indexes that `apt-get update --print-uris` would fetch first: one a package source."""
    return re.findall(r"^'([^']*/InRelease)' ", text, re.M)


def apt_unreachable(said: str) -> str:
    """Why `apt-helper download-file` could not fetch an index, in one line; empty where a server answered: a source
    without InRelease has a Release instead."""
    reason = apt_reason(said)
    return "" if re.search(r"\b404\b|File not found", reason) else re.sub(r"; Download Failed$", "", reason)


def parse_apt_holds(text: str) -> List[str]:
    """From `apt-mark showhold`: a name a line, with ":arch" where the architecture is a foreign one."""
    return text.split()


def parse_versionlocks(text: str, names: List[str]) -> List[str]:
    """Those of `names` that `dnf versionlock list` tells of: lines "name-epoch:version-release.*"."""
    locked = [re.sub(r"-(?:\d+:)?[^-]+-[^-]+$", "", line.strip()) for line in text.splitlines()]
    return [name for name in names if name in locked]


def _first(one: str, candidates: Candidates, prefix: str, branch: str) -> str:
    names = names_in([one])
    for name in names:
        if _of_branch(candidates.get(name, []), branch):
            return name
    if any(name in candidates for name in names):
        found = next(name for name in names if name in candidates)
        raise Failure(
            "%s has no version of branch %s; it has %s" % (found, branch, ", ".join(candidates[found][:8])),
            "Set {0}_branch to one of these, or another {0}_install_method.".format(prefix),
        )
    raise Failure(
        "no repository of this host has the package %s" % " or ".join(names),
        "Check the branch and the source; on Debian, contrib, non-free and non-free-firmware must be in apt's sources.",
    )


def _in_branch(version: str, branch: str) -> bool:
    return not branch or upstream(version) == branch or upstream(version).startswith(branch + ".")


def _of_branch(versions: List[str], branch: str) -> List[str]:
    return [version for version in versions if _in_branch(version, branch)]


def _common_hint(names: List[str], candidates: Candidates, prefix: str, branch: str) -> str:
    common: Optional[List[str]] = None
    for name in names:
        found = [upstream(version) for version in _of_branch(candidates[name], branch)]
        common = found if common is None else [version for version in common if version in found]
    if not common:
        return "They have no version in common; wait for the repository, or take another branch or kernel modules."
    return "All of them have %s: set %s_version to that." % (", ".join(dict.fromkeys(common)), prefix)
