# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module preflight as a program: what it makes of its options."""

import os
import socket

import pytest


@pytest.mark.parametrize("given", ["~/llm", "$HOME/llm", "${HOME}/llm"])
def test_a_directory_below_the_home_is_the_one_that_is_used(run_module, monkeypatch, tmp_path, given):
    """All other modules take it so: else each run notes anew what it is going to make, and no way there is checked."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    found = run_module("preflight", prefix="llama_cpp", reach=[given])
    assert found["missing_directories"] == [str(home / "llm")]
    (home / "llm").mkdir()
    home.chmod(0o700)
    found = run_module("preflight", prefix="llama_cpp", reach=[given], user="daemon")
    assert found["missing_directories"] == []
    assert any("daemon" in problem["msg"] and str(tmp_path) in problem["msg"] for problem in found["problems"]), found


def test_an_address_of_another_host_is_refused(run_module):
    found = run_module("preflight", prefix="llama_cpp", host="192.0.2.77", has_api_key=True, has_tls=True)
    (problem,) = found["problems"]
    assert problem["msg"].startswith("llama_cpp_host is 192.0.2.77, which is no address of this host (")
    assert problem["kind"] == "usage"
    for host in ("127.0.0.1", "0.0.0.0", "localhost"):
        assert run_module("preflight", prefix="llama_cpp", host=host, has_api_key=True, has_tls=True)["problems"] == []


def test_a_further_port_that_is_taken_is_named_by_its_variable(run_module):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = run_module("preflight", prefix="gateway", ports=[{"variable": "gateway_metrics_port", "port": port}])
    (problem,) = found["problems"]
    assert f"port {port} is taken by " in problem["msg"] and "gateway_metrics_port" in problem["hint"]


@pytest.mark.parametrize("kind", ["gguf", "safetensors"])
def test_each_file_of_a_model_of_the_hosts_own_must_be_readable(run_module, tmp_path, kind):
    """Not its first alone: else it is found out when the engine has loaded that far."""
    if os.getuid() != 0:
        pytest.skip("needs root: another user's access")
    open_to_all(tmp_path)
    folder = tmp_path / "model"
    (folder / "more").mkdir(parents=True)
    names = [f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    if kind == "safetensors":
        names = ["config.json", "model-00001-of-00002.safetensors", "more/model-00002-of-00002.safetensors"]
    for name in names:
        (folder / name).write_bytes(b"")
        (folder / name).chmod(0o644)
    for path in (folder, folder / "more"):
        path.chmod(0o755)
    model = str(folder if kind == "safetensors" else folder / names[0])
    assert run_module("preflight", prefix="llama_cpp", user="daemon", reads=[model])["problems"] == []
    for name in names[1:]:
        (folder / name).chmod(0o600)
    (problem,) = run_module("preflight", prefix="llama_cpp", user="daemon", reads=[model])["problems"]
    first = f"{folder}/{names[1]}"
    assert problem["msg"] == (
        f"{first} and 1 more of its files: the engine's user daemon cannot read {first} (mode 0600)"
    )
    assert problem["hint"] == f"Let other users read it, for example: chmod o+r {folder}/{names[1]}"


def open_to_all(path):
    """Others may pass to a test's own directory."""
    while path != path.parent and path.stat().st_uid == os.getuid() and str(path) != "/tmp":
        path.chmod(path.stat().st_mode | 0o755)
        path = path.parent


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("manager", ["systemd", "supervisor"])
@pytest.mark.parametrize("which", ["install_dir", "data_dir", "log_dir", "dirs", "write_paths", "environment_file"])
def test_no_place_of_roots_lies_where_somebody_else_can_change_it(run_module, tmp_path, which, manager):
    """Root runs launcher.py, writes logs and gives directories away there: with another file in its place, his."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    about = {"engine": "vllm", "service": "dsdeploy-none-such", "manager": manager}
    about.update((name, str(tmp_path / name)) for name in ("install_dir", "data_dir", "log_dir"))
    value = str(theirs / "of" / "ours")
    about[which] = [value] if which in ("dirs", "write_paths") else value
    assert run_module("preflight", prefix="vllm_venv", deployment=about, install_dir="/opt/x")["problems"] == []
    os.chown(theirs, 1, 1)
    problems = run_module("preflight", prefix="vllm_venv", deployment=about, install_dir="/opt/x")["problems"]
    if which == "log_dir" and manager == "systemd":
        assert problems == []  # the journal is elsewhere
        return
    (problem,) = problems
    assert f"on the way is {theirs}, where its owner daemon can put" in problem["msg"], problem
    assert problem["hint"].startswith(f"chown root:root {theirs}; chmod go-w {theirs}; or choose a directory")
    assert problem["kind"] == "preflight"


def test_the_models_place_in_the_store_is_noted(run_module, tmp_path):
    about = {"engine": "vllm", "service": "dsdeploy-none-such", "manager": "systemd", "models_dir": "/srv/models"}
    about.update((name, str(tmp_path / name)) for name in ("install_dir", "data_dir", "log_dir"))
    model = {"name": "it", "place": "owner--it"}
    found = run_module("preflight", prefix="vllm_venv", deployment=dict(about, model=model))
    assert found["begun"]["model"] == "/srv/models/owner--it"
    found = run_module("preflight", prefix="vllm_venv", deployment=dict(about, model=dict(model, path="/w/it")))
    assert found["begun"]["model"] is None
