# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module preflight as a program: what it makes of its options."""

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
