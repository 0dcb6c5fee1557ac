# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module adds to an entry, and that it says where it can tell nothing."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import tiny as tiny_model
from run_module import run


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_directory_of_the_user_s_own(tmp_path, check_mode):
    tiny_model.write("qwen2", str(tmp_path / "mine"))
    entry = {"name": "mine", "sources": [{"kind": "path", "path": str(tmp_path / "mine")}], "format": "safetensors"}
    result = run("model_numbers", {"model": entry, "models_dir": str(tmp_path / "store")}, check_mode)
    assert (result["changed"], result["problems"]) == (False, [])
    assert result["model"]["architecture"]["layers"] == 2
    assert {key: result["model"][key] for key in entry} == entry


@pytest.mark.parametrize("module", ["model_numbers", "model_fetch"])
def test_where_models_are_fetched_from_says_nothing_of_one_that_is_there(tmp_path, module):
    # Inventory ctyun names two hubs: a path was "not offered by modelscope, huggingface".
    tiny_model.write("qwen2", str(tmp_path / "mine"))
    entry = {"name": "mine", "sources": [{"kind": "path", "path": str(tmp_path / "mine")}], "format": "safetensors"}
    arguments = {"model": entry, "models_dir": str(tmp_path / "store"), "source_order": ["modelscope", "huggingface"]}
    result = run(module, arguments)
    assert not result.get("failed"), result
    assert "path" in result.get("model", {}).get("sources", [{}])[0] or result["model_files"]["path"] == str(
        tmp_path / "mine"
    )


def test_it_warns_where_nothing_can_be_told(tmp_path):
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    entry = {"name": "mine", "format": "gguf", "sources": [{"kind": "path", "path": str(tmp_path / "mine.gguf")}]}
    result = run("model_numbers", {"model": entry, "models_dir": str(tmp_path)})
    assert result["model"] == entry
    # A text, or with it more about it (ansible-core 2.19).
    assert "model mine: its memory is not checked before it is fetched: mine.gguf is cut off" in str(result["warnings"])
