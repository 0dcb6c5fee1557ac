"""Each engine: deployed, again, stopped and purged, on both hosts at once; what is there before and after."""

import functools
import os
from pathlib import Path

import pytest
from _unfriendly import KEY, changed, dsdeploy, looks, new, nothing_was_made, problems, sockets, story

RELEASE = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "release"
COMMON = {"dsdeploy_answer_max_tokens": 64, "dsdeploy_api_key": KEY}
ENGINES = {
    "ollama": {
        "dsdeploy_model": "smollm2-135m-instruct",
        "ollama_archive": str(RELEASE / "ollama-linux-amd64.tar.zst"),
        "ollama_sha256": (RELEASE / "sha256sum.txt").read_text().split()[0] if RELEASE.exists() else "",
    },
    "vllm": {
        "vllm_venv_find_links": ["/srv/wheels"],
        "vllm_venv_max_model_len": 2048,
        "vllm_venv_max_num_seqs": 32,
        "vllm_venv_environment": {"VLLM_CPU_CI_ENV": "1"},
        "vllm_venv_host": "::1",
    },
    "sglang": {
        "sglang_find_links": ["/srv/wheels"],
        "sglang_allow_vulnerable": True,
        "sglang_environment": {"OMP_NUM_THREADS": "1"},
    },
}


@functools.cache
def told_of(engine):
    """Once an engine: pytest makes a fixture again where it puts the tests of each host together."""
    return story(**COMMON, **ENGINES[engine], dsdeploy_engine=engine)


@pytest.fixture(params=ENGINES)
def told(request):
    return request.param, told_of(request.param)


def test_what_is_refused_before_anything_is_made():
    before = looks()
    mine = {**COMMON, **ENGINES["ollama"], "dsdeploy_engine": "ollama", "ollama_user": "ollama"}
    code, summary, _text = dsdeploy("up", **mine)
    assert code != 0
    for message in problems(summary).values():
        assert "the user ollama exists and is a person's account" in message and "\n" not in message
    code, summary, _text = dsdeploy("up", **dict(COMMON, dsdeploy_engine="vllm", dsdeploy_api_key="two words"))
    assert code != 0
    for message in problems(summary).values():
        assert "vllm_venv_api_key: the API key holds a space" in message and "\n" not in message
    nothing_was_made(before)


def test_it_is_deployed_answers_and_changes_nothing_again(told):
    _engine, found = told
    code, summary, _text = found["up"]
    assert (code, problems(summary)) == (0, {})
    assert all(host["answers"] for host in summary["hosts"].values())
    code, summary, _text = found["again"]
    assert code == 0 and set(map(tuple, changed(summary).values())) == {()}


def test_every_socket_is_of_loopback(host, told):
    engine, found = told
    lines = sockets(new(found, "up", host.backend.get_hostname()))
    assert lines
    for line in lines:
        address = line.split()[2].rpartition(":")[0].partition("%")[0]
        assert address.strip("[]").startswith(("127.", "::1")), (engine, lines)


def test_stopped_nothing_runs_or_listens(host, told):
    engine, found = told
    left = new(found, "down", host.backend.get_hostname())
    assert sockets(left) == [] and f"runs dsdeploy-{engine}" not in left


def test_purged_it_is_as_it_was_but_for_what_is_named(host, told):
    engine, found = told
    assert found["purge"][0] == 0
    name = host.backend.get_hostname()
    left = new(found, "purge", name)
    # Ollama's store stays with what others have made in it.
    assert {line for line in left if not line.startswith(("/data/models", "/data/llm"))} == set(), (engine, left)
    assert found["bare"][name] - found["after purge"][name] == set()
