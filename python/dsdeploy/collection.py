"""Where the collection dsdeploy.llm lies that this command belongs to."""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from dsdeploy.errors import DsdeployError, ExitCode

NAMESPACE, NAME = "dsdeploy", "llm"
NO_SUCH_FILE = "no such file"
READABLE = "Let this user read it, with the directories above it, or run this as a user who may."


def unreadable(path: str) -> str:
    """Why this user cannot read what is at `path`, "" where they can. pathlib's own questions (`exists`, `is_file`) end
    with an exception where a directory above may not be entered."""
    path = os.path.expanduser(path)
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return NO_SUCH_FILE
    except OSError as error:
        return str(error.strerror)
    return "" if os.access(path, os.R_OK) else os.strerror(errno.EACCES)


@dataclass(frozen=True)
class Collection:
    """`root` holds galaxy.yml; `search_path` is the directory that holds `ansible_collections/`."""

    root: Path
    search_path: Path

    @property
    def version(self) -> str:
        match = re.search(r"^version:\s*(\S+)", (self.root / "galaxy.yml").read_text(encoding="utf-8"), re.MULTILINE)
        return match.group(1) if match else "unknown"

    def playbook(self, name: str) -> Path:
        return self.root / "playbooks" / f"{name}.yml"

    def stages(self, playbook: str) -> list[str]:
        """The tags that `--tags` can name in a playbook of the collection, in its order."""
        import yaml  # type: ignore[import-untyped]

        found: list[str] = []
        pending = [yaml.safe_load(self.playbook(playbook).read_text(encoding="utf-8"))]
        while pending:
            here = pending.pop(0)
            if isinstance(here, dict):
                found += here.get("tags") or []
                here = list(here.values())
            if isinstance(here, list):
                pending += here
        return [tag for tag in dict.fromkeys(found) if tag != "always"]

    def shipped_inventories(self) -> list[str]:
        """Names that `-i` takes without a path."""
        return sorted(p.name for p in (self.root / "inventories").glob("*") if not p.name.startswith("."))

    def inventory(self, given: str) -> str:
        """The inventory source meant by `-i given`.

        A path that exists and a host list (`host,`) stay as they are; a bare name of a shipped inventory becomes
        its path. Anything else is a usage error: Ansible itself would only warn and go on with no hosts.
        """
        problem = NO_SUCH_FILE if not given else unreadable(given)
        if "," in given or not problem:
            return given
        shipped = self.shipped_inventories()
        if given in shipped:
            return str(self.root / "inventories" / given)
        if problem != NO_SUCH_FILE:
            raise DsdeployError(f"inventory {given!r}: {problem}", READABLE)
        close = difflib.get_close_matches(given, shipped, n=1)
        raise DsdeployError(
            f"inventory {given!r}: no such file, directory or shipped inventory",
            (f"Did you mean {close[0]}? " if close else "") + f"Shipped: {', '.join(shipped) or 'none'}.",
        )


PACKAGE = Path(__file__).resolve().parent


def find(package: Path = PACKAGE) -> Collection:
    """The collection of the package directory `package`: the checkout around it (also installed editable), or the
    copy the wheel put beside it. Raises DsdeployError when neither is there."""
    for parent in package.parents:
        galaxy = parent / "galaxy.yml"
        if galaxy.is_file() and _is_ours(galaxy):
            return Collection(parent, parent / ".collections")
    installed = package.parent / "ansible_collections" / NAMESPACE / NAME
    if (installed / "galaxy.yml").is_file():
        return Collection(installed, package.parent)
    raise DsdeployError(
        f"the collection {NAMESPACE}.{NAME} is neither around nor beside {package}",
        "The installation is incomplete: install dsdeploy again.",
        ExitCode.FAILED,
    )


def make_importable() -> None:
    """Lets `ansible_collections.dsdeploy.llm` be imported: the rules that the command shares with the modules."""
    path = str(find().search_path)
    if path not in sys.path:
        sys.path.insert(0, path)


def _is_ours(galaxy: Path) -> bool:
    text = galaxy.read_text(encoding="utf-8")
    return bool(
        re.search(rf"^namespace:\s*{NAMESPACE}\s*$", text, re.M) and re.search(rf"^name:\s*{NAME}\s*$", text, re.M)
    )
