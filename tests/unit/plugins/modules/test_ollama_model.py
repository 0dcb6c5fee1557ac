# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Against the stand-in Ollama of tests/standins, run from its release archive as the real one would be."""

import hashlib
import json
import os
import re
import signal
import sys
import time
import urllib.request
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "module_utils" / "gguf")]
sys.path.append(str(Path(__file__).parents[3] / "standins"))
import gguf_files
import run_module
from ollama_process import Ollama
from standin_supervisor import StandinSupervisor

TEMPLATE = "<｜User｜>{{ .System }} {{ .Prompt }}<｜Assistant｜>"
PARAMETERS = {"num_gpu": 4, "num_ctx": 8192, "temperature": 0.6, "stop": ["<｜User｜>"]}


def write_model(path, filling=b"x"):
    """A whole GGUF file of a model with 3 layers, of 1 MiB and a little."""
    count = 262144
    pairs = [
        gguf_files.KV(b"general.architecture", 8, b"llama"),
        gguf_files.KV(b"llama.block_count", 4, 3),
    ]
    path.write_bytes(gguf_files.build(pairs, [gguf_files.T(b"weights", (count,), 0, filling * 4 * count)]))
    return path


@pytest.fixture
def ollama(tmp_path):
    server = Ollama(tmp_path, "0.24.0").start()
    yield server
    server.stop()


@pytest.fixture
def call(ollama, tmp_path):
    """Run the module on the model `r1`, made of model.gguf unless told otherwise."""

    def arguments(**more):
        given = {"name": "r1", "url": ollama.url, "state_file": str(tmp_path / "notes.json"), **more}
        if given.get("state") != "absent" and "pull" not in given:
            given.setdefault("path", str(tmp_path / "model.gguf"))
        return given

    def call(check=False, **more):
        return run_module.run("ollama_model", arguments(**more), check)

    call.arguments = arguments
    write_model(tmp_path / "model.gguf")
    return call


def size_of(path):
    return path.stat().st_size


def test_create_then_nothing_then_a_changed_modelfile(call, ollama, tmp_path):
    first = call(parameters=PARAMETERS, template=TEMPLATE, system="Be brief.", license=["MIT"])
    assert (first["changed"], first["differences"]) == (True, ["model"])
    assert first["hashed_bytes"] == first["uploaded_bytes"] == size_of(tmp_path / "model.gguf")
    sha256 = hashlib.sha256((tmp_path / "model.gguf").read_bytes()).hexdigest()
    assert f"sha256-{sha256}" in ollama.blobs()
    assert first["diff"]["after"].startswith(f"FROM sha256:{sha256}\nPARAMETER num_ctx 8192\n")

    again = call(parameters=PARAMETERS, template=TEMPLATE, system="Be brief.", license=["MIT"])
    assert (again["changed"], again["hashed_bytes"], again["uploaded_bytes"]) == (False, 0, 0)
    assert again["digest"] == first["digest"]

    changed = call(parameters=dict(PARAMETERS, num_gpu=2), template=TEMPLATE, system="Be brief.", license=["MIT"])
    assert (changed["changed"], changed["differences"]) == (True, ["parameter num_gpu"])
    # Neither hashed nor sent again: the server has the blob.
    assert (changed["hashed_bytes"], changed["uploaded_bytes"]) == (0, 0)
    assert "-PARAMETER num_gpu 4" not in changed["diff"]["after"]
    assert "PARAMETER num_gpu 2" in changed["diff"]["after"]

    # What is no longer asked for is taken out again.
    less = call(parameters={"num_ctx": 8192})
    assert (less["changed"], less["differences"]) == (True, ["Modelfile"])
    assert "SYSTEM" not in less["diff"]["after"]
    assert call(parameters={"num_ctx": 8192})["changed"] is False


