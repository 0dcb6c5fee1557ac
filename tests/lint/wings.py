#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wings of module_utils import only downward, and hold nothing that only the controller uses. See CONTRIBUTING.md.

Usage: wings.py [--draw]. Prints one line a fault and ends with 1; --draw prints which wing imports which.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "ansible_collections.dsdeploy.llm.plugins."
# From the ground up. `places` is one file, and nothing stands below it.
WINGS = (
    "places",
    "ground",
    "host",
    "transfer",
    "gguf",
    "fit",
    "builds",
    "nvidia",
    "model",
    "engine",
    "bench",
    "service",
    "gang",
    "gateway",
    "checks",
)


def imported(path: Path, plugins: Path) -> set[str]:
    """The files of the collection that `path` imports, as paths below `plugins` without their suffix."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE):
            base = node.module[len(PACKAGE) :].replace(".", "/")
            names = [base, *(f"{base}/{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [
                alias.name[len(PACKAGE) :].replace(".", "/") for alias in node.names if alias.name.startswith(PACKAGE)
            ]
        found |= {name for name in names if (plugins / f"{name}.py").is_file()}
    return found


def wing(name: str) -> str:
    """The wing of ``module_utils/<wing>/<file>``, or the file itself where it stands in none."""
    return name.split("/")[1]


def survey(root: Path) -> tuple[list[str], dict[str, set[str]]]:
    """What is wrong, a line each; and the wings that each wing imports."""
    plugins = root / "plugins"
    files = {str(path.relative_to(plugins).with_suffix("")): path for path in sorted(plugins.rglob("*.py"))}
    imports = {name: imported(path, plugins) for name, path in files.items()}
    problems, arrows = [], {}
    for name in (name for name in files if name.startswith("module_utils/")):
        own = wing(name)
        if own not in WINGS:
            problems.append(f"plugins/{name}.py: {own} is no wing of module_utils; they are: {', '.join(WINGS)}")
            continue
        arrows.setdefault(own, set())
        for other in sorted(imports[name]):
            if not other.startswith("module_utils/"):
                problems.append(f"plugins/{name}.py: imports {other}, which is code of the controller")
            elif wing(other) in WINGS and wing(other) != own:
                arrows[own].add(wing(other))
                if WINGS.index(wing(other)) > WINGS.index(own):
                    problems.append(f"plugins/{name}.py: imports {other}, and {wing(other)} stands above {own}")
    # What a module needs, over any number of imports, is code of the target.
    needed = set()
    queue = [name for name in files if name.startswith("modules/")]
    while queue:
        for other in imports[queue.pop()] - needed:
            needed.add(other)
            queue.append(other)
    for name in sorted(name for name in files if name.startswith("module_utils/") and name not in needed):
        users = sorted(user for user in files if name in imports[user])
        if users:
            problems.append(
                f"plugins/{name}.py: no module needs it, only {', '.join(users)}: it belongs into plugin_utils"
            )
    return problems, arrows


if __name__ == "__main__":
    found, drawn = survey(ROOT)
    if "--draw" in sys.argv[1:]:
        for row in reversed(WINGS):
            if row in drawn:
                print(f"{row:<9} -> {', '.join(sorted(drawn[row], key=WINGS.index)) or '-'}")
    for line in found:
        print(line)
    sys.exit(1 if found else 0)
