"""Every dynamic include in a role passes the tag `always` on: what it includes has no tags of its own, and
`--tags verify` would otherwise include the room and then run nothing in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

INCLUDES = ("ansible.builtin.include_tasks", "ansible.builtin.include_role")


def includes(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [task for task in tasks if any(name in task for name in INCLUDES)]
    for task in tasks:
        for part in ("block", "rescue", "always"):
            found += includes(task.get(part, []))
    return found


def main() -> int:
    bad = []
    for path in sorted(Path("roles").glob("*/tasks/*.yml")):
        for task in includes(yaml.safe_load(path.read_text(encoding="utf-8")) or []):
            given = next(task[name] for name in INCLUDES if name in task)
            if not isinstance(given, dict) or given.get("apply") != {"tags": ["always"]}:
                bad.append(f"{path}: {task.get('name')}: needs apply: {{tags: [always]}}")
    print("\n".join(bad) or "every include passes its tags on")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
