"""Refused before anything is fetched, then deployed, again, stopped and purged: what is there before and after."""

import json

import pytest
from _play import hosts
from _unfriendly import KEY, changed, dsdeploy, looks, new, nothing_was_made, problems, said, sockets, story

DEPLOY = {
    "dsdeploy_engine": "llama_cpp",
    "dsdeploy_model": "smollm2-135m-instruct",
    "dsdeploy_answer_max_tokens": 32,
    "dsdeploy_api_key": KEY,
    "llama_cpp_install_method": "wheel",
    "llama_cpp_threads": 1,
    "llama_cpp_host": "::1",
    "llama_cpp_user": "llama",
}
BOTH = ("unfriendly-systemd", "unfriendly-supervisor")


@pytest.fixture(scope="module")
def told():
    """All of it, in order, on both hosts at once."""
    before = looks()
    found = {"closed": dsdeploy("up", **DEPLOY)}
    nothing_was_made(before)
    for host in hosts().values():
        said(host, "chmod 0711 /data")
    return {**found, **story(**DEPLOY)}


def test_what_is_refused_before_anything_is_fetched(told):
    code, summary, _text = told["closed"]
    assert code != 0
    assert set(problems(summary)) == set(BOTH)
    for message in problems(summary).values():
        assert "the engine's user llama cannot pass through /data (mode 0700)" in message and "\n" not in message


def test_it_is_deployed_and_answers(told):
    code, summary, _text = told["up"]
    assert (code, problems(summary)) == (0, {})
    for name in BOTH:
        assert summary["hosts"][name]["answers"], summary


def test_a_second_run_changes_nothing(told):
    code, summary, _text = told["again"]
    assert (code, changed(summary)) == (0, {name: [] for name in BOTH})


def test_it_listens_where_it_was_told_and_nowhere_else(host, told):
    found = new(told, "up", host.backend.get_hostname())
    assert sockets(found) == ["socket tcp [::1]:8080"]
    assert "runs llama" in found


def test_stopped_nothing_runs_or_listens(host, told):
    assert told["down"][0] == 0
    left = new(told, "down", host.backend.get_hostname())
    assert sockets(left) == [] and "runs llama" not in left
    assert "/etc/dsdeploy/deployments/llama_cpp.json" in left


def test_purged_it_is_as_it_was_but_for_the_models(host, told):
    assert told["purge"][0] == 0
    name = host.backend.get_hostname()
    assert new(told, "purge", name) == set()
    assert said(host, "ls /data /data/models").split() == ["/data:", "models", "/data/models:", "smollm2-135m-instruct"]
    # The account that was there before stays as it was, and is named; so are the model and the packages.
    assert told["bare"][name] - told["after purge"][name] == set()
    assert said(host, "getent passwd llama").endswith("/nonexistent:/usr/sbin/nologin")
    for what in ("user llama: it was there before", "/data/models/smollm2-135m-instruct", "packages libgomp1"):
        assert what in told["purge"][2]


def test_the_key_is_nowhere(told):
    for step in ("up", "again", "down", "purge"):
        assert KEY not in told[step][2] and KEY not in json.dumps(told[step][1])
