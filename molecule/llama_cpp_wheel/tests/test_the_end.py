"""The last, of both hosts at once: purged, there is nothing of dsdeploy left but the model, and then not that."""

import re

import pytest
from _llama_cpp import KEY, SERVICE, is_systemd
from _play import hosts, leftovers, play

PURGE = ("-e", "dsdeploy_purge=true")


def down(*arguments):
    """The number of changes by host."""
    said = play(None, "down", *PURGE, *arguments)
    assert KEY not in said
    return {name: int(count) for name, count in re.findall(r"^(\S+) +: ok=.* changed=([0-9]+)", said, re.M)}


def state(host):
    """What there is of dsdeploy, and whether its supervisor runs."""
    return leftovers(host), bool(host.process.filter(comm="supervisord")), bool(host.process.filter(user=SERVICE))


def states():
    return {name: state(host) for name, host in hosts().items()}


def kept(host):
    """What a purge leaves: the models, and what tells of the user or the key."""
    return (
        host.check_output("sudo ls -A /var/lib/dsdeploy"),
        bool(host.check_output("sudo find /var/lib/dsdeploy/models -name '*.gguf'")),
        host.user(SERVICE).exists,
        # The backups of passwd and group tell of the user that was.
        host.run("sudo grep -rsl --exclude='*-' -e dsdeploy -e %s /etc /usr/local /root", KEY).stdout,
    )


@pytest.fixture(scope="session")
def end():
    """What was, what check mode left, what is there no more, and what a second purge changed; the model went last."""
    before = states()
    checked, after_check = down("--check"), states()
    purged, after = down(), states()
    left, again = {name: kept(host) for name, host in hosts().items()}, down()
    down("-e", '{"dsdeploy_purge_models": ["smollm2-135m-instruct"]}')
    return before, (checked, after_check), (purged, after, left), again


def test_nothing_is_left_but_the_model(host, end):
    name = host.backend.get_hostname()
    before, (checked, after_check), (purged, after, models), again = end
    left, supervisor, runs = before[name]
    assert "/opt/dsdeploy" in left and "/etc/dsdeploy" in left
    assert (supervisor, runs) == (not is_systemd(host), True)
    assert checked[name] > 0
    assert after_check[name] == before[name]
    assert purged[name] > 0
    # supervisor goes with its last program.
    assert after[name] == (["/var/lib/dsdeploy"], False, False)
    assert models[name] == ("models", True, False, "")
    assert again[name] == 0


def test_the_model_goes_too_when_it_is_named(host, end):
    assert leftovers(host) == []
