"""Every task of a role that downloads goes by the one table of mirrors: it takes the proxies from there, and what it
fetches is checked, whatever mirror it came through."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

ENVIRONMENT = "{{ _dsdeploy_download_environment }}"
# By module: the argument that pins what is fetched, or None where the module takes nothing unpinned (pip and uv
# with --require-hashes, the manifest of a model, signed package lists).
DOWNLOADS = {
    "ansible.builtin.get_url": "checksum",
    "ansible.builtin.git": "checksum",
    "ansible.builtin.apt": None,
    "ansible.builtin.package": None,
    "dsdeploy.llm.model_fetch": None,
    "dsdeploy.llm.pypi_file": "checksum",
    "dsdeploy.llm.python_venv": None,
    "dsdeploy.llm.uv_venv": None,
}
# Checked by a task of its own that follows, and how.
CHECKED_AFTERWARDS = {
    "Key | Fetch {{ nvidia_repository_key_url }}": "by its fingerprint, before it is put in its place",
    "Source | Clone the repository": "by its commit, before it is built",
}


def tasks_of(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = list(tasks)
    for task in tasks:
        for part in ("block", "rescue", "always"):
            found += tasks_of(task.get(part, []))
    return found


def main() -> int:
    bad, seen, count = [], set(), 0
    for path in sorted(Path("roles").glob("*/tasks/*.yml")):
        for task in tasks_of(yaml.safe_load(path.read_text(encoding="utf-8")) or []):
            for module in DOWNLOADS.keys() & task.keys():
                name, pin = task["name"], DOWNLOADS[module]
                seen.add(name)
                count += 1
                if task.get("environment") != ENVIRONMENT:
                    bad.append(f'{path}: {name}: needs environment: "{ENVIRONMENT}"')
                if pin and not task[module].get(pin) and name not in CHECKED_AFTERWARDS:
                    bad.append(f"{path}: {name}: needs a {pin}, or its check named in {__file__}")
    bad += [f"{__file__}: there is no task '{name}'" for name in CHECKED_AFTERWARDS.keys() - seen]
    print("\n".join(bad) or f"{count} tasks download, all through the table of mirrors")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
