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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test module that names `testinfra_hosts` is about those alone, also where a scenario has more."""
    wanted = []
    for item in items:
        only = getattr(item.module, "testinfra_hosts", None)
        if only is None or item.callspec.params["_testinfra_host"].backend.get_pytest_id() in only:
            wanted.append(item)
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted
