# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a job needs no server; the rest is in test_ollama_model.py."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import ollama_job
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama import Modelfile, expected_context
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama_api import Api
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


@pytest.fixture
def job(tmp_path):
    (tmp_path / "blobs").mkdir()
    params = {"name": "r1", "probe": False, "state_file": str(tmp_path / "notes"), "models_dir": str(tmp_path)}
    warned = []
    found = ollama_job.Job(params, Api("http://127.0.0.1:1"), Modelfile({}), None, warned.append, False)
    found.warned = warned
    return found


def test_leftovers_make_room_before_the_disk_is_found_full(job, tmp_path, monkeypatch):
    left = tmp_path / "blobs/sha256-4238228364"
    left.write_bytes(bytes(3 << 20))
    monkeypatch.setattr(ollama_job, "space", lambda _path: ("/data", 1 << 20 if left.exists() else 4 << 20))
    job._make_room(4 << 20)
    assert job.warned == [f"{left} is removed: an interrupted upload left it (3.0 MiB)"]
    short = r"not enough disk space on /data: 5.0 MiB needed \(Ollama's copy in .*\), 4.0 MiB free, 1.0 MiB too few"
    with pytest.raises(Failure, match=short):
        job._make_room(5 << 20)


@pytest.mark.parametrize(
    ("asked", "trained", "loaded"),
    [
        ("num_ctx 8192", 4096, 4096),
        ("num_ctx 2048", 4096, 2048),
        ("num_ctx 1.048576e+06", None, 1048576),
        ("", 4096, None),
    ],
)
def test_the_context_that_a_model_is_loaded_with(asked, trained, loaded):
    info = {"general.architecture": "llama", "llama.context_length": trained}
    assert expected_context({"parameters": asked, "model_info": info}) == loaded
