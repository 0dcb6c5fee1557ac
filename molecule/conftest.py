"""Points testinfra at the scenario's platforms, by SSH (many times faster than its Ansible backend)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml


def pytest_configure(config: pytest.Config) -> None:
    if "MOLECULE_FILE" not in os.environ:
        raise pytest.UsageError("these tests are run by molecule: molecule verify -s SCENARIO")
    # The file that molecule merges from .config/molecule/config.yml and the scenario's molecule.yml.
    scenario = yaml.safe_load(Path(os.environ["MOLECULE_FILE"]).read_text(encoding="utf-8"))
    config.option.hosts = ",".join(f"ssh://{platform['name']}" for platform in scenario["platforms"])
