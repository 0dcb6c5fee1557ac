"""Compares every role's defaults with its meta/argument_specs.yml, in both directions.

A variable in defaults/main.yml or defaults/main/*.yml has to be an option of the entry point `main` (of a role without
that one, of `facts`), and the other way round. Exempt are variables that begin with `_` (private to the role)
and options that are required (they cannot have a default). Every role has a README.md, too.

Usage: argument_specs.py ROLES_DIRECTORY. Prints one line per problem; exit status 1 if there is any.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml


def load(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; {} for an empty file."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def problems(role: Path) -> list[str]:
    """What is wrong with one role directory, one line each."""
    found = [] if (role / "README.md").is_file() else [f"{role}: has no README.md"]
    specs_path = role / "meta" / "argument_specs.yml"
    if not specs_path.is_file():
        return [*found, f"{role}: has no meta/argument_specs.yml"]
    entries = load(specs_path).get("argument_specs", {})
    main = entries.get("main", entries.get("facts"))
    if main is None:
        return [*found, f"{specs_path}: has no entry point 'main'"]
    options = main.get("options") or {}
    defaults: set[str] = set()
    for path in [*role.glob("defaults/main.yml"), *role.glob("defaults/main/*.yml")]:
        defaults.update(load(path))
    public = {name for name in defaults if not name.startswith("_")}
    optional = {name for name, option in options.items() if not option.get("required")}
    found += [f"{specs_path}: has no '{name}', which is in the defaults" for name in sorted(public - set(options))]
    found += [f"{role}/defaults: has no '{name}', which is in argument_specs" for name in sorted(optional - defaults)]
    return found


def main() -> int:
    roles = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir())
    if not roles:
        print(f"{sys.argv[1]}: holds no role")
        return 1
    found = [line for role in roles for line in problems(role)]
    print("\n".join(found) or f"{len(roles)} roles: defaults and argument_specs agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
