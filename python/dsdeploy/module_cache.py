"""Modules as Ansible sends them to hosts, kept from one run to the next.

Ansible packs a module with all that it imports, which takes 0.2 to 0.6 s of CPU time each. It keeps what it has packed
for the time of a run, in a directory of the run. Here those of our own modules are kept in the user's cache directory,
under a hash of every file that goes into them. What is used again gets bytecode, which hosts would make anew for each
task: at the end of the second run, as the first has enough to do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from dsdeploy import cache

PREFIX = "ansible_collections.dsdeploy.llm.plugins.modules."
COMPILED = "compiled-"  # marks by name those that have their bytecode


def _take(kept: Path, used: Path) -> list[str]:
    """Names of what was taken."""
    used.mkdir(parents=True, exist_ok=True)
    taken = [path.name for path in kept.iterdir() if path.name.startswith(PREFIX)]
    for name in taken:
        shutil.copyfile(kept / name, used / name)
    return taken


def _keep(used: Path, kept: Path, taken: list[str]) -> None:
    new = [path for path in used.iterdir() if path.name.startswith(PREFIX) and path.suffix != ".lock"]
    new = [path for path in new if not (kept / path.name).exists()]
    if new:
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in new:
            cache.write(kept / path.name, path.read_bytes())
        cache.remove_old(kept.parent)
    plain = [name for name in taken if not (kept / f"{COMPILED}{name}").exists()]
    if plain:
        from dsdeploy.bytecode import Compiler

        compiler = Compiler()
        for name in plain:
            cache.write(kept / name, compiler.packed((kept / name).read_bytes()))
            (kept / f"{COMPILED}{name}").touch()


@contextlib.contextmanager
def kept(root: Path, version: str, ansible: Path, others: Iterable[str], used: Path) -> Iterator[None]:
    """While it is open, Ansible finds the modules that an earlier run packed.

    `root`: of the collection; `version`, `ansible`: Ansible's, and where it lies; `others`: where Ansible looks for
    code of modules besides; `used`: where it keeps what it packs. A cache that cannot be used is none.
    """
    extra = [Path(path) for path in others]

    def name() -> str:
        directories = [root / "plugins/modules", root / "plugins/module_utils", ansible / "module_utils", *extra]
        return cache.key(version, directories)

    before, place, taken = None, cache.place("modules"), []
    if place:
        with contextlib.suppress(OSError):
            before = name()
            if (place / before).is_dir() and cache.ours_alone(place / before):
                taken = _take(place / before, used)
                os.utime(place / before)  # what is in use is not the oldest
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            # Files that were changed while it ran may be in it or not.
            if place and before is not None and used.is_dir() and name() == before:
                _keep(used, place / before, taken)
