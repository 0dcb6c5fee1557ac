# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`dsdeploy doctor` over machines that are in order and machines with faults, and its fixes, tried."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

CHECKOUT = Path(__file__).parents[3]
SCHEMA = json.loads((CHECKOUT / "docs/doctor.schema.json").read_text())
MACHINE = {"sysfs": "/srv/standin/sys", "procfs": "/srv/standin/proc"}
testinfra_hosts = ["ssh://doctor-systemd"]

RECORD = {
    "engine": "vllm", "version": "0.11.0", "model": "m", "endpoint": "http://127.0.0.1:8000", "api": "openai",
    "health_path": "/health", "api_key_file": "/etc/dsdeploy/keys/vllm", "device": "gpu", "user": "games",
    "model_path": "/data/m.gguf", "dirs": [], "service": {"name": "dsdeploy-vllm", "manager": "systemd", "log": None},
}  # fmt: skip
DEAD = dict(
    RECORD, engine="sglang", version="0.5.23", endpoint="http://127.0.0.1:30000", model_path=None, api_key_file=None,
    service={"name": "dsdeploy-sglang", "manager": "systemd", "log": None},
)  # fmt: skip
UNIT = """# Made by dsdeploy
[Service]
User=games
Environment=VLLM_SERVER_DEV_MODE=1
LimitNOFILE=1024
LimitMEMLOCK=65536
ExecStart=/srv/standin_engine 0.0.0.0 8000 --enforce-eager
[Install]
WantedBy=multi-user.target
"""
DEAD_UNIT = "[Service]\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n"


def ask(names, *arguments, rc=0, **options):
    """The checks by id, by host, and the summary, of `dsdeploy doctor --json` over hosts."""
    environment = dict(os.environ, ANSIBLE_CONFIG=f"{os.environ['MOLECULE_EPHEMERAL_DIRECTORY']}/ansible.cfg")
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(CHECKOUT / ".collections")
    command = [Path(sys.executable).with_name("dsdeploy"), "doctor", "--json", "-l", names, *arguments]
    command += ["-i", os.environ["MOLECULE_INVENTORY_FILE"]]
    command += ["-e", json.dumps({"dsdeploy_doctor": options})] if options else []
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=180)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == events[-1]["exit_code"] == rc, done.stdout + done.stderr
    told = {event["host"]: event for event in events if event["event"] == "checks"}
    for event in told.values():
        jsonschema.Draft202012Validator(SCHEMA).validate(event)
    return {host: {one["id"]: one for one in event["checks"]} for host, event in told.items()}, events[-1]


def doctor(name, *arguments, rc=0, **options):
    """The checks by id, and the summary, of one host."""
    told, summary = ask(name, *arguments, rc=rc, **options)
    assert set(told) == {name}, told
    return told[name], summary


def play(host, *faults):
    with host.sudo():
        host.check_output(f"python3 /srv/doctor_host.py /srv/h200-x2 /srv/standin {' '.join(faults)}")


def of(found, *statuses):
    return {name for name, one in found.items() if one["status"] in statuses}


def write(host, path, text, mode="0644"):
    host.check_output(
        "sh -c 'mkdir -p $(dirname $1); printf %%s \"$2\" > $1; chmod $3 $1' - %s %s %s", path, text, mode
    )


@pytest.fixture(autouse=True)
def in_order(host):
    """What a machine in order has, and a test host has not: room in /dev/shm, and packages that are held. What a test
    has planted is gone before the next."""
    with host.sudo():
        host.check_output("mount -o remount,size=20G /dev/shm")
        host.check_output("apt-mark hold nvidia-utils-580")
        host.check_output("rm -rf /etc/dsdeploy /run/reboot-required /data/full /data/m.gguf /home/operator/.bashrc")
        host.run("systemctl disable --quiet --now dsdeploy-vllm dsdeploy-sglang theirs")


def test_of_a_machine_in_order_there_is_nothing_to_say(host):
    play(host)
    found, summary = doctor("doctor-systemd", **MACHINE)
    assert [found[name] for name in of(found, "fail", "warn")] == []
    assert len(of(found, "pass")) >= 40
    assert summary["hosts"]["doctor-systemd"]["changed"] == 0
    doctor("doctor-systemd", rc=0, fail_on="warn", **MACHINE)


GPU_FAULTS = {
    "recovery": "gpu_recovery_action", "row-failure": "gpu_row_remap", "ecc": "gpu_ecc_errors",
    "ecc-off": "gpu_ecc_mode", "throttle": "gpu_throttle", "power-limit": "gpu_power_limit",
    "persistence": "gpu_persistence", "pcie-width": "gpu_pcie_width", "pcie-generation": "gpu_pcie_generation",
    "pcie-replays": "gpu_pcie_replays",
    "mig": "gpu_mig", "compute-mode": "gpu_compute_mode", "fabric": "gpu_fabric",
    "hot": "gpu_temperature", "foreign": "gpu_foreign_processes",
    "nvlink": "gpu_nvlink", "nouveau": "driver_nouveau", "driver": "driver_versions",
    "xid": "driver_xid", "sxid": "driver_sxid", "nvswitches": "driver_fabric_manager", "memory": "system_memory",
    "overcommit": "system_overcommit", "max-map-count": "system_max_map_count", "tainted": "system_tainted",
    "governor": "system_governor", "huge-pages": "system_huge_pages", "memory-limit": "system_memory_limit",
    "hung": "system_hung", "machine-check": "system_hardware_errors", "disk": "disk_errors",
    "nvme": "disk_nvme", "pci-errors": "system_pci_errors", "link": "network_links", "infiniband": "network_infiniband",
    "gid": "network_gid", "mtu": "network_mtu", "smart": "disk_smart",
}  # fmt: skip
# What the host itself has, planted for real.
HOST_FAULTS = {
    "system_shm", "driver_held", "driver_reboot", "disk_space", "disk_filesystem", "network_exposed", "engine_running",
    "engine_exposed", "engine_dev_mode", "engine_eager", "engine_open_files", "engine_memlock", "engine_key_file",
    "engine_version", "engine_records", "engine_generates", "disk_models", "system_clock_skew",
}  # fmt: skip


