"""What a release takes, as far as it can be known without making one."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_the_execution_environment_names_files_that_are_there() -> None:
    found = yaml.safe_load((ROOT / "meta" / "execution-environment.yml").read_text())
    assert set(found) == {"version", "dependencies"}
    for kind, name in found["dependencies"].items():
        assert kind in ("python", "system", "galaxy")
        lines = (ROOT / name).read_text().split("\n")
        assert all(re.fullmatch(r"[a-z0-9-]+( \[platform:\w+\])?", line) for line in lines if line)


def test_all_that_a_release_is_named_by_agrees() -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'^version = "(.+)"', project, re.M)[1] == galaxy["version"]
    assert galaxy["repository"] in project
    core = re.search(r'"ansible-core>=([\d.]+),', project)[1]
    requires = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    assert requires == f">={core}.0"
    # Galaxy wants a change log; it is made of the fragments.
    assert (ROOT / "CHANGELOG.md").read_text().startswith("# dsdeploy")
