# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a host puts repositories of one name, by the modules that a run calls: their numbers, then their files."""

import sys
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import tiny as tiny_model
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import resolve
from run_module import run

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "standins"))
import hub as standin  # noqa: E402


@pytest.fixture
def host(tmp_path):
    """What a run does with a repository: `(entry, result of the fetch)`. Two owners have a model of one name."""
    for owner, architecture in (("first", "qwen2"), ("second", "deepseek_v3")):
        tiny_model.write(architecture, str(tmp_path / "hub" / owner / "model"))
    with standin.served(tmp_path / "hub") as hub:
        about = {"models_dir": str(tmp_path / "models"), "source_order": ["huggingface"]}
        about["mirrors"] = {"huggingface": [hub.url]}

        def up(name, check=False):
            found = run("model_numbers", dict(about, model=resolve({}, {}, name)))
            assert not found.get("failed"), found
            return found["model"], run("model_fetch", dict(about, model=found["model"]), check)

        yield up


def test_two_owners_models_of_one_name(host, tmp_path):
    first, fetched = host("first/model")
    assert fetched["changed"] and fetched["model_files"]["path"] == str(tmp_path / "models/first--model/main")
    assert (fetched["model_files"]["name"], first["architecture"]["name"]) == ("model", "qwen2")
    second, fetched = host("second/model")
    assert fetched["changed"] and fetched["model_files"]["path"] == str(tmp_path / "models/second--model/main")
    assert second["architecture"]["name"] == "deepseek_v3"
    for name in ("first/model", "second/model"):
        assert not host(name)[1]["changed"] and not host(name, check=True)[1]["changed"]
