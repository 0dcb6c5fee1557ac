"""tests/lint/argument_specs.py finds every way in which defaults and argument_specs can part."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "lint" / "argument_specs.py"

SPECS = """\
argument_specs:
  main:
    options:
      r_port: {type: int, default: 1}
      r_name: {type: str, required: true}
"""


@pytest.fixture
def role(tmp_path):
    role = tmp_path / "roles" / "r"
    for folder in ("defaults", "meta"):
        (role / folder).mkdir(parents=True)
    (role / "README.md").write_text("# r\n")
    (role / "defaults" / "main.yml").write_text("r_port: 1\n_r_private: 2\n")
    (role / "meta" / "argument_specs.yml").write_text(SPECS)
    return role


def run(role):
    ran = subprocess.run([sys.executable, SCRIPT, role.parent], capture_output=True, text=True)
    return ran.returncode, ran.stdout


def test_agreement(role):
    assert run(role) == (0, "1 roles: defaults and argument_specs agree\n")


def test_defaults_in_a_directory(role):
    (role / "defaults" / "main.yml").unlink()
    (role / "defaults" / "main").mkdir()
    (role / "defaults" / "main" / "a.yml").write_text("r_port: 1\n")
    (role / "defaults" / "main" / "b.yml").write_text("r_other: 1\n")
    code, out = run(role)
    assert code == 1
    assert "argument_specs.yml: has no 'r_other'" in out
    assert "r_port" not in out


def test_option_without_default(role):
    (role / "defaults" / "main.yml").write_text("_r_private: 2\n")
    code, out = run(role)
    assert code == 1
    assert "/defaults: has no 'r_port'" in out
    assert "r_name" not in out  # required: has no default


def test_readme_and_specs_are_asked_for(role):
    (role / "README.md").unlink()
    (role / "meta" / "argument_specs.yml").unlink()
    code, out = run(role)
    assert code == 1
    assert "has no README.md" in out
    assert "has no meta/argument_specs.yml" in out


def test_no_roles_is_a_failure(tmp_path):
    (tmp_path / "roles" / "r").parent.mkdir()
    code, out = run(tmp_path / "roles" / "r")
    assert code == 1
    assert "holds no role" in out
