# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`dsdeploy doctor` over two hosts that serve one model together: one with systemd, one with supervisor."""

import json

import pytest
import testinfra
from test_doctor import DEAD, MACHINE, RECORD, UNIT, ask, doctor, of, play, write

NAMES = ["doctor-systemd", "doctor-container"]
BOTH = ",".join(NAMES)
testinfra_hosts = ["ssh://doctor-systemd"]

SUPERVISORD = """[unix_http_server]
file=/run/dsdeploy-supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisord]
pidfile=/run/dsdeploy-supervisord.pid
[include]
files=/etc/dsdeploy/supervisor/conf.d/*.conf
"""
PROGRAM = """[program:dsdeploy-vllm]
command=/srv/tests/standins/standin_engine 127.0.0.1 8000
user=games
autostart=true
"""
OPEN = "user=games\nenvironment=VLLM_SERVER_DEV_MODE=1"
DEAD_PROGRAM = """[program:dsdeploy-sglang]
command=/bin/false
autostart=true
autorestart=false
startsecs=0
"""
LATE, CUSTOM = "/srv/tests/standins/late_clock/sitecustomize.py", "/etc/python3.11/sitecustomize.py"
WORKS = UNIT.replace("0.0.0.0 8000 --enforce-eager", "127.0.0.1 8000")
FILE = {"path": "m.gguf", "bytes": 4, "sha256": "1" * 64, "mtime_ns": 1}
MANIFEST = {"version": 1, "format": "gguf", "name": "m", "source": {"kind": "url"}, "files": [FILE]}


@pytest.fixture
def second(host):
    return testinfra.get_host(f"ssh://{NAMES[1]}", ssh_config=host.backend.ssh_config)


def deploy(host, rank, addresses, lock, sha256, manager):
    """Its record, its release and its model; what serves is a stand-in."""
    gang = {"name": "", "hosts": NAMES, "rank": rank, "head": NAMES[0], "addresses": addresses, "port": 29501}
    service = {"name": "dsdeploy-vllm", "manager": manager, "log": None}
    record = dict(
        RECORD,
        version="0.32.0",
        api_key_file=None,
        gang=gang,
        releases="/opt/gang",
        model_path="/srv/m",
        service=service,
    )
    manifest = dict(MANIFEST, files=[dict(FILE, sha256=sha256)])
    write(host, "/srv/m/m.gguf", "GGUF")
    write(host, "/srv/m/.dsdeploy-manifest.json", json.dumps(manifest))
    host.check_output("mkdir -p /opt/gang/0.32.0-cuda-%s", lock)
    host.check_output("ln -sfn 0.32.0-cuda-%s /opt/gang/current", lock)
    write(host, "/etc/dsdeploy/deployments/vllm.json", json.dumps(record))


@pytest.fixture
def gang(host, second):
    """Two that are in order."""
    play(host)
    addresses = {name: one.interface("eth0").addresses[0] for name, one in zip(NAMES, (host, second), strict=True)}

    def plant(lock="11111111", sha256="1" * 64, names=addresses):
        with host.sudo():
            deploy(host, 0, names, "11111111", "1" * 64, "systemd")
        with second.sudo():
            deploy(second, 1, names, lock, sha256, "supervisor")

    with host.sudo():
        write(host, "/etc/systemd/system/dsdeploy-vllm.service", WORKS)
        host.check_output("systemctl daemon-reload")
        host.check_output("systemctl start dsdeploy-vllm")
    with second.sudo():
        write(second, "/etc/dsdeploy/supervisor/supervisord.conf", SUPERVISORD)
        write(second, "/etc/dsdeploy/supervisor/conf.d/dsdeploy-vllm.conf", PROGRAM)
        write(second, "/srv/case", "580.159.04 h200-x2")
        second.check_output("ln -sfn /srv/tests/standins/nvidia_smi_of_case /usr/local/bin/nvidia-smi")
        second.check_output("supervisord -c /etc/dsdeploy/supervisor/supervisord.conf")
    plant()
    yield plant
    with host.sudo():
        host.run("nft delete table inet planted")
        host.check_output("ip link set eth0 mtu 1500")
        host.check_output("systemctl stop dsdeploy-vllm")
        host.run("sh -c 'test -e /tmp/hosts && cat /tmp/hosts > /etc/hosts'")
    with second.sudo():
        second.run("supervisorctl -s unix:///run/dsdeploy-supervisor.sock shutdown")
        second.check_output("rm -rf /etc/dsdeploy /usr/local/bin/nvidia-smi")
        second.check_output(f"sh -c ': > {CUSTOM}'")


def drop(host, *rules):
    with host.sudo():
        host.run("nft delete table inet planted")
        host.check_output("nft add table inet planted")
        host.check_output("nft add chain inet planted in { type filter hook input priority 0 \\; }")
        for rule in rules:
            host.check_output(f"nft add rule inet planted in {rule}")