def test_check_mode_tells_and_does_nothing(call, ollama):
    would = call(check=True, parameters=PARAMETERS)
    assert (would["changed"], would["hashed_bytes"], ollama.blobs()) == (True, 0, [])
    assert "digest is not known yet" in would["diff"]["after"]
    call(parameters=PARAMETERS)
    blobs = ollama.blobs()
    assert call(check=True, parameters=PARAMETERS)["changed"] is False
    would = call(check=True, parameters={"num_ctx": 1024})
    assert (would["changed"], would["differences"]) == (True, ["parameter num_ctx"])
    assert ollama.blobs() == blobs
    assert call(check=True, state="absent")["changed"] is True
    assert ollama.blobs() == blobs


def test_check_mode_on_a_bare_host(call, ollama, tmp_path):
    ollama.stop()
    would = call(check=True, path=str(tmp_path / "not-yet.gguf"))
    assert (would["changed"], "refused" in str(would["warnings"])) == (True, True)
    assert "failed" not in call(check=True, state="absent")
    assert "connection refused" in call()["msg"]


def test_another_file_of_the_same_name_is_another_model(call, tmp_path):
    first = call()
    write_model(tmp_path / "model.gguf", b"y")
    second = call()
    assert (second["changed"], second["differences"]) == (True, ["weights"])
    assert second["digest"] != first["digest"]


def test_a_lost_note_costs_a_hash_and_changes_nothing(call, tmp_path):
    call(parameters=PARAMETERS)
    (tmp_path / "notes.json").unlink()
    again = call(parameters=PARAMETERS)
    assert (again["changed"], again["uploaded_bytes"]) == (False, 0)
    assert again["hashed_bytes"] == size_of(tmp_path / "model.gguf")


