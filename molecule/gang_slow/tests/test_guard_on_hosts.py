"""The guard of the product's own units on two hosts: whatever dies or is cut off, both start anew, and answer as one.

The engine is a stand-in here that never notices anything (tests/standins/standin_rank.py), put into the units that `up`
has made: a real one takes a minute for each start, and 30 are wanted.
"""

import json
import os
import random
import subprocess
import time

import pytest
from _gateway import address
from _play import CHECKOUT, hosts

SERVICE = "dsdeploy-vllm"
DROP = f"/etc/systemd/system/{SERVICE}.service.d"
STANDIN = "/usr/local/lib/standin_rank.py"
FIRST, SECOND = "gang-1", "gang-2"
NAMES = (FIRST, SECOND)
PATIENCE = 180  # s
ASK = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/ask', timeout=2).read().decode())"
KILLS = int(os.environ.get("DSDEPLOY_KILLS", "30"))
LOST = 30  # s without a word until a guard takes the other for gone


@pytest.fixture(scope="module")
def gang():
    found = hosts()
    text = (CHECKOUT / "tests/standins/standin_rank.py").read_text(encoding="utf-8")
    head = address(found[FIRST])
    for rank, name in enumerate(NAMES):
        host = found[name]
        host.check_output("sudo sh -c %s", f"cat >{STANDIN} <<'END'\n{text}END")
        with host.sudo():
            unit = host.check_output("cat /etc/systemd/system/%s.service", SERVICE)
            start = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
            guard, _engine = start.split(' "--" ')
            assert "gang-guard.py" in guard
            drop = f"[Service]\nExecStart=\n{guard} -- /usr/bin/python3 {STANDIN} {rank} {head} 29599 8000\n"
            host.check_output("mkdir -p %s", DROP)
            host.check_output("sh -c %s", f"cat >{DROP}/standin.conf <<'END'\n{drop}END")
            host.check_output("systemctl daemon-reload")
    for name in NAMES:
        found[name].check_output("sudo systemctl restart --no-block %s", SERVICE)
    answers(found)
    yield found
    for name in NAMES:
        found[name].check_output(f"sudo rm -r {DROP}; sudo systemctl daemon-reload")
        found[name].check_output("sudo systemctl restart --no-block %s", SERVICE)


def ask(found):
    """The starts of both ranks, as they say; None where nothing answers."""
    done = found[FIRST].run("python3 -c %s", ASK)
    words = done.stdout.split()
    return tuple(words) if done.rc == 0 and len(words) == 2 else None


def answers(found, unlike=(None, None)):
    """(starts, seconds) once both answer, neither of them as before."""
    began = time.monotonic()
    while True:
        said = ask(found)
        if said and not set(said) & set(unlike):
            break
        assert time.monotonic() - began < PATIENCE, (said, unlike, {name: log(host) for name, host in found.items()})
        time.sleep(0.3)
    for name in NAMES:
        assert len(engines(found[name])) == 1, "an old rank lives beside a new one"
    return said, time.monotonic() - began


def engines(host):
    return host.run(f"pgrep -f '^/usr/bin/python3 {STANDIN}'").stdout.split()


def guards(host):
    return host.check_output("systemctl show -p MainPID --value %s", SERVICE)


def log(host):
    return host.run(f"sudo journalctl -u {SERVICE} -n 12 --no-pager -o cat").stdout


def kill(host, what):
    if what == "engine":
        host.check_output("sudo kill -9 %s", engines(host)[0])
    elif what == "guard":
        host.check_output("sudo kill -9 %s", guards(host))
    else:
        host.check_output("sudo systemctl kill -s KILL %s", SERVICE)


def test_ranks_killed_at_random(gang):
    chance, seconds = random.Random(18), {}
    said = ask(gang)
    for number in range(KILLS):
        name, what = chance.choice(NAMES), chance.choice(("engine", "guard", "all"))
        kill(gang[name], what)
        said, took = answers(gang, unlike=said)
        seconds.setdefault(f"{name} {what}", []).append(round(took, 1))
        print(number, name, what, f"{took:.1f} s", flush=True)
    print(json.dumps(seconds))


@pytest.mark.parametrize("name", NAMES)
def test_a_host_that_reboots(gang, name):
    said = ask(gang)
    subprocess.run([CHECKOUT / "tests/hosts/testhost", "restart", name], check=True, capture_output=True)
    # What molecule/shared/prepare_wheels.yml has enlarged is small again; the real engine is wanted after these tests.
    gang[name].check_output("sudo mount -o remount,size=1g /dev/shm")
    _said, took = answers(gang, unlike=said)
    print(f"{name} rebooted: answers {took:.1f} s after it is up")


class Cut:
    """No way between the two, without a word to either."""

    def __init__(self, gang):
        self.gang = gang
        self.routes = {FIRST: address(gang[SECOND]), SECOND: address(gang[FIRST])}

    def __enter__(self):
        for name, other in self.routes.items():
            self.gang[name].check_output(f"sudo ip route add blackhole {other}")

    def __exit__(self, *_error):
        for name, other in self.routes.items():
            self.gang[name].check_output(f"sudo ip route del blackhole {other}")


def test_a_network_that_is_cut_for_a_moment(gang):
    said = ask(gang)
    with Cut(gang):
        time.sleep(10)
    began = time.monotonic()
    while ask(gang) is None:
        assert time.monotonic() - began < PATIENCE
    print(f"cut for 10 s: answers {time.monotonic() - began:.1f} s after it")
    time.sleep(LOST)
    assert ask(gang) == said, "they started anew"


def test_a_network_that_is_cut_for_long(gang):
    said = ask(gang)
    with Cut(gang):
        time.sleep(LOST + 30)
        # Both have ended; neither starts alone, nor hangs.
        assert not engines(gang[FIRST])
        assert not engines(gang[SECOND])
        time.sleep(90 - LOST)
        assert not engines(gang[FIRST])
    _said, took = answers(gang, unlike=said)
    print(f"cut for 120 s: answers {took:.1f} s after it")


@pytest.mark.parametrize("name", NAMES)
def test_a_guard_that_stands_still(gang, name):
    said = ask(gang)
    other = next(each for each in NAMES if each != name)
    gang[name].check_output("sudo kill -STOP %s", guards(gang[name]))
    time.sleep(LOST + 25)
    assert not engines(gang[other]), "a rank goes on whose other rank nobody watches"
    gang[name].check_output("sudo kill -CONT %s", guards(gang[name]))
    _said, took = answers(gang, unlike=said)
    print(f"guard of {name} stood still: answers {took:.1f} s after it goes on")


@pytest.mark.parametrize("name", NAMES)
def test_a_service_that_is_stopped_and_started_again(gang, name):
    said = ask(gang)
    other = next(each for each in NAMES if each != name)
    gang[name].check_output("sudo systemctl stop %s", SERVICE)
    began = time.monotonic()
    while engines(gang[other]):
        assert time.monotonic() - began < LOST + 30
        time.sleep(0.5)
    gang[name].check_output("sudo systemctl start --no-block %s", SERVICE)
    _said, took = answers(gang, unlike=said)
    print(f"{name} stopped and started: answers {took:.1f} s after it")
