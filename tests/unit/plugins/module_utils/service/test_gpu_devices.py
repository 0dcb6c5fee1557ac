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
import time
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import causes
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

    def gpu(self, *minors):
        """GPUs that the driver has; each of a kind that MIG can divide."""
        for minor in minors:
            directory = self.proc / f"driver/nvidia/gpus/0000:{minor:02x}:00.0"
            directory.mkdir(parents=True)
            (directory / "information").write_text(
                f"Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 54\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n"
            )
            (self.proc / f"driver/nvidia/capabilities/gpu{minor}/mig").mkdir(parents=True)

    def cap(self, path, minor, mode=292):
        path = self.proc / "driver/nvidia/capabilities" / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n")

    def instance(self, gpu, gpu_instance, minor):
        self.cap(f"gpu{gpu}/mig/gi{gpu_instance}/access", minor)
        self.cap(f"gpu{gpu}/mig/gi{gpu_instance}/ci0/access", minor + 1)

    def caps(self, *minors):
        (self.dev / "nvidia-caps").mkdir(exist_ok=True)
        for minor in minors:
            (self.dev / f"nvidia-caps/nvidia-cap{minor}").touch()

    def makes_caps(self):
        """As the real one: of each file of the driver's that -f names the device file whose number it tells."""
        does = f"""
while [ $# -gt 0 ]; do
  [ "$1" = -f ] || exit 1
  minor=$(sed -n 's/^DeviceFileMinor: //p' "$2") && mkdir -p {self.dev}/nvidia-caps || exit 1
  touch {self.dev}/nvidia-caps/nvidia-cap$minor
  shift 2
done"""
        self.program("nvidia-modprobe", does)

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
    machine.files("nvidiactl", "nvidia0")
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
    machine.program("nvidia-smi", f"touch {machine.dev}/nvidiactl {machine.dev}/nvidia0")
    machine.program("nvidia-modprobe", f"echo '510 nvidia-uvm' >> {machine.proc}/devices")
    assert machine.status() == 1
    machine.program("nvidia-modprobe", f"touch {machine.dev}/nvidia-uvm")
    assert machine.status() == 0
    assert len(capfd.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(
    ("there", "says", "also"),
    [
        ([], "there is no /dev/nvidiactl, so that CUDA will not start", "driver is not loaded"),
        (["nvidiactl", "nvidia-uvm"], "there is no /dev/nvidia0, nor another GPU's file, so that CUDA", "container"),
        (["nvidiactl", "nvidia0"], "there is no /dev/nvidia-uvm, so that CUDA", "nvidia-modprobe -u -c=0"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_the_engine_is_not_started_on_the_cpu(machine, capfd, there, says, also):
    machine.files(*there)
    assert machine.status() == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(says) and also in line


def test_without_the_driver_s_programs_it_is_the_same(machine, capfd):
    for name in ("nvidia-smi", "nvidia-modprobe"):
        (machine.root / "bin" / name).unlink()
    machine.files("nvidiactl", "nvidia0")
    assert machine.status() == 1
    assert "there is no /dev/nvidia-uvm" in capfd.readouterr().err


def lives(pid):
    """Whether a process does not end within half a minute."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state == "Z":
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize(("made", "status"), [(True, 0), (False, 1)])
def test_a_driver_that_hangs_does_not_keep_the_service_from_saying_so(machine, monkeypatch, capfd, made, status):
    """It may have made the file before it hung."""
    monkeypatch.setattr(launcher, "MAKING", 2.0)
    machine.files("nvidiactl", "nvidia0", *(["nvidia-uvm"] if made else []))
    machine.gpu(0, 1)  # the file of the second is asked for
    for name in ("nvidia-smi", "nvidia-modprobe"):
        machine.program(name, f"echo $$ >> {machine.root}/pids; exec sleep 300")
    assert machine.status() == status
    try:
        pids = (machine.root / "pids").read_text().split()
    except OSError:
        pids = []  # a busy machine had not even started one
    assert not any(map(lives, pids))
    assert ("there is no /dev/nvidia-uvm" in capfd.readouterr().err) is not made


def test_the_first_gpu_s_file_is_made_where_proc_tells_of_no_gpu(machine):
    machine.files("nvidiactl", "nvidia-uvm")
    machine.program("nvidia-smi", f"touch {machine.dev}/nvidia0")
    assert (machine.status(), machine.ran()) == (0, ["nvidia-smi -L"])


def test_the_file_of_a_further_gpu_is_made_and_one_that_is_not_given_is_no_failure(machine, capfd):
    machine.gpu(0, 1)
    machine.files("nvidiactl", "nvidia1", "nvidia-uvm")
    assert machine.status() == 0 and "nvidia-smi -L" in machine.ran()
    machine.program("nvidia-smi", f"touch {machine.dev}/nvidia0")
    assert machine.status() == 0 and (machine.dev / "nvidia0").exists()
    asked = machine.ran().count("nvidia-smi -L")
    assert (machine.status(), machine.ran().count("nvidia-smi -L"), capfd.readouterr().err) == (0, asked, "")


def test_whoever_waits_for_the_engine_is_told_the_line(machine, divided, capfd):
    """`up` ends with it, and with what to do, instead of with the end of a log."""

    def told():
        assert machine.status() == 1
        return causes.cause(["INFO: of a start before", *capfd.readouterr().err.splitlines()])

    said = [told()]
    (machine.proc / "driver/nvidia/capabilities").rename(machine.root / "away")
    (machine.proc / "driver/nvidia/capabilities/gpu0/mig").mkdir(parents=True)
    said.append(told())
    for name in ("nvidia-uvm", "nvidia0", "nvidiactl"):
        (machine.dev / name).unlink()
        said.append(told())
    assert len({one.line[:30] for one in said}) == 5
    assert all(one and "so that CUDA" in one.line and "starts by itself" in one.hint for one in said)
    assert not any(one.final for one in said)


# MIG


@pytest.fixture
def divided(machine):
    """A GPU with two instances, after a boot: nvidia-smi has not run yet."""
    machine.gpu(0)
    machine.files("nvidiactl", "nvidia0", "nvidia-uvm")
    machine.cap("mig/config", 1, 256)
    machine.cap("mig/monitor", 2)
    machine.instance(0, 1, 12)
    machine.instance(0, 2, 21)
    machine.program("nvidia-smi", "echo Enabled")
    return machine


def test_the_files_of_mig_s_instances_are_made_once(divided, capfd):
    divided.makes_caps()
    assert divided.status() == 0
    top = f"{divided.proc}/driver/nvidia/capabilities"
    (line,) = divided.ran()
    assert line == "nvidia-modprobe" + "".join(
        f" -f {top}/{path}/access".replace("/monitor/access", "/monitor")
        for path in ("mig/monitor", "gpu0/mig/gi1", "gpu0/mig/gi1/ci0", "gpu0/mig/gi2", "gpu0/mig/gi2/ci0")
    )
    # What configures instances is root's alone.
    assert sorted(os.listdir(divided.dev / "nvidia-caps")) == [f"nvidia-cap{n}" for n in (12, 13, 2, 21, 22)]
    assert (divided.status(), len(divided.ran()), capfd.readouterr().err) == (0, 1, "")


def test_an_instance_that_was_made_since_gets_its_files_too(divided):
    divided.makes_caps()
    divided.caps(2, 12, 13)
    assert divided.status() == 0
    assert "gi1" not in divided.ran()[0] and (divided.dev / "nvidia-caps/nvidia-cap22").exists()


@pytest.mark.parametrize("there", [(), (2,), (12,), (13, 21), (12, 22)])
def test_without_both_files_of_an_instance_there_is_no_gpu(divided, capfd, there):
    divided.caps(*there)
    assert divided.status() == 1
    (line,) = capfd.readouterr().err.splitlines()
    path = f"{divided.proc}/driver/nvidia/capabilities/gpu0/mig/gi1"
    assert line.startswith("the device files of MIG's instances are not in /dev/nvidia-caps, so that CUDA finds none")
    assert f"nvidia-modprobe -f {path}/access -f {path}/ci0/access; a container" in line


@pytest.mark.parametrize("there", [(12, 13), (21, 22)])
def test_a_container_with_one_instance_of_several_starts(divided, capfd, there):
    divided.program("nvidia-modprobe", "exit 1")
    divided.caps(*there)
    assert (divided.status(), capfd.readouterr().err) == (0, "")


def test_beside_a_gpu_that_is_not_divided_none_of_it_is_needed(divided, capfd):
    divided.gpu(1)
    divided.files("nvidia1")
    assert (divided.status(), capfd.readouterr().err) == (0, "")


def test_a_container_that_shows_no_gpus_in_proc_is_left_to_the_engine(divided, capfd):
    (divided.proc / "driver/nvidia/gpus").rename(divided.root / "away")
    assert (divided.status(), capfd.readouterr().err) == (0, "")


def test_an_instance_that_goes_meanwhile_and_an_old_driver_s_are_no_failure(divided, capfd):
    """Without a number it is the file in /proc itself that lets in, or nobody."""
    for gpu_instance in (1, 2):
        for path in ("access", "ci0/access"):
            (divided.proc / f"driver/nvidia/capabilities/gpu0/mig/gi{gpu_instance}/{path}").write_text("")
    assert (divided.status(), capfd.readouterr().err) == (0, "")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Enabled", 1),
        ("Enabled\nEnabled", 1),
        ("Enabled\nDisabled", 0),
        ("Disabled", 0),
        ("[N/A]", 0),
        ("Enabled\n[N/A]", 0),
        ("", 0),
        ('Field "mig.mode.current" is not a valid field to query.', 0),
    ],
)
def test_mig_without_an_instance_is_no_gpu(machine, capfd, said, status):
    """An A100 keeps the mode over a boot, and no instance: llama.cpp would serve from the CPU."""
    machine.gpu(0)
    machine.files("nvidiactl", "nvidia0", "nvidia-uvm")
    machine.program("nvidia-smi", f"cat <<'EOF'\n{said}\nEOF")
    assert machine.status() == status
    assert machine.ran() == ["nvidia-smi --query-gpu=mig.mode.current --format=csv,noheader"]
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == status and all("MIG is on and has no instance" in line for line in lines)


@pytest.mark.parametrize("other", ["dxg", "nvmap"])
def test_where_cuda_needs_other_files_nothing_is_done_and_said(machine, capfd, other):
    machine.files(other)
    assert (machine.status(), machine.ran(), capfd.readouterr().err) == (0, [], "")


def test_the_launcher_says_it_in_the_service_s_log_and_starts_nothing(tmp_path):
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
    assert (started[False].returncode, started[False].stdout, started[False].stderr) == (0, "started\n", "")
    assert (started[True].returncode, started[True].stdout) == (1, "")
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
                             "nvidia-fabricmanager.service", "nvidia-mig-manager.service"]  # fmt: skip
    assert "Wants=network-online.target modprobe@nvidia_uvm.service\n" in text
    # They are no condition: where they are not there, or fail, the files decide.
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