def test_the_models_store_knows_the_digest(call, tmp_path):
    path = tmp_path / "model.gguf"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    stat = path.stat()
    item = {"path": path.name, "bytes": stat.st_size, "sha256": sha256, "mtime_ns": stat.st_mtime_ns}
    manifest = {"version": 1, "name": "r1", "format": "gguf", "source": {}, "files": [item]}
    (tmp_path / ".dsdeploy-manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert (call()["hashed_bytes"], call()["changed"]) == (0, False)


def test_an_upload_that_is_cut_is_begun_again_by_the_next_run(call, ollama, tmp_path):
    ollama.restart(STANDIN_OLLAMA_CUT_UPLOADS="300000")
    cut = call()
    assert cut["failed"]
    assert "cut" in cut["msg"] or "closed" in cut["msg"]
    assert ollama.blobs() == []
    ollama.restart()
    done = call()
    assert (done["changed"], done["hashed_bytes"]) == (True, 0)
    assert done["uploaded_bytes"] == size_of(tmp_path / "model.gguf")


def test_killed_in_the_middle_of_an_upload(call, ollama, tmp_path):
    ollama.restart(STANDIN_OLLAMA_UPLOAD_RATE="200000")
    module = run_module.start("ollama_model", call.arguments())
    deadline = time.monotonic() + 30
    while not any(re.fullmatch(r"sha256-.{1,20}", name) for name in ollama.blobs()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(module.pid, signal.SIGKILL)
    module.communicate()
    ollama.restart(signal.SIGKILL)
    assert any(len(name) < 71 for name in ollama.blobs())
    done = call(models_dir=str(ollama.models))
    assert (done["changed"], done["hashed_bytes"]) == (True, 0)
    # The server keeps what the upload before left; it is removed before the next one, where the store is named.
    assert "an interrupted upload left it" in str(done["warnings"])
    assert all(len(name) == 71 for name in ollama.blobs())


def test_a_server_that_restarts_has_the_model_still(call, ollama):
    first = call(parameters=PARAMETERS, load=True)
    ollama.restart()
    again = call(parameters=PARAMETERS, load=True)
    assert (again["changed"], again["digest"]) == (False, first["digest"])
    assert again["loaded"]["name"] == "r1:latest"


def test_a_wrong_digest_is_the_servers_error(call, ollama):
    wrong = call(sha256="0" * 64, models_dir=str(ollama.models))
    assert "digest mismatch" in wrong["msg"]
    assert ollama.blobs() == []  # the server itself keeps what came


def test_all_on_the_gpus_as_predicted(call, ollama):
    ollama.restart(STANDIN_OLLAMA_GPU_LAYERS="4")
    result = call(parameters={"num_gpu": 4}, load=True, cpu_share=0, layers=4)
    assert result["loaded"]["size_vram"] == result["loaded"]["size"]


def test_a_share_on_the_cpu_that_was_not_predicted_fails_with_its_reason(call, ollama):
    ollama.restart(STANDIN_OLLAMA_GPU_LAYERS="4")
    result = call(parameters={"num_gpu": 1}, load=True, cpu_share=0, layers=4)
    assert (result["failed"], result["error_kind"]) == (True, "verify")
    assert "75 % of r1:latest" in result["msg"]
    assert "num_gpu puts 1 of 4 layers" in result["msg"]
    # Again and again: the check is not about what was changed.
    assert call(parameters={"num_gpu": 1}, load=True, cpu_share=0, layers=4)["failed"]
    assert call(parameters={"num_gpu": 1}, load=True, cpu_share=0.75, layers=4)["changed"] is False
    ollama.restart()
    assert "Ollama uses no GPU" in call(parameters={"num_gpu": 4}, load=True, cpu_share=0, layers=4)["msg"]


def test_a_model_that_is_not_kept_is_said(call, ollama):
    ollama.restart(OLLAMA_KEEP_ALIVE="0")
    assert "unloaded again at once" in call(load=True)["msg"]


def loaded_names(ollama):
    with urllib.request.urlopen(ollama.url + "/api/ps", timeout=20) as reply:
        return [one["name"] for one in json.loads(reply.read())["models"]]


def test_what_is_judged_is_what_was_loaded_after_the_change(call, ollama):
    """A create does not unload: the server goes on with the runner of before."""
    ollama.restart(OLLAMA_KEEP_ALIVE="-1", STANDIN_OLLAMA_GPU_LAYERS="4")
    call(parameters={"num_ctx": 2048, "num_gpu": 1}, load=True)
    more = call(parameters={"num_ctx": 4096, "num_gpu": 1}, load=True)
    assert (more["loaded"]["digest"], more["loaded"]["context_length"]) == (more["digest"], 4096)
    # All layers on the GPUs, whether asked for by a number or left to the server, which does not reload for that.
    for parameters in ({"num_gpu": 4}, {"num_gpu": 1}, {}):
        whole = call(parameters=parameters, load=True, cpu_share=0 if parameters != {"num_gpu": 1} else 1, layers=4)
        assert "failed" not in whole, whole
    assert whole["loaded"]["size_vram"] == whole["loaded"]["size"]
    again = call(load=True, cpu_share=0, layers=4, probe=True)
    assert (again["complete"], again["loaded"]["digest"]) == (True, whole["loaded"]["digest"])


def test_a_changed_text_needs_no_other_runner_and_is_done_once(call, ollama):
    ollama.restart(OLLAMA_KEEP_ALIVE="-1")
    first = call(parameters={"num_ctx": 2048}, load=True)
    changed = call(parameters={"num_ctx": 2048}, system="Be brief.", load=True)
    # The server shows the digest that the runner was started for.
    assert changed["loaded"]["digest"] == first["digest"] != changed["digest"]
    assert call(parameters={"num_ctx": 2048}, system="Be brief.", load=True, probe=True)["complete"]


def test_loaded_with_other_options_by_somebody_else(call, ollama):
    ollama.restart(OLLAMA_KEEP_ALIVE="-1")
    call(parameters={"num_ctx": 2048}, load=True)
    body = json.dumps({"model": "r1", "options": {"num_ctx": 512}, "stream": False}).encode()
    urllib.request.urlopen(urllib.request.Request(ollama.url + "/api/generate", body), timeout=20).close()
    assert call(parameters={"num_ctx": 2048}, load=True, probe=True)["complete"] is False
    result = call(parameters={"num_ctx": 2048}, load=True)
    assert (result["changed"], result["loaded"]["context_length"]) == (False, 2048)


def test_a_new_name_for_the_same_weights(call, ollama, tmp_path):
    ollama.restart(OLLAMA_KEEP_ALIVE="-1")
    call(parameters=PARAMETERS, load=True, of="deepseek")
    renamed = call(name="r2", parameters=PARAMETERS, load=True, models_dir=str(ollama.models))
    assert renamed["loaded"]["name"] == "r2:latest"
    assert loaded_names(ollama) == ["r2:latest"]
    # The old one stays, and is named. All its blobs are those of the new one.
    assert renamed["copies"] == [{"name": "r1:latest", "bytes": 0, "ours": True}]
    assert "still holds what dsdeploy made earlier: r1:latest" in str(renamed["warnings"])
    # Also where the old name was deleted while it was loaded.
    delete = urllib.request.Request(ollama.url + "/api/delete", b'{"model": "r2"}', method="DELETE")
    urllib.request.urlopen(delete, timeout=20).close()
    assert call(name="r3", parameters=PARAMETERS, load=True)["loaded"]["name"] == "r3:latest"


def test_absent_unloads(call, ollama):
    ollama.restart(OLLAMA_KEEP_ALIVE="-1")
    call(load=True)
    call(state="absent")
    assert loaded_names(ollama) == []


def test_a_stop_string_with_a_control_character(call):
    wanted = {"stop": ["\x07", "\u200b", 'a "b"\n', "\\x41"], "seed": 1234567890, "num_ctx": 2097152}
    assert call(parameters=wanted)["changed"]
    assert call(parameters=wanted)["changed"] is False


def test_a_parameter_that_came_later_is_refused(call):
    result = call(parameters={"draft_num_predict": 4})
    assert "Ollama 0.24.0 ignores draft_num_predict, which came with 0.30.0" in result["msg"]
    assert result["error_kind"] == "usage"


@pytest.mark.parametrize(
    "broken", ["", "[]", "5", "null", '{"files": 1, "models": []}', '{"models": {"x": 1}, "f', "\x00"]
)
def test_a_broken_note_is_none(call, tmp_path, broken):
    call(parameters=PARAMETERS)
    (tmp_path / "notes.json").write_text(broken, encoding="utf-8")
    again = call(parameters=PARAMETERS)
    assert again["changed"] is False
    assert json.loads((tmp_path / "notes.json").read_text(encoding="utf-8"))["models"]


def test_a_server_that_comes_late_is_waited_for(call, ollama):
    ollama.stop()
    module = run_module.start("ollama_model", call.arguments(start_timeout=60))
    time.sleep(0.5)
    ollama.start()
    assert run_module.finish(module)["changed"]


def test_a_service_that_keeps_dying_is_told_at_once_with_its_log(call, ollama, tmp_path):
    ollama.stop()
    log = tmp_path / "service.log"
    log.write_text("Error: listen tcp: permission denied\n", encoding="utf-8")
    with StandinSupervisor(tmp_path) as supervisord:
        supervisord.says("dsdeploy-ollama", "FATAL", "Exited too quickly")
        started = time.monotonic()
        result = call(
            start_timeout=600,
            service={"name": "dsdeploy-ollama", "manager": "supervisor", "log": str(log)},
            supervisor_config=str(supervisord.config),
        )
    assert time.monotonic() - started < 60
    assert "dsdeploy-ollama: the service is failed: FATAL Exited too quickly" in result["msg"]
    assert (result["error_kind"], result["log_tail"]) == ("verify", ["Error: listen tcp: permission denied"])


def test_pull_as_it_is_and_made_anew(call, ollama, tmp_path):
    write_model(tmp_path / "base.gguf")
    ollama.restart(STANDIN_OLLAMA_REGISTRY=str(tmp_path))
    assert call(name="base", pull="base")["changed"]
    assert call(name="base", pull="base")["changed"] is False
    assert call(pull="base", parameters={"num_ctx": 512})["changed"]
    assert call(pull="base", parameters={"num_ctx": 512})["changed"] is False
    assert "file does not exist" in call(name="other", pull="other")["msg"]


def test_absent(call, ollama):
    call()
    assert call(state="absent")["changed"]
    assert ollama.blobs() == []
    assert call(state="absent")["changed"] is False


def test_from_0_30_on_the_weights_are_written_anew(tmp_path):
    server = Ollama(tmp_path, "0.30.0").start()
    try:
        write_model(tmp_path / "model.gguf")
        arguments = {"name": "r1", "url": server.url, "path": str(tmp_path / "model.gguf")}
        arguments["state_file"] = str(tmp_path / "notes.json")
        first = run_module.run("ollama_model", arguments)
        assert first["changed"]
        again = run_module.run("ollama_model", arguments)
        assert (again["changed"], again["hashed_bytes"], again["uploaded_bytes"]) == (False, 0, 0)
        write_model(tmp_path / "model.gguf", b"y")
        assert run_module.run("ollama_model", arguments)["differences"] == ["weights"]
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"parameters": {"num_gpus": 1}}, "did you mean num_gpu"),
        ({"name": "a b"}, "is not a model's name"),
        ({"url": "ftp://x"}, "is not a base URL"),
        ({"path": "/nonexistent.gguf"}, "/nonexistent.gguf does not exist"),
    ],
)
def test_bad_input_is_one_clear_line(call, arguments, why):
    result = call(**arguments)
    assert why in result["msg"]
    assert result["hint"]
    assert result["error_kind"] in ("usage", "preflight")


