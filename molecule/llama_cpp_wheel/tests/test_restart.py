"""When the service is restarted, and when not; on both hosts at once."""

import pytest
from _llama_cpp import KEY, SERVICE, pid_of
from _play import cost, deploy_all, hosts


@pytest.fixture(scope="session")
def runs():
    """Four runs: as it is, with another flag, with that again, and after one that was cut before the restart."""
    found = [deploy_all(pid_of, "-vvv", secret=KEY)]
    found += [deploy_all(pid_of, secret=KEY, llama_cpp_context=2048) for _run in range(2)]
    for host in hosts().values():
        with host.sudo():
            host.check_output("sh -c 'echo of-an-earlier-run > /run/dsdeploy/%s.revision'", SERVICE)
    return [*found, deploy_all(pid_of, secret=KEY, llama_cpp_context=2048)]


def test_a_run_that_changes_nothing_is_cheap(runs):
    """Counted, not timed: a process on the host costs a hundred times what a result does."""
    processes, results = cost(runs[0][None])
    assert processes <= 12
    assert results <= 30


def test_nothing_changed_restarts_nothing_and_a_changed_flag_restarts_once(host, runs):
    same, flag, again, _cut = (run[host.backend.get_hostname()] for run in runs)
    _changes, _before, pid = same
    assert same == (0, pid, pid)
    changes, _before, changed = flag
    assert changes > 0
    assert changed != pid
    assert again == (0, changed, changed)


def test_a_run_cut_before_the_restart_is_made_good(host, runs):
    """All files are there as they should be, but what runs was started with others."""
    changes, before, after = runs[3][host.backend.get_hostname()]
    assert changes == 1
    assert after != before
