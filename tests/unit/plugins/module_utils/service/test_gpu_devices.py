# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The device files that CUDA needs, before a service that computes on GPUs: who makes them, and what is said where
nobody does. The driver's programs are stand-ins on PATH, and the files are ordinary ones below a directory."""

import os
import pwd
import re
import subprocess
import sys

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import launcher

WITHOUT = "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n511 nvidia-caps\n"
WITH = WITHOUT + "510 nvidia-uvm\n"


class Machine:
    """`made`: what each program makes. Each notes that it ran."""

    def __init__(self, root, monkeypatch):
        self.root, self.dev, self.proc = root, root / "dev", root / "proc"
        for path in (self.dev, self.proc, root / "bin"):
            path.mkdir()
        monkeypatch.setenv("PATH", f"{root}/bin:/usr/bin:/bin")
        self.program("nvidia-smi", "")
        self.program("nvidia-modprobe", "")
        self.devices(WITH)

    def program(self, name, does):
        path = self.root / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.root}/ran\n{does}\n')
        path.chmod(0o755)

    def devices(self, text):
        (self.proc / "devices").write_text(text)

    def files(self, *names):
        for name in names:
            (self.dev / name).touch()

    def ran(self):
        path = self.root / "ran"
        return path.read_text().splitlines() if path.exists() else []

    def status(self):
        return launcher.gpu_devices(str(self.dev), str(self.proc))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_where_they_are_there_nothing_is_run(machine, capfd):
    machine.files("nvidiactl", "nvidia0", "nvidia-uvm")
    assert (machine.status(), machine.ran(), capfd.readouterr().err) == (0, [], "")


