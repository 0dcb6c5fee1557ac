"""Gateways of replicas send requests, and the engine's key, to who proves to be one, and to nobody else."""

import json
import re
import time

import pytest
from _gateway import address, command, key_command
from _play import hosts, play
from _streams import Streams

DIRECTORY = "/etc/dsdeploy/gateway"
# What HAProxy shows to who asks for the name of a replica, or of nobody.
SHOWN = "openssl s_client -connect {0}:8443 {1} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
# The right name, another key.
IMPOSTOR = f"""set -e; cd {DIRECTORY}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 -subj /CN=two \\
  -addext subjectAltName=DNS:replicas-2.replica.dsdeploy.internal -keyout /root/other.key -out /root/other.crt
cat /root/other.crt /root/other.key >replica-own.pem; cat replica-own.pem >replica.pem"""
PATIENCE = 120.0  # s
RESTART = "sudo systemctl restart dsdeploy-gateway"


@pytest.fixture(scope="module")
def key():
    done = key_command(hosts()["replicas-1"], "add", "trust", "--replace", "--requests-per-minute", "100000")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def served_by(host, name):
    """How many requests the gateway of a host has sent to a replica."""
    log = host.check_output("sudo journalctl -u dsdeploy-gateway -o cat")
    return len(re.findall(rf" status=200 .*server={name} ", log))


def some(key, count=3, seconds=5.0):
    """`count` clients of the first gateway for a while, on a slow machine for a longer one; none may fail."""
    with Streams(address(hosts()["replicas-1"]), key, "smollm2-135m-instruct", count) as streams:
        time.sleep(seconds)
        deadline = time.monotonic() + PATIENCE
        while streams.answered <= count and not streams.failed and time.monotonic() < deadline:
            time.sleep(0.2)
    assert not streams.failed, (streams.failed, streams.answered)
    assert streams.answered > count


def test_each_knows_the_others_by_their_certificates_alone():
    found = hosts()
    for name in found:
        config = found[name].check_output(f"sudo cat {DIRECTORY}/haproxy.cfg")
        assert config.count("ssl verify required ca-file") == 2
        assert "verify none" not in config
        for other in set(found) - {name}:
            shown = found[name].check_output(
                SHOWN.format(address(found[other]), f"-servername {other}.replica.dsdeploy.internal")
            )
            known = found[name].check_output(
                f"sudo openssl x509 -in {DIRECTORY}/replicas/{other}.pem -noout -fingerprint -sha256"
            )
            assert shown == known
            # Clients see another one.
            assert found[name].check_output(SHOWN.format(address(found[other]), "")) != known
            assert "PRIVATE" not in found[name].check_output(f"sudo cat {DIRECTORY}/replicas/{other}.pem")


def test_a_renewed_certificate_for_clients_is_nothing_to_the_others(key):
    two = hosts()["replicas-2"]
    before = two.check_output(SHOWN.format("127.0.0.1", ""))
    two.check_output(f"sudo rm {DIRECTORY}/self-signed.pem")
    with Streams(address(hosts()["replicas-1"]), key, "smollm2-135m-instruct", 3) as streams:
        play(None, "deepseek_r1", "--tags", "configure")
    assert not streams.failed, (streams.failed, streams.answered)
    assert two.check_output(SHOWN.format("127.0.0.1", "")) != before
    for name in ("replicas-1", "replicas-3"):
        said = command(hosts()[name], "status")
        assert (said.returncode, "gets nothing" in said.stdout) == (0, False), said.stdout


def test_a_wrong_certificate_gets_nothing_is_named_and_known_again_after_an_up(key):
    one, two, three = (hosts()[f"replicas-{number}"] for number in (1, 2, 3))
    # As after an installation of its own, or somebody else at its address.
    two.check_output("sudo sh -c %s", IMPOSTOR)
    two.check_output(RESTART)
    some(key)  # those who look at it see that it is another
    before = [served_by(one, "replicas-2"), served_by(two, "llama_cpp")]
    some(key)
    assert [served_by(one, "replicas-2"), served_by(two, "llama_cpp")] == before
    reason = "replicas-2 gets nothing"
    for host in (one, three):
        said = command(host, "status")
        assert reason in said.stdout and "its certificate is not the one that is known for it" in said.stdout
        doctor = command(host, "doctor", "--only", "engine_replicas", "--json")
        check = json.loads(doctor.stdout.splitlines()[-1])
        assert reason in json.dumps(check), doctor.stdout
    # What it has to say to others is their business: it still sends to them.
    with Streams(address(hosts()["replicas-1"]), key, "smollm2-135m-instruct", 3) as streams:
        play(None, "deepseek_r1")
    assert not streams.failed, (streams.failed, streams.answered)
    before = served_by(one, "replicas-2")
    some(key)
    assert served_by(one, "replicas-2") > before
    assert reason not in command(one, "status").stdout
