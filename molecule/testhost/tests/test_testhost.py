"""The disposable hosts are what the role tests take them for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

TESTHOST = Path(__file__).parents[3] / "tests" / "hosts" / "testhost"


def run_testhost(*args: str) -> str:
    return subprocess.run([TESTHOST, *args], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def name(host):
    return host.backend.host.name


@pytest.fixture
def systemd(name):
    return name == "testhost-systemd"


def test_operator_is_not_root_and_may_sudo(host):
    assert host.user().name == "operator"
    assert host.run("sudo -n id -u").stdout.strip() == "0"


def test_nosudo_may_not_sudo(name):
    ssh = ["ssh", "-F", run_testhost("ssh-config"), "-l", "nosudo", name]
    assert subprocess.run([*ssh, "id", "-un"], capture_output=True, text=True).stdout.strip() == "nosudo"
    refused = subprocess.run([*ssh, "sudo", "-n", "true"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "password is required" in refused.stderr


def test_root_may_not_log_in(name):
    ssh = ["ssh", "-F", run_testhost("ssh-config"), "-l", "root", name, "true"]
    assert subprocess.run(ssh, capture_output=True).returncode == 255


def test_keys_are_private():
    cache = Path(run_testhost("ssh-config")).parent
    assert cache.stat().st_mode & 0o777 == 0o700
    for file in ("key", "ssh_config", "known_hosts"):
        assert (cache / file).stat().st_mode & 0o777 == 0o600


def test_host_key_is_checked(name, tmp_path):
    wrong = tmp_path / "known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    wrong.write_text(f"{name} {(tmp_path / 'key.pub').read_text()}")
    ssh = ["ssh", "-F", run_testhost("ssh-config"), "-o", f"UserKnownHostsFile={wrong}", "-o", "ControlPath=none"]
    refused = subprocess.run([*ssh, name, "true"], capture_output=True, text=True)
    assert refused.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in refused.stderr


def test_process_1(host, systemd):
    assert host.process.get(pid=1).comm == ("systemd" if systemd else "sshd")
    assert host.file("/run/systemd/system").exists == systemd


def test_image_is_minimal(host):
    for package in ("python3-venv", "python3-pip", "curl", "git", "gcc"):
        assert not host.package(package).is_installed, package
    assert host.package("less").is_installed  # by the converge: apt works


def test_hosts_name_each_other(host):
    for other in ("testhost-systemd", "testhost-bare"):
        assert host.addr(other).is_resolvable
        assert host.run("timeout 5 bash -c '</dev/tcp/%s/22'", other).rc == 0


def test_small_file_system_fills_up(host, systemd):
    if systemd:
        assert host.file("/srv/small").is_directory
    written = host.run("sudo dd if=/dev/zero of=%s bs=1M count=32", "/srv/small/big" if systemd else "/dev/null")
    assert (written.rc == 0) != systemd
    assert ("No space left" in written.stderr) == systemd


def test_memory_is_limited(host, systemd):
    greedy = host.run("python3 -c 'print(len(bytearray(700 << 20)))'; true")
    assert greedy.stdout.strip() == ("" if systemd else str(700 << 20))


def test_comes_back_after_a_reboot(host, name, systemd):
    assert host.run("sudo touch /run/before /etc/before").rc == 0
    run_testhost("restart", name)
    assert host.file("/etc/before").exists
    if systemd:
        assert not host.file("/run/before").exists
        assert host.run("systemctl is-system-running").stdout.strip() == "running"
        assert host.service("testhost").is_running
        assert host.service("testhost").is_enabled


def test_up_again_changes_nothing(host, name, systemd):
    started = host.run("ps -o lstart= -p 1").stdout
    options = ["--memory", "512M", "--tmpfs", "/srv/small:16m"] if systemd else ["--no-systemd"]
    run_testhost("up", name, "bookworm" if systemd else "forky", *options)
    assert host.run("ps -o lstart= -p 1").stdout == started


def test_up_with_other_options_is_refused(name):
    other = subprocess.run([TESTHOST, "up", name, "bookworm", "--memory", "1G"], capture_output=True, text=True)
    assert other.returncode == 1
    assert f"first: testhost down {name}" in other.stderr
