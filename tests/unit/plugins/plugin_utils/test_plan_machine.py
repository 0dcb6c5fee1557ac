# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine of a saved file: outputs of nvidia-smi, facts in JSON, and what is neither."""

import json
import os
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.gather import gather
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import plan_machine

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "nvidia_smi"
XML, TABLE = "nvidia-smi-q-x.xml", "nvidia-smi.txt"


def machine_of(folder, name):
    return plan_machine.read(str(FIXTURES / folder / name))


@pytest.mark.parametrize("name", [XML, TABLE])
def test_the_seeds_machine(name):
    machine = machine_of("h800-x8-driver550", name)
    assert machine.label() == "8 × NVIDIA H800, 81559 MiB"
    assert machine.driver() == ("550.90.12", "12.4")
    assert machine.capability() == "9.0"


def test_the_table_in_the_middle_of_a_text(tmp_path):
    table = (FIXTURES / "h800-x8-driver550" / TABLE).read_text()
    path = tmp_path / "notes.md"
    path.write_text(f"# 我的服务器\n\n```\n{table}\n```\nnvitop …\n", encoding="utf-8")
    assert plan_machine.read(str(path)).label() == "8 × NVIDIA H800, 81559 MiB"
    path.write_bytes(b"\xff\xfe" + table.encode("utf-16-le"))  # PowerShell's >
    assert len(plan_machine.read(str(path)).gpus) == 8


def test_facts_in_json(tmp_path):
    facts = {
        "nvidia_smi": plan_machine.of_gpus("2xH100").nvidia_smi,
        "dsdeploy_memory": {"total_mib": 64000, "available_mib": 60000, "users": {"root": 10}},
        "ansible_distribution": "Rocky",
        "ansible_distribution_version": "9.6",
    }
    path = tmp_path / "facts.json"
    for text in (facts, {"ansible_facts": facts}, {"changed": False, "ansible_facts": facts}):
        path.write_text(json.dumps(text))
        machine = plan_machine.read(str(path))
        assert (len(machine.gpus), machine.system, machine.memory["available_mib"]) == (2, "Rocky 9.6", 60000)
    path.write_text(json.dumps(facts["nvidia_smi"]))
    assert len(plan_machine.read(str(path)).gpus) == 2


@pytest.mark.parametrize("system", [("Ubuntu", "22.04"), ("Debian", "12.12"), ("RedHat", "9.6"), ("SLES", "15.6")])
def test_hosts_of_all_kinds_without_a_gpu(system, tmp_path):
    smi = gather(str(tmp_path / "no-nvidia-smi"), 5, str(tmp_path / "none"))
    facts = {"nvidia_smi": smi, "distribution": system[0], "distribution_version": system[1]}
    machine = plan_machine.of_facts(facts, "host")
    assert (machine.label(), machine.system, machine.capability()) == ("no GPU", " ".join(system), None)


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("driver-not-loaded/output.txt", "the GPUs cannot be used"),
        ("driver-library-mismatch/output.txt", "the GPUs cannot be used"),
        ("truncated-xml/nvidia-smi-q-x.xml", "cannot be read"),
        ("gpu-lost-whole/output.txt", "the GPUs cannot be used"),
    ],
)
def test_a_host_whose_gpus_cannot_be_used(folder, said):
    with pytest.raises(ValueError, match=said):
        machine_of(*folder.split("/"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is no text"),
        (b"hosts:\n  h800: {}\n", "holds no output of nvidia-smi"),
        (b"{", "is not JSON"),
        (b'{"a": 1}', "no facts of dsdeploy"),
        (b'{"nvidia_smi": []}', "nvidia_smi with a list of gpus is missing"),
        (b'{"nvidia_smi": {"gpus": [1]}}', "a GPU in it is not as"),
        (b'{"nvidia_smi": {"gpus": [{"index": 0, "name": "x", "memory_total_mib": -5}]}}', "a GPU in it is not as"),
        (b'{"nvidia_smi": {"gpus": [{"index": 0, "name": "x", "memory_total_mib": true}]}}', "a GPU in it is not as"),
        (
            b'{"nvidia_smi": {"gpus": [{"index": 0, "name": "", "compute_capability": "x"}]}}',
            "a GPU in it is not as",
        ),
        (b'{"nvidia_smi": {"gpus": [], "status": "timed_out", "reason": "no answer"}}', "cannot be used: no answer"),
        (b'{"nvidia_smi": {"gpus": []}, "dsdeploy_memory": {"total_mib": "much"}}', "dsdeploy_memory is not of"),
        (b"<html><body>404</body></html>", "holds no output of nvidia-smi"),
        (b"<nvidia_smi_log></nvidia_smi_log>", "cannot be read"),
        (b"GPU 0: NVIDIA H100 (UUID: GPU-1)\n", "holds no output of nvidia-smi"),
    ],
)
def test_files_of_other_kinds(data, said, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=said) as caught:
        plan_machine.read(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    with open(tmp_path / "large", "wb") as handle:
        handle.truncate(plan_machine.LARGEST_FILE + 1)
    for path, said in (
        (tmp_path / "large", "which no facts have"),
        (tmp_path, "is no file"),
        (tmp_path / "gone", "No such file"),
        (tmp_path / "pipe", "is no file"),
    ):
        with pytest.raises(ValueError, match=said):
            plan_machine.read(str(path))


def test_unified_memory_mig_and_mixed_gpus():
    unified = machine_of("gb10-unified-memory", TABLE)
    assert unified.memory_unknown() and unified.known()[0] == 0 and unified.known()[1]
    mig = machine_of("mig-two-3g20gb", XML)
    assert "a process gets one" in mig.known()[1][0]
    mixed = plan_machine.of_gpus("1xA100-40GB,1xH100")
    assert (
        mixed.capability() == "8.0"
        and mixed.label() == "1 × NVIDIA A100-40GB, 40960 MiB and 1 × NVIDIA H100-80GB, 81559 MiB"
    )