def test_each_fault_is_found_by_its_name_and_the_fixes_mend_it(host):
    play(host, *GPU_FAULTS)
    with host.sudo():
        host.check_output("mount -o remount,size=64M /dev/shm")
        host.check_output("apt-mark unhold nvidia-utils-580")
        host.check_output("touch /run/reboot-required")
        write(host, "/data/m.gguf", "version https://git-lfs.github.com/spec/v1")
        host.check_output("sh -c 'dd if=/dev/zero of=/data/full bs=1M count=100 2>/dev/null || true'")
        write(host, "/etc/systemd/system/dsdeploy-vllm.service", UNIT)
        write(host, "/etc/systemd/system/dsdeploy-sglang.service", DEAD_UNIT)
        write(host, "/etc/dsdeploy/deployments/vllm.json", json.dumps(RECORD))
        write(host, "/etc/dsdeploy/deployments/sglang.json", json.dumps(DEAD))
        write(host, "/etc/dsdeploy/deployments/ollama.json", "{")
        write(host, "/etc/dsdeploy/keys/vllm", "a-key")
        # An Ollama of somebody else's, by the name of its process.
        host.check_output("cp /srv/standin_engine /srv/ollama")
        host.check_output("systemctl daemon-reload")
        host.check_output("systemctl enable --quiet --now dsdeploy-vllm dsdeploy-sglang")
        host.check_output("systemd-run --quiet --unit=theirs /srv/ollama 0.0.0.0 11434")
    found, summary = doctor("doctor-systemd", rc=1, paths=["/var/lib/somewhere"], controller_time=1000, **MACHINE)
    wanted = set(GPU_FAULTS.values()) | HOST_FAULTS
    assert wanted - of(found, "fail", "warn") == set(), [found[name] for name in wanted - of(found, "fail", "warn")]
    assert len(wanted) >= 50
    assert all(found[name]["fix"] for name in wanted)
    assert summary["failures"][0]["hint"]
    # What else is told hangs on these.
    assert of(found, "fail", "warn") - wanted <= {"system_swap", "engine_answers", "gpu_memory_held"}

    with host.sudo():
        for name in ("driver_held", "engine_key_file"):
            host.check_output(found[name]["fix"])
        host.check_output(found["system_shm"]["fix"].partition(";")[0])
        host.check_output("rm -rf /etc/dsdeploy /run/reboot-required /data/full /data/m.gguf")
        host.check_output("systemctl disable --quiet --now dsdeploy-vllm dsdeploy-sglang")
        host.check_output("systemctl stop theirs.service")
    play(host)
    mended, _summary = doctor("doctor-systemd", **MACHINE)
    assert [mended[name] for name in of(mended, "fail", "warn")] == []


def test_metrics_for_the_node_exporter(host):
    play(host, "recovery", "memory")
    with host.sudo():
        host.check_output("mkdir -p /var/lib/textfile")
    found, summary = doctor("doctor-systemd", rc=1, textfile="/var/lib/textfile", **MACHINE)
    file = host.file("/var/lib/textfile/dsdeploy_doctor.prom")
    assert (file.mode, file.user) == (0o644, "root")
    text = file.content_string
    assert 'dsdeploy_check_status{check="gpu_recovery_action",group="gpu"} 2\n' in text
    assert 'dsdeploy_check_status{check="gpu_row_remap",group="gpu"} 0\n' in text
    assert 'dsdeploy_gpu_recovery_action{gpu="0",uuid="GPU-00000000-0000-0000-0000-000000000000"} 1\n' in text
    assert host.check_output("ls -A /var/lib/textfile") == "dsdeploy_doctor.prom"
    _found, summary = doctor("doctor-systemd", rc=1, textfile="/var/lib/none", **MACHINE)
    assert "No such file" in summary["failures"][0]["msg"]


def test_a_plain_user_is_told_what_could_not_be_read(host):
    play(host)
    with host.sudo():
        write(host, "/etc/dsdeploy/deployments/vllm.json", json.dumps(RECORD))
        write(host, "/etc/dsdeploy/keys/vllm", "a-key", "0600")
        host.check_output("chmod 0700 /etc/dsdeploy/keys")
    found, _summary = doctor("doctor-systemd", rc=1, become=False, **MACHINE)
    assert found["engine_key_file"]["status"] == "unknown"
    assert found["gpu_answers"]["status"] == "pass"


def test_an_unfriendly_host(host):
    """A shell that talks, a closed umask, a Chinese locale that is not there, and a log that is rubbish."""
    play(host)
    with host.sudo():
        host.check_output("sh -c 'head -c 3000000 /dev/urandom > /srv/standin/kernel.log'")
        write(host, "/home/operator/.bashrc", "echo welcome; umask 077; export LC_ALL=zh_CN.UTF-8 LANG=zh_CN.UTF-8\n")
    found, _summary = doctor("doctor-systemd", **MACHINE)
    assert of(found, "fail", "warn") == set()
    assert found["driver_xid"]["status"] == "pass"


def test_a_container_without_systemd():
    found, _summary = doctor("doctor-container", only=["system", "disk", "network", "engine", "driver_reboot"])
    assert of(found, "fail") == set()
    assert found["system_clock"]["status"] == "skip"
    assert found["system_acs"]["status"] == "skip"
