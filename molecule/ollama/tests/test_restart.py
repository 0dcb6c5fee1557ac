"""A changed environment, on both hosts at once."""

import pytest
from _ollama import pid_of
from _play import deploy_all


@pytest.fixture(scope="session")
def runs():
    return [deploy_all(pid_of, ollama_keep_alive="10m") for _run in range(2)]


def test_a_changed_environment_restarts_once(host, runs):
    first, second = (run[host.backend.get_hostname()] for run in runs)
    changes, before, after = first
    assert changes > 0
    assert after != before
    assert second == (0, after, after)
