"""What only the host with systemd has to show."""

import subprocess

from _llama_cpp import SERVICE, answers_within
from _play import CHECKOUT

testinfra_hosts = ["ssh://llama-cpp-wheel-systemd"]


def test_the_limits_hold(host):
    properties = host.check_output("systemctl show -p TimeoutStartUSec,NoNewPrivileges,ProtectSystem %s", SERVICE)
    # The longest that an engine which works may take; one that is idle for its start time-out is given up before.
    assert "TimeoutStartUSec=2h" in properties
    assert "NoNewPrivileges=yes" in properties
    assert "ProtectSystem=strict" in properties


def test_it_comes_back_with_the_host(host):
    restart = [CHECKOUT / "tests/hosts/testhost", "restart", host.backend.get_hostname()]
    # Not captured: podman keeps the pipe open as long as the host runs.
    subprocess.run(restart, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert answers_within(host, 60)
