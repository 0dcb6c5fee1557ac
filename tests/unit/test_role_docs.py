"""The tables of variables in the READMEs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "lint" / "role_docs.py"
SPECS = """
argument_specs:
  main:
    options:
      r_port: {type: int, description: ["Port of C(x).", "Or V(0) | none."]}
      r_name: {type: str, required: true, description: A name.}
      r_kind: {type: str, choices: [a, b], description: Its kind.}
"""


def run(roles: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *args, str(roles)], capture_output=True, text=True)


def test_the_table_is_written_and_a_change_is_found(tmp_path: Path) -> None:
    role = tmp_path / "r"
    (role / "meta").mkdir(parents=True)
    (role / "defaults").mkdir()
    specs = role / "meta" / "argument_specs.yml"
    specs.write_text(SPECS)
    (role / "defaults" / "main.yml").write_text("r_port: 80\nr_kind: a\n")
    (role / "README.md").write_text("# r\n\nText.\n\nAll variables: `ansible-doc -t role r`.\n")
    assert run(tmp_path).returncode == 1
    assert run(tmp_path, "--write").returncode == 0
    text = (role / "README.md").read_text()
    assert text.startswith("# r\n\nText.\n\n<!--") and "ansible-doc" not in text
    assert "| `r_port` | int | `80` | Port of `x`. Or `0` \\| none. |" in text
    assert "| `r_name` | str | required | A name. |" in text
    assert "| `r_kind` | str | `a` | Its kind. One of `a`, `b`. |" in text
    assert run(tmp_path).returncode == 0
    run(tmp_path, "--write")
    assert (role / "README.md").read_text() == text
    specs.write_text(SPECS.replace("A name.", "Another name."))
    done = run(tmp_path)
    assert done.returncode == 1 and "README.md" in done.stdout
