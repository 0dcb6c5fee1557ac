"""Two deployments with directories of their own on one host, under systemd and under supervisor: neither touches the
other."""

import json
import time
from pathlib import Path

import pytest
from _llama_cpp import SERVICE, ask, pid_of
from _play import hosts, play

HOLDER = Path(__file__).parents[2] / "engines/holder.yml"
PLACES = {f"dsdeploy_{name}_dir": f"/srv/holder/{name}" for name in ("install", "data", "log")}
FILES = f"deployments/llama_cpp.json keys/{SERVICE} {SERVICE}.env host.json"
GET = "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8001/\", timeout=20).status)'"


def state(host):
    """What of llama.cpp must stay as it is."""
    return pid_of(host), host.run(f"sudo sh -c 'cd /etc/dsdeploy; sha256sum {FILES}'").stdout


def answer(host):
    """What the other one says, once it has started."""
    for _second in range(30):
        said = host.run(GET).stdout.strip()
        if said:
            break
        time.sleep(1)
    return said


@pytest.fixture(scope="session")
def neighbours():
    """What was, while the other one ran, and when it was gone again; on both hosts at once."""
    before = {name: state(host) for name, host in hosts().items()}
    play(None, HOLDER, "-e", json.dumps({**PLACES, "holder_device": "cpu"}))
    during = {name: (state(host), answer(host)) for name, host in hosts().items()}
    play(None, HOLDER, "-e", json.dumps({**PLACES, "holder_state": "absent"}))
    return before, during, {name: state(host) for name, host in hosts().items()}


def test_neither_touches_the_other(host, neighbours):
    name = host.backend.get_hostname()
    before, during, after = (found[name] for found in neighbours)
    assert during == (before, "200")
    assert after == before
    assert ask(host)


def test_the_other_is_gone_with_its_places(host, neighbours):
    assert not host.user("dsdeploy-holder").exists
    assert not host.socket("tcp://127.0.0.1:8001").is_listening
    assert host.run("sudo find /srv/holder /etc/dsdeploy -name '*holder*'").stdout == ""
