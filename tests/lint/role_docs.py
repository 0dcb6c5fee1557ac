"""Writes the table of variables in every role's README.md from its argument specs and defaults, and checks it.

The table stands between two comments at the end of the README; the rest is written by hand.

Usage: role_docs.py [--write] [ROLES_DIRECTORY]. Without --write it names the READMEs that are not up to date; exit
status 1 if there is any.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

BEGIN = "<!-- Variables: written by tests/lint/role_docs.py --write -->"
END = "<!-- End of the variables -->"
LONGEST_DEFAULT = 40  # characters; what is longer is best read in defaults/


def load(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; {} for an empty file."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def plain(text: object) -> str:
    """A description without Ansible's markup and on one line, fit for a cell of a table."""
    words = " ".join(map(str, text)) if isinstance(text, list) else str(text)
    words = re.sub(r"\b[CVOM]\(((?:[^()\\]|\\.)*)\)", r"`\1`", words)
    words = re.sub(r"\b[BIE]\(([^)]*)\)", r"\1", words)
    words = re.sub(r"\bU\(([^)]*)\)", r"<\1>", words)
    words = re.sub(r"\bL\(([^,)]*),\s*([^)]*)\)", r"[\1](\2)", words)
    return re.sub(r"\s+", " ", words).strip().replace("|", "\\|")


def default_of(value: object) -> str:
    text = "" if value is None else yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    text = text.removesuffix("\n").removesuffix("\n...").strip()
    if not text or text == "''":
        return ""
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT and "\n" not in text and "`" not in text else "see defaults"


def kind_of(option: dict[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    if option.get("elements"):
        kind += f" of {option['elements']}"
    return kind


def table(role: Path) -> str:
    """The generated part of a role's README."""
    main = load(role / "meta" / "argument_specs.yml")["argument_specs"].get("main") or {}
    defaults: dict[str, Any] = {}
    for path in sorted([*role.glob("defaults/main.yml"), *role.glob("defaults/main/*.yml")]):
        defaults.update(load(path))
    lines = [BEGIN, "", "## Variables", ""]
    options = main.get("options") or {}
    if options:
        lines += ["| variable | type | default | |", "| --- | --- | --- | --- |"]
    else:
        lines += ["None of its own."]
    for name, option in sorted(options.items()):
        says = plain(option.get("description", ""))
        if option.get("choices"):
            says += f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}."
        value = "required" if option.get("required") else default_of(defaults.get(name))
        lines.append(f"| `{name}` | {kind_of(option)} | {value} | {says} |")
    return "\n".join([*lines, "", END]) + "\n"


def rewritten(text: str, generated: str) -> str:
    """A README with its generated part replaced, or appended where it has none."""
    before, begin, rest = text.partition(BEGIN)
    after = rest.partition(END)[2].lstrip("\n") if begin else ""
    # What the table says now need not be pointed to.
    before = re.sub(r"\n+All variables: `ansible-doc [^\n]*\n*$", "\n", before)
    return before.rstrip("\n") + "\n\n" + generated + (f"\n{after}" if after else "")


def main() -> int:
    write = "--write" in sys.argv
    given = [argument for argument in sys.argv[1:] if argument != "--write"]
    roles = sorted(Path(given[0] if given else "roles").glob("*/meta/argument_specs.yml"))
    stale = []
    for specs in roles:
        readme = specs.parents[1] / "README.md"
        text = readme.read_text(encoding="utf-8")
        wanted = rewritten(text, table(specs.parents[1]))
        if text != wanted:
            stale.append(readme)
            if write:
                readme.write_text(wanted, encoding="utf-8")
    for readme in stale:
        print(
            f"{readme}: {'written' if write else 'is not what its argument specs say: tests/lint/role_docs.py --write'}"
        )
    if not roles:
        print("there are no roles")
    return 1 if not roles or (stale and not write) else 0


if __name__ == "__main__":
    sys.exit(main())