def test_between_two_hosts_in_order_there_is_nothing_to_say(host, second, gang):
    told, _summary = ask(BOTH, only=["gang"], **MACHINE)
    assert set(told) == set(NAMES)
    for found in told.values():
        assert of(found, "fail", "warn", "unknown") == set(), found
        assert of(found, "skip") == {"gang_rdma"}
    # One of them alone is never a pass.
    alone, _summary = doctor(NAMES[0], only=["gang"], **MACHINE)
    assert of(alone, "pass", "fail", "warn") == set()
    assert BOTH.replace(",", ", ") in alone["gang_hosts"]["value"]


def test_each_fault_between_two_hosts_is_found_by_its_name(host, second, gang):
    gang(lock="22222222", sha256="2" * 64, names={NAMES[0]: NAMES[0], NAMES[1]: NAMES[1]})
    with second.sudo():
        write(second, "/srv/case", "550.90.12 h200-x1")
        second.check_output("supervisorctl -s unix:///run/dsdeploy-supervisor.sock stop dsdeploy-vllm")
        # Containers share the machine's clock: Python's own is five minutes late there.
        second.check_output(f"cp --remove-destination {LATE} {CUSTOM}")
    drop(host, "tcp dport 29400 drop")
    with host.sudo():
        host.check_output("ip link set eth0 mtu 1400")
        host.check_output("sh -c 'cp /etc/hosts /tmp/hosts; echo 10.9.9.9 doctor-container >> /etc/hosts'")
    told, summary = ask(BOTH, rc=1, only=["gang"], **MACHINE)
    wanted = {"driver", "gpus", "release", "model", "running", "clock", "names", "ports", "mtu"}
    assert set(told) == set(NAMES)
    for found in told.values():
        assert of(found, "fail") == {f"gang_{name}" for name in wanted}, found
        assert all(found[name]["fix"] for name in of(found, "fail"))
    assert summary["failures"]


def test_a_firewall_with_one_open_port_and_a_way_that_drops_large_packets(host, second, gang):
    address = second.interface("eth0").addresses[0]
    drop(host, f"ip saddr {address} tcp dport != 29400 tcp flags syn / syn,ack drop")
    told, _summary = ask(BOTH, rc=1, only=["gang"], **MACHINE)
    for found in told.values():
        assert (of(found, "fail"), of(found, "unknown")) == ({"gang_ports"}, {"gang_mtu"}), found
        assert "port 29400 is open" in found["gang_ports"]["value"]
    drop(host, f"ip saddr {address} meta length 1000-65535 drop")
    told, _summary = ask(BOTH, rc=1, only=["gang_ports", "gang_mtu"], **MACHINE)
    for found in told.values():
        assert (of(found, "fail"), of(found, "pass")) == ({"gang_mtu"}, {"gang_ports"}), found
        assert "small packets arrive, those of full size do not" in found["gang_mtu"]["value"]
    with host.sudo():
        host.check_output("nft delete table inet planted")
    ask(BOTH, only=["gang"], **MACHINE)


def test_the_faults_of_an_engine_under_supervisor(host, second, gang):
    """The same as under systemd, of a program of supervisor and of one that died."""
    program = PROGRAM.replace("127.0.0.1 8000", "0.0.0.0 8000 --enforce-eager").replace("user=games", OPEN)
    service = {"name": "dsdeploy-vllm", "manager": "supervisor", "log": None}
    dead = dict(service, name="dsdeploy-sglang")
    with second.sudo():
        write(second, "/etc/dsdeploy/keys/vllm", "a-key")
        write(second, "/etc/dsdeploy/deployments/vllm.json", json.dumps(dict(RECORD, service=service)))
        write(second, "/etc/dsdeploy/deployments/sglang.json", json.dumps(dict(DEAD, service=dead)))
        write(second, "/etc/dsdeploy/deployments/ollama.json", "{")
        write(second, "/etc/dsdeploy/supervisor/conf.d/dsdeploy-vllm.conf", program)
        write(second, "/etc/dsdeploy/supervisor/conf.d/dsdeploy-sglang.conf", DEAD_PROGRAM)
        second.run("supervisorctl -s unix:///run/dsdeploy-supervisor.sock update")
    found, _summary = doctor(NAMES[1], rc=1, only=["engine", "gang"])
    wanted = {"running", "exposed", "eager", "open_files", "key_file", "version", "records", "generates"}
    assert {f"engine_{name}" for name in wanted} - of(found, "fail", "warn") == set(), found
    assert all(found[name]["fix"] for name in of(found, "fail", "warn"))
    assert "sglang" in found["engine_running"]["value"]
    # In a container without the right to trace, root itself does not see another user's environment.
    assert found["engine_dev_mode"]["status"] in ("fail", "unknown")