def test_what_is_no_gguf_is_refused(call, tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "git-lfs pointer" in call()["msg"]


def test_the_probe_changes_nothing(call, ollama):
    assert (call(probe=True)["complete"], ollama.blobs()) == (False, [])
    call(load=True)
    assert call(probe=True, load=True)["complete"]
    ollama.restart()
    assert call(probe=True, load=True)["complete"] is False  # it has to be loaded again


def made_by_its_user(ollama, tmp_path):
    """A model r1 that somebody has made of other weights, without dsdeploy."""
    write_model(tmp_path / "theirs.gguf", b"z")
    arguments = {"name": "r1", "url": ollama.url, "path": str(tmp_path / "theirs.gguf")}
    return run_module.run("ollama_model", dict(arguments, state_file=str(tmp_path / "theirs.json")))["digest"]


@pytest.mark.parametrize("check", [False, True])
def test_a_model_that_its_user_has_made_is_not_replaced(call, ollama, tmp_path, check):
    digest = made_by_its_user(ollama, tmp_path)
    blobs = ollama.blobs()
    result = call(check)
    assert result["msg"] == "Ollama has a model r1 already, which dsdeploy has not made (it differs in: weights)"
    assert "ollama_served_model_name" in result["hint"]
    assert ollama.blobs() == blobs
    again = run_module.run("ollama_model", {"name": "r1", "url": ollama.url, "path": str(tmp_path / "theirs.gguf"),
                                            "state_file": str(tmp_path / "theirs.json")})  # fmt: skip
    assert (again["changed"], again["digest"]) == (False, digest)
    # By another name it is served beside it.
    assert call(name="r1-dsdeploy")["changed"]


def test_what_is_ours_stays_ours_at_another_port_and_after_a_run_that_was_cut(call, ollama, tmp_path):
    call(parameters=PARAMETERS)
    notes = json.loads((tmp_path / "notes.json").read_text(encoding="utf-8"))
    ((key, note),) = notes["models"].items()
    # Of a run that was cut there is no more than the name.
    for system, models in (("Be brief.", {"http://127.0.0.1:1 r1:latest": note}), ("Be clear.", {key: {"of": None}})):
        (tmp_path / "notes.json").write_text(json.dumps(dict(notes, models=models)), encoding="utf-8")
        assert call(system=system)["changed"]
