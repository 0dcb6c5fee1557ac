# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts are read off sysfs, procfs and programs as they are; what is odd is a problem, never an exception."""

import os
import stat
from types import SimpleNamespace

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import (
    check,
    look,
    look_disks,
    look_engine,
    look_gpu,
    look_system,
    make,
    reading,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place


@pytest.fixture
def place(tmp_path):
    for name in ("sys", "proc", "records"):
        (tmp_path / name).mkdir()
    return Place(
        sysfs=str(tmp_path / "sys"), procfs=str(tmp_path / "proc"), records=str(tmp_path / "records"), timeout=5
    )


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Programs of the host: `programs(name, shell text)`; no others are there."""
    directory = tmp_path / "bin"
    directory.mkdir()

    def put(name, text):
        path = directory / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    monkeypatch.setattr(reading, "program", lambda name: str(directory / name) if (directory / name).exists() else None)
    return put


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(text, bytes):
        file.write_bytes(text)
    else:
        file.write_text(text)


def test_a_pipe_is_not_waited_for_and_a_directory_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert reading.read(str(tmp_path / "pipe")) == {"problem": "not a file"}
    assert reading.read(str(tmp_path)) == {"problem": "not a file"}
    assert reading.read(str(tmp_path / "none")) == {"missing": True}
    (tmp_path / "rubbish").write_bytes(b"\xff\x00\x80 7\n")
    assert "text" in reading.read(str(tmp_path / "rubbish"))


def test_a_large_file_is_read_in_part(tmp_path):
    with open(tmp_path / "large", "wb") as handle:
        handle.truncate(1024**3)
    assert len(reading.read(str(tmp_path / "large"))["text"]) == reading.MOST


def acs(control):
    """The configuration space of a bridge whose second extended capability is ACS."""
    space = bytearray(4096)
    space[0x100:0x104] = (0x0001 | 1 << 16 | 0x148 << 20).to_bytes(4, "little")  # AER, the next one at 0x148
    space[0x148:0x14C] = (0x000D | 1 << 16).to_bytes(4, "little")
    space[0x14E:0x150] = control.to_bytes(2, "little")
    return bytes(space)


def test_devices_of_the_bus(tmp_path, place):
    bus = tmp_path / "sys/bus/pci/devices"
    for address, kind, vendor in (("0000:18:00.0", "0x030200", "0x10de"), ("0000:17:00.0", "0x060400", "0x8086")):
        write(bus, f"{address}/vendor", vendor + "\n")
        write(bus, f"{address}/class", kind + "\n")
        write(bus, f"{address}/numa_node", "1\n")
    write(bus, "0000:18:00.0/aer_dev_fatal", "Undefined 0\nDLP 2\nTOTAL_ERR_FATAL 2\n")
    write(bus, "0000:18:00.0/aer_dev_nonfatal", "TOTAL_ERR_NONFATAL 1\n")
    write(bus, "0000:17:00.0/config", acs(0x1D))
    write(bus, "0000:19:00.0/vendor", b"\xff\xfe")
    write(tmp_path / "sys", "kernel/iommu_groups/4/type", "DMA-FQ\n")
    found = look_gpu.pci(place)
    assert found["gpus"] == ["0000:18:00.0"]
    assert found["iommu_types"] == ["DMA-FQ"]
    by_kind = {one["kind"]: one for one in found["devices"]}
    assert (by_kind["gpu"]["errors"], by_kind["gpu"]["numa_node"], by_kind["gpu"]["acs"]) == (3, 1, None)
    assert by_kind["bridge"]["acs"] == 0x1D


@pytest.mark.parametrize("space", [b"", b"\0" * 256, b"\xff" * 4096, (0x1 | 0x100 << 20).to_bytes(4, "little") * 1024])
def test_a_configuration_space_that_is_cut_or_a_circle(tmp_path, space):
    (tmp_path / "config").write_bytes(space)
    assert look_gpu._acs(str(tmp_path / "config")) is None


LINES = "kernel: NVRM: Xid (PCI:0000:b3:00): 79, pid=1\nkernel: usb 1-1: new device\n"


def test_the_kernel_s_log_is_that_of_the_journal_or_of_dmesg(programs, place):
    programs("journalctl", f"printf '%s' '{LINES}'")
    assert look_system.log(place) == {"lines": ["kernel: NVRM: Xid (PCI:0000:b3:00): 79, pid=1"]}
    # A journal that is not for this user prints nothing, or fails.
    programs("journalctl", "echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1")
    programs("dmesg", f"printf '%s' '{LINES}'")
    assert len(look_system.log(place)["lines"]) == 1
    programs("dmesg", "echo 'dmesg: read kernel buffer failed: Operation not permitted' >&2; exit 1")
    said = look_system.log(place)["problem"]
    assert "insufficient permissions" in said and "Operation not permitted" in said


def test_no_program_tells_the_log(programs, place):
    assert "no journalctl, no dmesg" in look_system.log(place)["problem"]


def test_a_log_without_end_and_one_of_rubbish(programs, place, monkeypatch):
    monkeypatch.setattr("ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process.MOST_OUTPUT", 1024**2)
    programs("dmesg", "exec cat /dev/zero")
    # The line is cut where the path of the program is long.
    assert "printed more" in look_system.log(place)["problem"]
    programs("dmesg", "head -c 100000 /dev/urandom")
    assert look_system.log(place) == {"lines": []}


def test_a_program_that_hangs(programs, place, monkeypatch):
    monkeypatch.setattr(reading, "TIMEOUT", 0.2)
    programs("journalctl", "exec sleep 60")
    programs("dmesg", "exec sleep 60")
    assert "no answer" in look_system.log(place)["problem"]


def test_holds_of_dpkg_and_of_dnf(programs, place):
    programs("dpkg-query", r"printf 'install bash\nhold nvidia-utils-580\nhold libcuda1\n'")
    assert look_system.packages(place)["held"] == ["nvidia-utils-580", "libcuda1"]
    programs("dpkg-query", "exit 2")
    found = look_system.packages(place)
    assert (found["held"], found["held_problem"]) == (None, "dpkg-query does not answer")


def test_holds_of_dnf(programs, place):
    programs("dnf", r"printf 'kmod-nvidia-open-dkms-3:580.65.06-1.el9.*\nnvidia-driver-3:580.65.06-1.el9.*\n'")
    assert look_system.packages(place)["held"] == ["kmod-nvidia-open-dkms", "nvidia-driver"]
    programs("dnf", "echo 'No such command: versionlock' >&2; exit 1")
    assert "versionlock" in look_system.packages(place)["held_problem"]


def test_mounts_on_one_another_and_names_with_spaces(tmp_path, place):
    lines = (
        "/dev/a / ext4 rw 0 0\nsrv:/x /data\\040of nfs4 rw 0 0\n/dev/b /data\\040of/m xfs ro 0 0\nt / overlay rw 0 0\n"
    )
    write(tmp_path / "proc", "self/mounts", lines)
    table = look_disks.mounts(place.procfs)
    assert look_disks._mount_of("/data of/m/model", table) == ("/data of/m", "xfs")
    assert look_disks._mount_of("/data of/n", table) == ("/data of", "nfs4")
    assert look_disks._mount_of("/data office", table) == ("/", "overlay")


def test_a_disk_that_does_not_answer_takes_no_other_with_it(place, monkeypatch):
    def state_of(paths):
        if "/dead" in paths:
            raise TimeoutError
        return {path: [path, 1, 1, 1, 1, False] for path in paths}

    def aside(work, _timeout):
        return work()

    monkeypatch.setattr(look_disks, "_state_of", state_of)
    monkeypatch.setattr(look_disks, "aside", aside)
    assert set(look_disks._statvfs(["/", "/data"])) == {"/", "/data"}
    with pytest.raises(OSError, match="the disk of /dead does not answer"):
        look_disks._statvfs(["/", "/dead"])


def test_a_section_that_breaks_is_a_problem_of_its_own(monkeypatch, place):
    def broken(_place):
        raise RuntimeError("odd\nthing")

    monkeypatch.setitem(look.SECTIONS, "files", broken)
    assert look.look(place, "files") == {"problem": "RuntimeError: odd thing"}
    assert look.look(place, "processes") == {"stuck": []}
    result = make.make(place, only=["system_overcommit"])["checks"][0]
    assert (result["status"], result["value"]) == ("unknown", "RuntimeError: odd thing")


def test_this_machine_is_read_without_a_problem(place):
    this = Place(records=place.records)
    facts = {name: look.look(this, name) for name in look.SECTIONS if not name.startswith("deep")}
    broken = {name: found for name, found in facts.items() if isinstance(found, dict) and set(found) == {"problem"}}
    assert set(broken) <= {"log", "clock"}


def test_only_what_checks_ask_for_is_read(monkeypatch, place):
    read = []
    for name in look.SECTIONS:
        monkeypatch.setitem(look.SECTIONS, name, lambda _place, name=name: read.append(name) or {})
    make.make(place, only=["system_overcommit"])
    assert read == ["files"]


def test_of_command_lines_and_environments_only_what_is_looked_at_is_kept(tmp_path, monkeypatch):
    (tmp_path / "cmdline").write_bytes(
        b"vllm\0serve\0--api-key\0hunter2\0--enforce_eager\0--tensor-parallel-size=2\0-ngl\x0099\0"
    )
    (tmp_path / "environ").write_bytes(b"HF_TOKEN=hf_secret\0OLLAMA_KEEP_ALIVE=-1\0")
    real = look_engine.read
    monkeypatch.setattr(look_engine, "read", lambda path: real(path.replace("/proc/7", str(tmp_path))))
    assert look_engine._argv(7) == ["--enforce_eager", "--tensor-parallel-size=2", "-ngl", "99"]
    assert look_engine._environ([7]) == {"OLLAMA_KEEP_ALIVE": "-1"}


def test_limits_of_a_process():
    text = b"Max open files  1024  524288  files\nMax locked memory  unlimited unlimited bytes\n"
    assert look_engine._limits(text) == {"nofile": 1024, "hard_nofile": 524288, "memlock": None, "hard_memlock": None}
    assert look_engine._limits(b"") == {}


def test_a_model_that_was_damaged(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "git-lfs pointer" in look_engine._model_problem(str(path))
    path.write_bytes(b"GGUF" + b"\0" * 100)
    assert look_engine._model_problem(str(path)) == ""
    assert look_engine._model_problem(str(tmp_path / "none")) == f"{tmp_path}/none is not there any more"
    (tmp_path / "link").symlink_to(tmp_path / "none")
    assert "not there any more" in look_engine._model_problem(str(tmp_path / "link"))
    assert look_engine._model_problem(None) is None


def test_names_that_are_none():
    with pytest.raises(check.Failure, match="there is no check gpu_persistance; did you mean gpu_persistence"):
        check.selected(["gpu_persistance"], None, False)
    assert {one.id for one in check.selected(["gpu_pcie*"], None, False)} == {
        "gpu_pcie_width", "gpu_pcie_generation", "gpu_pcie_replays",
    }  # fmt: skip
    assert not any(one.deep for one in check.selected((), None, False))
    with pytest.raises(check.Failure, match="deep_disk_read: only checks that load the GPUs"):
        check.selected(["deep_disk_read"], None, False)
    assert [one.id for one in check.selected(["deep_disk_read", "gpu_mig"], None, False)] == ["gpu_mig"]
    assert [one.id for one in check.selected(["deep_disk_read"], None, True)] == ["deep_disk_read"]


def test_the_mode_of_a_key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text("k")
    path.chmod(0o640)
    assert stat.filemode(path.stat().st_mode) == "-rw-r-----"
    assert look_engine._mode(str(path)) == 0o640
    assert look_engine._mode(None) is None


def test_a_host_whose_programs_hang_has_no_wrong_clock(monkeypatch):
    """What the look has waited for by then is no time that the host is ahead."""
    monkeypatch.setattr(look_system, "time", SimpleNamespace(time=lambda: 1122.5, monotonic=lambda: 622.0))
    found = look.look(Place(controller_time=1000.0, began=500.0), "clock")
    assert found["now"] - found["controller"] == 0.5


X86, X86_GUEST = "flags\t\t: fpu vme sse2", "flags\t\t: fpu vme hypervisor sse2"


@pytest.mark.parametrize(
    ("vendor", "product", "cpuinfo", "kind"),
    [
        # What systemd's issue 18929 and its PR 27267 and 38125 show of real machines and of guests.
        ("Amazon EC2", "m6g.metal", "Features\t: fp asimd", None),
        ("Amazon EC2", "m7i.metal-24xl", X86, None),
        ("Amazon EC2", "p5.48xlarge", X86_GUEST, "amazon"),
        ("Amazon EC2", "p6e-gb200.36xlarge", "Features\t: fp asimd", "amazon"),
        ("Google", "Google Compute Engine", X86, None),
        ("Google", "Google Compute Engine", X86_GUEST, "google"),
        # Of others a hidden hypervisor is no proof.
        ("QEMU", "Standard PC (Q35 + ICH9, 2009)", X86, "qemu"),
        ("Dell Inc.", "PowerEdge XE9680", X86, None),
        ("Dell Inc.", "PowerEdge XE9680", X86_GUEST, "unknown kind"),
    ],
)
def test_which_machines_are_virtual(place, tmp_path, vendor, product, cpuinfo, kind):
    write(tmp_path, "sys/class/dmi/id/sys_vendor", vendor + "\n")
    write(tmp_path, "sys/class/dmi/id/product_name", product + "\n")
    write(tmp_path, "proc/cpuinfo", f"processor\t: 0\n{cpuinfo}\n")
    assert look_system.host(place)["virtual"] == kind


def test_mig_s_instances_and_the_device_files_of_each(tmp_path):
    capabilities = tmp_path / "proc/driver/nvidia/capabilities/gpu3/mig"
    for path, minor in (("gi1", 309), ("gi1/ci0", 310), ("gi2", 318), ("gi2/ci0", 319)):
        (capabilities / path).mkdir(parents=True)
        (capabilities / path / "access").write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\n")
    caps = tmp_path / "dev/nvidia-caps"
    caps.mkdir(parents=True)
    (caps / "nvidia-cap309").symlink_to("/dev/null")
    (caps / "nvidia-cap310").touch()  # no device file
    found = look_gpu.mig(str(tmp_path / "proc"), str(tmp_path / "dev"))
    assert found["whole"] is None
    assert [one["modes"] for one in found["instances"]] == [
        {"nvidia-cap309": 0o666, "nvidia-cap310": None},
        {"nvidia-cap318": None, "nvidia-cap319": None},
    ]
    assert found["instances"][1]["paths"] == [f"{capabilities}/gi2/access", f"{capabilities}/gi2/ci0/access"]
    for minor in (3, 4):
        gpu = tmp_path / f"proc/driver/nvidia/gpus/{minor}"
        gpu.mkdir(parents=True)
        (gpu / "information").write_text(f"Device Minor: \t {minor}\n")
    assert look_gpu.mig(str(tmp_path / "proc"), str(tmp_path / "dev"))["whole"] == 1
    assert look_gpu.mig(str(tmp_path), str(tmp_path)) == {"instances": [], "whole": None}
