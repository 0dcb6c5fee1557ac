"""Every dynamic include in a role runs what it includes: the included tasks are tagged `always`, or the include passes
that tag on. Else `--tags verify` would include the room and then run nothing in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

TASKS, ROLE = "ansible.builtin.include_tasks", "ansible.builtin.include_role"
ALWAYS = ["always"]


def includes(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [task for task in tasks if TASKS in task or ROLE in task]
    for task in tasks:
        for part in ("block", "rescue", "always"):
            found += includes(task.get(part, []))
    return found


def read(path: Path) -> list[dict[str, Any]]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or []


def included(task: dict[str, Any], path: Path) -> Path:
    """The file that a task in `path` includes; one that does not exist where a variable names it."""
    given = task.get(TASKS) or task[ROLE]
    if TASKS in task:
        return path.parent / (given if isinstance(given, str) else given["file"])
    role = given["name"].rpartition(".")[2]
    return path.parents[2] / role / "tasks" / f"{given.get('tasks_from', 'main')}.yml"


def runs_always(task: dict[str, Any], path: Path) -> bool:
    given = task.get(TASKS) or task[ROLE]
    if isinstance(given, dict) and given.get("apply") == {"tags": ALWAYS}:
        return True
    file = included(task, path)
    return file.is_file() and all(inner.get("tags") == ALWAYS for inner in read(file))


def main() -> int:
    bad = []
    for path in sorted(Path("roles").glob("*/tasks/*.yml")):
        for task in includes(read(path)):
            if not runs_always(task, path):
                bad.append(f"{path}: {task.get('name')}: needs apply: {{tags: [always]}}")
    print("\n".join(bad) or "every include passes its tags on")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
