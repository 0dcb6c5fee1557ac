"""Two runs on both hosts at once: as it is, and with all that can be changed."""

import pytest
from _ollama import MODEL, call, loaded, pid_of, show
from _play import cost, deploy_all

CHANGED = {
    "ollama_keep_alive": "10m",
    "ollama_context": 4096,
    "ollama_parameters": {"temperature": 0.7, "stop": ["\a"]},
}


@pytest.fixture(scope="session")
def runs():
    return deploy_all(pid_of, "-vvv"), deploy_all(pid_of, **CHANGED)


def test_a_run_that_changes_nothing_restarts_nothing_and_is_cheap(host, runs):
    """Counted, not timed: a process on the host costs a hundred times what a result does."""
    changes, before, after = runs[0][host.backend.get_hostname()]
    assert (changes, before) == (0, after)
    processes, results = cost(runs[0][None])
    assert processes <= 12
    assert results <= 30


def test_a_changed_environment_restarts_it(host, runs):
    changes, before, after = runs[1][host.backend.get_hostname()]
    assert changes > 0
    assert after != before
    lines = [line.split(" ", 1)[1] for line in show(host)["parameters"].splitlines() if line.startswith("temp")]
    assert [line.strip() for line in lines] == ["0.7"]


def test_what_is_loaded_is_what_was_changed(host, runs):
    entry = loaded(host)
    (stored,) = call(host, "GET", "/api/tags")["models"]
    assert (entry["name"], entry["digest"]) == (MODEL + ":latest", stored["digest"])
    assert entry["context_length"] == 4096
    assert entry["expires_at"] < "2100"