def test_after_a_boot_without_a_rule_of_udev_they_are_made(machine, capfd):
    machine.program("nvidia-smi", f"touch {machine.dev}/nvidiactl {machine.dev}/nvidia0")
    machine.program("nvidia-modprobe", f"touch {machine.dev}/nvidia-uvm")
    assert machine.status() == 0
    assert machine.ran() == ["nvidia-smi -L", "nvidia-modprobe -u -c=0"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("refused", [True, False])
def test_one_whose_module_was_loaded_just_now_starts_again(machine, capfd, refused):
    """systemd has looked up the numbers of the devices before: the unit may neither make the file nor use it."""
    machine.devices(WITHOUT)
    machine.files("nvidiactl")
    makes = f"touch {machine.dev}/nvidia-uvm"
    loads = f"echo '510 nvidia-uvm' >> {machine.proc}/devices"
    machine.program("nvidia-modprobe", loads if refused else f"{loads}; {makes}")
    assert machine.status() == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "starting again" in line
    machine.program("nvidia-modprobe", makes)
    assert (machine.status(), capfd.readouterr().err) == (0, "")


def test_where_not_even_the_driver_was_loaded_it_takes_a_start_for_each_module(machine, capfd):
    """An old systemd without modprobe@, and nobody else who loads it: each file is refused to the unit at first."""
    machine.devices("Character devices:\n  1 mem\n")
    machine.program("nvidia-smi", f"printf '195 nvidia\\n195 nvidiactl\\n' >> {machine.proc}/devices")
    assert machine.status() == 1
    machine.program("nvidia-smi", f"touch {machine.dev}/nvidiactl")
    machine.program("nvidia-modprobe", f"echo '510 nvidia-uvm' >> {machine.proc}/devices")
    assert machine.status() == 1
    machine.program("nvidia-modprobe", f"touch {machine.dev}/nvidia-uvm")
    assert machine.status() == 0
    assert len(capfd.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(
    ("there", "says", "also"),
    [
        ([], "there is no /dev/nvidiactl, so that CUDA will not start", "driver is not loaded"),
        (["nvidiactl", "nvidia0"], "there is no /dev/nvidia-uvm, so that CUDA", "nvidia-modprobe -u -c=0"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_the_engine_says_the_rest(machine, capfd, there, says, also):
    machine.files(*there)
    assert machine.status() == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(says) and also in line


def test_without_the_driver_s_programs_it_is_the_same(machine, capfd):
    for name in ("nvidia-smi", "nvidia-modprobe"):
        (machine.root / "bin" / name).unlink()
    machine.files("nvidiactl")
    assert machine.status() == 0
    assert "there is no /dev/nvidia-uvm" in capfd.readouterr().err


def test_a_driver_that_hangs_does_not_keep_the_service(machine, monkeypatch, capfd):
    monkeypatch.setattr(launcher, "MAKING", 0.2)
    machine.files("nvidiactl")
    machine.program("nvidia-modprobe", "exec sleep 300")
    assert machine.status() == 0
    assert "there is no /dev/nvidia-uvm" in capfd.readouterr().err


@pytest.mark.parametrize("other", ["dxg", "nvmap"])
def test_where_cuda_needs_other_files_nothing_is_done_and_said(machine, capfd, other):
    machine.files(other)
    assert (machine.status(), machine.ran(), capfd.readouterr().err) == (0, [], "")


def test_the_launcher_says_it_in_the_service_s_log_before_it_gives_up_root_s_rights(tmp_path):
    """Under supervisor, in a container that got no GPU's files: as a process, on this machine, which has none."""
    if os.path.exists("/dev/nvidiactl") or os.getuid():
        pytest.skip("this machine has a GPU, or this user's rights cannot be given up")
    (tmp_path / "env").write_text("")
    user = pwd.getpwuid(os.getuid()).pw_name
    options = {"name": "dsdeploy-x", "user": user, "run": str(tmp_path / "run"), "environment": str(tmp_path / "env")}
    options.update(revision="r", nofile="64", memlock="0")
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    started = {}
    for flag in ([], ["--gpu"]):
        command = [sys.executable, launcher.__file__, *words, *flag, "--", "echo", "started"]
        started[bool(flag)] = subprocess.run(command, capture_output=True, text=True)
    assert {done.returncode for done in started.values()} == {0}
    assert {done.stdout for done in started.values()} == {"started\n"}
    assert started[False].stderr == ""
    assert started[True].stderr.startswith("there is no /dev/nvidiactl")


def unit(host, **given):
    host.run(**given)
    return (host.root / "units/dsdeploy-vllm.service").read_text()


def test_a_unit_on_gpus_comes_after_what_makes_them_usable_and_makes_the_files_itself(host):
    text = unit(host)
    (program,) = re.findall(r'^ExecStartPre=\+/usr/bin/python3 "(\S+)" --gpu-devices$', text, re.M)
    assert program == f"{host.root}/opt/libexec/launcher.py" and os.access(program, os.X_OK)
    (after,) = re.findall(r"^After=(.*)$", text, re.M)
    assert after.split() == ["network-online.target", "modprobe@nvidia_uvm.service", "nvidia-persistenced.service",
                             "nvidia-fabricmanager.service"]  # fmt: skip
    assert "Wants=network-online.target modprobe@nvidia_uvm.service\n" in text
    # It is no condition: where they fail or are not there the engine is started all the same.
    assert not re.search(r"^(Requires|BindsTo|Requisite|Condition|Assert)", text, re.M)
    # Root may make them in the unit's control group.
    assert "DeviceAllow=char-nvidia* rwm\n" in text


def test_a_unit_on_the_cpu_knows_nothing_of_gpus(host):
    text = unit(host, device="cpu")
    assert "nvidia" not in text and "gpu" not in text
    assert "After=network-online.target\nWants=network-online.target\n" in text
    assert not (host.root / "opt/libexec/launcher.py").exists()


def test_the_launcher_goes_with_the_last_service_on_gpus(host):
    host.run()
    host.run("absent")
    assert not (host.root / "opt").exists() or not list((host.root / "opt").rglob("*.py"))


@pytest.mark.parametrize(("device", "flag"), [("gpu", True), ("cpu", False)])
def test_supervisor_s_launcher_is_told_of_gpus(supervised, device, flag):
    supervised.run(manager="supervisor", device=device)
    (line,) = re.findall(
        r"^command=(.*)$", (supervised.root / "supervisor/conf.d/dsdeploy-vllm.conf").read_text(), re.M
    )
    assert (" --gpu -- /bin/sleep 60" in line) is flag
    assert line.endswith(" -- /bin/sleep 60")


def test_gpus_that_come_late_find_the_service_still_trying(supervised):
    """A manager that gives up leaves an engine down for good whose GPUs come half an hour after the boot."""
    assert "StartLimitIntervalSec=0\n" in unit(supervised, manager="systemd")
    assert "Restart=always\n" in unit(supervised, manager="systemd")
    supervised.run("absent", manager="systemd")
    supervised.run(manager="supervisor")
    text = (supervised.root / "supervisor/conf.d/dsdeploy-vllm.conf").read_text()
    retries = int(re.search(r"^startretries=(\d+)$", text, re.M).group(1))
    # Each try waits a second longer than the one before: a year of them.
    assert retries * (retries + 1) // 2 > 366 * 24 * 3600
    assert "autorestart=true\n" in text
