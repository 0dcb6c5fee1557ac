# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
import random
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.facts import build_facts, capability_of, summary
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi import (
    HINTS,
    Gpu,
    diagnose,
    parse_nvlink,
    parse_nvlink_down,
    parse_query,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi_table import parse_table
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi_xml import parse_xml
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures" / "nvidia_smi"
XML, TABLE = "nvidia-smi-q-x.xml", "nvidia-smi.txt"


def fixture(case, name=XML):
    return (FIXTURES / case / name).read_bytes().decode("utf-8", "replace")


def facts_of(text, rc=0, parse=parse_xml, **more):
    report = parse(text)
    return build_facts(diagnose(rc, text, "", report), report, "xml", **more)


def check_types(facts):
    """Every key is there, with a value of its type or None, and the whole is JSON."""
    json.dumps(facts)
    assert facts["status"] in HINTS
    assert (facts["reason"] == "") == (facts["hint"] == "") == (facts["status"] == "ok")
    assert "\n" not in facts["reason"] + facts["summary"]
    for gpu in facts["gpus"]:
        assert set(gpu) == set(Gpu.__annotations__)
        for key, value in gpu.items():
            kind = {"_mib": int, "_w": (int, float), "processes": list, "_reasons": list}
            kind.update(dict.fromkeys(("ecc", "mig", "fabric", "pcie", "_errors", "_rows", "_pages"), dict))
            expected = next((kind[end] for end in kind if key.endswith(end)), (str, int))
            assert value is None or isinstance(value, expected), (key, value)
        for counts in (gpu["ecc"]["volatile"], gpu["ecc"]["aggregate"]):
            assert all(count is None or isinstance(count, int) for count in counts.values())
        for instance in gpu["mig"]["instances"]:
            assert all(value is None or isinstance(value, (int, str)) for value in instance.values())
        for process in gpu["processes"]:
            assert isinstance(process["name"], str)
            assert process["pid"] is None or isinstance(process["pid"], int)
    for lost in facts["lost_gpus"]:
        assert lost["reason"]


# Real outputs


def test_real_h100_xml():
    facts = facts_of(fixture("h100-x1-driver580"), query=fixture("h100-x1-driver580", "query-uuid.csv"))
    check_types(facts)
    assert facts["status"] == "ok"
    assert (facts["driver_version"], facts["cuda_version"]) == ("580.159.04", "13.0")
    assert facts["gpus"] == [
        {
            "index": 0,
            "uuid": "GPU-00000000-1111-2222-3333-444444444444",
            "name": "NVIDIA H100 80GB HBM3",
            "architecture": "Hopper",
            "pci_id": "00000000:00:06.0",
            "compute_capability": "9.0",
            "compute_capability_source": "query",
            "memory_total_mib": 81559,
            "memory_used_mib": 0,
            "memory_free_mib": 81079,
            "memory_reserved_mib": 480,
            "utilization_percent": 0,
            "power_draw_w": 75.03,
            "power_limit_w": 700.0,
            "power_default_w": 700.0,
            "temperature_c": 44,
            "ecc": {
                "mode": "Enabled",
                "volatile": {"correctable": 0, "uncorrectable": 0},
                "aggregate": {"correctable": 0, "uncorrectable": 0},
            },
            "mig": {"mode": "Disabled", "instances": []},
            "fabric": {"state": None, "status": None, "health": None, "health_problems": []},
            "sram_errors": {"correctable": 0, "uncorrectable": 0, "threshold_exceeded": False},
            "persistence_mode": True,
            "pcie": {"width": 16, "max_width": 16, "gen": 5, "max_gen": 5, "device_gen": 5, "replays": 0},
            "nvlinks": None,
            "nvlinks_down": None,
            "recovery_action": None,
            "remapped_rows": {"correctable": 0, "uncorrectable": 0, "pending": False, "failure": False},
            "retired_pages": {"single_bit": None, "double_bit": None, "pending": None},
            "throttle_reasons": ["gpu_idle"],
            "compute_mode": "Default",
            "processes": [],
        }
    ]
    assert facts["fabric"] == {"ready": None, "state": None, "status": None, "health": None}
    assert facts["nvlink"] == {"present": None, "links": None}


def test_real_h100_table_agrees_with_its_xml():
    xml, table = parse_xml(fixture("h100-x1-driver580")), parse_table(fixture("h100-x1-driver580", TABLE))
    assert (table["driver_version"], table["cuda_version"]) == (xml["driver_version"], xml["cuda_version"])
    same = (
        "index",
        "name",
        "pci_id",
        "memory_total_mib",
        "memory_used_mib",
        "utilization_percent",
        "temperature_c",
        "mig",
    )
    for key in same + ("power_limit_w", "processes"):
        assert table["gpus"][0][key] == xml["gpus"][0][key], key
    assert table["gpus"][0]["ecc"]["mode"] == "Enabled"
    assert table["gpus"][0]["power_draw_w"] == 75


def test_real_h200():
    xml, table = fixture("h200-x1"), fixture("h200-x1", TABLE)
    facts = facts_of(xml, query=fixture("h200-x1", "query-uuid.csv"))
    check_types(facts)
    assert facts["summary"] == "1 x NVIDIA H200, 143771 MiB, driver 580.159.04, CUDA 13.0"
    gpu = facts["gpus"][0]
    assert (gpu["uuid"], gpu["pci_id"]) == ("GPU-00000000-0000-0000-0000-000000000000", "00000000:00:06.0")
    assert (gpu["compute_capability"], gpu["compute_capability_source"]) == ("9.0", "query")
    assert [gpu[f"memory_{kind}_mib"] for kind in ("total", "used", "free", "reserved")] == [143771, 0, 143156, 616]
    assert (gpu["power_draw_w"], gpu["power_limit_w"], gpu["temperature_c"]) == (79.48, 700.0, 43)
    # Without the query, its name tells what to build for.
    for text, parse in ((xml, parse_xml), (table, parse_table)):
        gpu = facts_of(text, parse=parse)["gpus"][0]
        assert (gpu["compute_capability"], gpu["compute_capability_source"]) == ("9.0", "product")


def test_two_real_h200_on_an_nvswitch():
    facts = facts_of(fixture("h200-x2"), query=fixture("h200-x2", "query-uuid.csv"))
    check_types(facts)
    assert facts["summary"] == "2 x NVIDIA H200, 143771 MiB each, driver 580.159.04, CUDA 13.0"
    assert [gpu["uuid"][-1] for gpu in facts["gpus"]] == ["0", "1"]
    assert [gpu["compute_capability"] for gpu in facts["gpus"]] == ["9.0", "9.0"]
    # nvidia-smi's own words (--query-gpu=memory.total,reserved,used,free): 143771, 616, 0, 143156 MiB.
    kinds = ("total", "reserved", "used", "free")
    assert [[gpu[f"memory_{kind}_mib"] for kind in kinds] for gpu in facts["gpus"]] == [[143771, 616, 0, 143156]] * 2
    fabric = facts["fabric"]
    assert (fabric["ready"], fabric["state"], fabric["status"]) == (True, "Completed", "Success")
    assert facts["warnings"] == []


def test_real_h800_table():
    facts = facts_of(fixture("h800-x8-driver550", TABLE), parse=parse_table)
    check_types(facts)
    assert facts["summary"] == "8 x NVIDIA H800, 81559 MiB each, driver 550.90.12, CUDA 12.4"
    assert facts["total_memory_mib"] == 8 * 81559
    assert [gpu["index"] for gpu in facts["gpus"]] == list(range(8))
    assert [gpu["pci_id"][9:11] for gpu in facts["gpus"]] == ["18", "3A", "4B", "5C", "84", "AC", "B3", "B9"]
    assert [gpu["temperature_c"] for gpu in facts["gpus"]] == [37, 37, 37, 37, 38, 37, 37, 38]
    assert [gpu["power_draw_w"] for gpu in facts["gpus"]] == [84, 83, 82, 84, 83, 84, 85, 87]
    assert {gpu["memory_free_mib"] for gpu in facts["gpus"]} == {81555}
    assert {(gpu["compute_capability"], gpu["compute_capability_source"]) for gpu in facts["gpus"]} == {
        ("9.0", "product")
    }


# Made outputs


def test_nvlink_and_fabric():
    facts = facts_of(
        fixture("h800-x8-driver550"),
        query=fixture("h800-x8-driver550", "query-uuid.csv"),
        nvlink=fixture("h800-x8-driver550", "nvlink.txt"),
        pci={"gpus": 8, "nvswitches": 4, "vfio": 0, "bridges": 0},
    )
    check_types(facts)
    assert facts["nvlink"] == {"present": True, "links": 64}
    assert {gpu["nvlinks"] for gpu in facts["gpus"]} == {8}
    assert facts["nvswitch"] == {"present": True, "count": 4}
    assert facts["pci_gpu_count"] == 8
    assert facts["fabric"] == {"ready": True, "state": "Completed", "status": "Success", "health": None}


@pytest.mark.parametrize(
    ("text", "fabric"),
    [
        (fixture("fabric-in-progress"), {"ready": False, "state": "In Progress", "status": None, "health": None}),
        (
            fixture("h800-x8-driver550").replace("<status>Success", "<status>Insufficient Resources"),
            {"ready": False, "state": "Completed", "status": "Insufficient Resources", "health": None},
        ),
    ],
)
def test_fabric_that_is_not_ready(text, fabric):
    facts = facts_of(text)
    assert facts["status"] == "ok"
    assert facts["fabric"] == fabric


@pytest.mark.parametrize(("name", "parse"), [(XML, parse_xml), (TABLE, parse_table)])
def test_mig(name, parse):
    gpus = parse(fixture("mig-a100", name))["gpus"]
    assert [gpu["mig"]["mode"] for gpu in gpus] == ["Enabled", "Disabled"]
    keys = ("index", "gpu_instance_id", "compute_instance_id", "memory_total_mib", "memory_used_mib", "multiprocessors")
    assert [tuple(one[key] for key in keys) for one in gpus[0]["mig"]["instances"]] == [
        (0, 1, 0, 19968, 14366, 42),
        (1, 2, 0, 19968, 19, 42),
    ]
    assert gpus[1]["mig"]["instances"] == []
    assert gpus[0]["processes"] == [
        {"pid": 3511, "name": "/opt/venv/bin/python3", "type": "C", "used_memory_mib": 14340}
    ]
    assert gpus[0]["ecc"]["mode"] == "Enabled"


def test_table_ecc_count():
    gpus = parse_table(fixture("mig-a100", TABLE))["gpus"]
    assert [gpu["ecc"]["volatile"]["uncorrectable"] for gpu in gpus] == [None, 2]


@pytest.mark.parametrize(("name", "parse"), [(XML, parse_xml), (TABLE, parse_table)])
def test_laptop(name, parse):
    facts = facts_of(fixture("geforce-laptop", name), parse=parse)
    check_types(facts)
    gpu = facts["gpus"][0]
    assert gpu["ecc"]["mode"] is None
    assert gpu["mig"]["mode"] is None
    assert gpu["power_limit_w"] is None
    assert gpu["compute_capability"] == "8.9"
    assert [(one["pid"], one["type"]) for one in gpu["processes"]][:2] == [(1893, "G"), (2207, "C+G")]
    assert [one["used_memory_mib"] for one in gpu["processes"]][:2] == [4, None]


def test_table_process_names_that_do_not_fit():
    names = [one["name"] for one in parse_table(fixture("geforce-laptop", TABLE))["gpus"][0]["processes"]]
    assert names[1] == "...八九十/应用程序/模型服务 --参数=很长很长"
    assert names[2] == "...ages/vllm/entrypoints/openai | api_server.py --a-name-that-is-longer-than-the-table"


def test_driver_470_has_other_tags():
    facts = facts_of(fixture("v100-driver470"), query=fixture("v100-driver470", "query-uuid.csv"))
    check_types(facts)
    gpu = facts["gpus"][0]
    assert gpu["ecc"]["volatile"] == {"correctable": 1, "uncorrectable": 0}
    assert gpu["ecc"]["aggregate"] == {"correctable": 5, "uncorrectable": 2}
    assert (gpu["power_draw_w"], gpu["power_limit_w"]) == (42.11, 250.0)
    assert gpu["memory_reserved_mib"] is None
    assert (gpu["compute_capability"], gpu["compute_capability_source"]) == ("7.0", "product")


def test_driver_384_table_without_cuda_and_mig():
    report = parse_table(fixture("old-table-driver384", TABLE))
    assert (report["driver_version"], report["cuda_version"]) == ("384.111", None)
    assert [gpu["name"] for gpu in report["gpus"]] == ["Quadro P1000", "Tesla P40"]
    assert [gpu["pci_id"] for gpu in report["gpus"]] == ["00000000:65:00.0", "00000000:B3:00.0"]
    assert [gpu["ecc"]["mode"] for gpu in report["gpus"]] == [None, "Disabled"]
    assert [gpu["processes"][0]["pid"] for gpu in report["gpus"]] == [1234, 16241]
    # One sensor that fails is no lost GPU.
    assert report["lost_gpus"] == []
    assert report["warnings"] == ["GPU 0: nvidia-smi shows ERR! for a reading."]


def test_labels_of_driver_610():
    report = parse_table(fixture("table-driver610", TABLE))
    assert (report["driver_version"], report["cuda_version"]) == ("610.43.02", "13.3")
    xml = fixture("h100-x1-driver580").replace("cuda_version", "cuda_umd_version")
    assert parse_xml(xml)["cuda_version"] == "13.0"


def test_odd_values():
    facts = facts_of(fixture("odd-values"))
    check_types(facts)
    grace, spark, virtual = facts["gpus"]
    assert facts["cuda_version"] is None
    assert (grace["compute_capability"], grace["compute_capability_source"]) == ("9.0", "xml")
    assert (grace["power_draw_w"], grace["power_limit_w"], grace["temperature_c"]) == (None, 900.0, None)
    assert grace["ecc"]["volatile"] == {"correctable": 7, "uncorrectable": 3}
    assert grace["ecc"]["aggregate"] == {"correctable": 3, "uncorrectable": 1}
    assert grace["recovery_action"] == "Drain and Reset"
    assert spark["memory_total_mib"] is None
    assert spark["ecc"]["volatile"] == {"correctable": None, "uncorrectable": None}
    assert spark["compute_capability"] == "12.1"
    assert virtual["compute_capability"] == "8.0"
    assert facts["total_memory_mib"] is None  # that of one is not known


@pytest.mark.parametrize(
    "nothing",
    ["N/A", "[N/A]", "[Not Supported]", "Requested functionality has been deprecated", "[GPU requires reset]", "", " "],
)
def test_no_value_is_none(nothing):
    text = fixture("h100-x1-driver580").replace("<current_mig>Disabled<", f"<current_mig>{nothing}<")
    assert parse_xml(text)["gpus"][0]["mig"]["mode"] is None


@pytest.mark.parametrize("number", ["9" * 5000, "81559 GiB", "nan", "-", "8e9", "-1 MiB"])
def test_what_is_no_number_of_mib_is_none(number):
    gpu = parse_xml(fixture("h100-x1-driver580").replace("<total>81559 MiB<", f"<total>{number}<"))["gpus"][0]
    assert (gpu["memory_total_mib"], gpu["memory_free_mib"]) == (None, 81079)


def test_capability_of_the_xml_counts_first():
    facts = facts_of(fixture("odd-values"), query="GPU-00000000-0000-0000-0000-000000000200, 0, 8.0\n")
    assert (facts["gpus"][0]["compute_capability"], facts["gpus"][0]["compute_capability_source"]) == ("9.0", "xml")


def test_process_names_are_data():
    names = [one["name"] for one in parse_xml(fixture("process-names"))["gpus"][0]["processes"]]
    assert names == ["/opt/model/python", "R&D <run> & co", "bell\ufffdname", ""]


def test_corrupt_inforom_is_a_warning():
    text = fixture("inforom-warning")
    facts = build_facts(diagnose(14, text, "", parse_xml(text)), parse_xml(text), "xml")
    assert facts["status"] == "ok"
    assert facts["warnings"] == ["WARNING: infoROM is corrupted at gpu 0000:18:00.0"]


# Why there is nothing


@pytest.mark.parametrize(
    ("case", "rc", "status", "reason"),
    [
        ("driver-library-mismatch", 18, "driver_library_mismatch", "mismatch; NVML library version: 535.161"),
        ("driver-not-loaded", 9, "driver_not_loaded", "couldn't communicate with the NVIDIA driver"),
        ("library-missing", 12, "library_missing", "libnvidia-ml.so"),
        ("no-devices", 6, "no_devices", "No devices were found"),
        ("no-permission", 4, "no_permission", "Insufficient Permissions"),
        ("nvml-unknown-error", 255, "unknown", "Failed to initialize NVML: Unknown Error"),
        ("gpu-lost-whole", 15, "gpu_lost", "GPU 00000000:02:00.0: GPU is lost. Reboot the system"),
        ("gpu-handle-unknown-error", 255, "gpu_lost", "GPU 00000000:07:00.0: Unknown Error"),
        ("empty", 255, "unknown", "code 255"),
        ("empty", 0, "unreadable", "no <nvidia_smi_log>"),
        ("empty", 9, "driver_not_loaded", "code 9"),
    ],
)
def test_no_gpus(case, rc, status, reason):
    for text, errors in ((fixture(case, "output.txt"), ""), ("", fixture(case, "output.txt"))):
        report = parse_xml(text + errors)
        facts = build_facts(diagnose(rc, text, errors, report), report, "xml")
        check_types(facts)
        assert facts["status"] == status
        assert reason in facts["reason"]
        assert facts["gpus"] == []
        assert facts["source"] is None
        assert facts["summary"] == "no usable NVIDIA GPU: " + facts["reason"]


def test_not_installed_and_timed_out():
    nothing = parse_xml("")
    assert diagnose(None, "", "", nothing)["status"] == "not_installed"
    late = diagnose(None, fixture("no-devices", "output.txt"), "", nothing, timeout=30)
    assert (late["status"], late["reason"]) == ("timed_out", "nvidia-smi did not answer within 30 s")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (fixture("truncated-xml"), "XML: "),
        (fixture("h800-x8-driver550").replace("</pci>", "</pcj>", 1), "XML: mismatched tag"),
        (fixture("entities"), "entities"),
        ("<?xml version='1.0'?><html/>", "root is <html>"),
        ("hello", "no <nvidia_smi_log>"),
    ],
)
def test_damaged_xml_is_a_reason_and_counts_no_gpu(text, reason):
    facts = facts_of(text)
    check_types(facts)
    assert facts["status"] == "unreadable"
    assert reason in facts["reason"]
    assert facts["gpus"] == []


@pytest.mark.parametrize("name", [XML, "field-bodies.xml", TABLE])
def test_one_lost_of_eight(name):
    parse = parse_table if name == TABLE else parse_xml
    facts = facts_of(fixture("gpu-lost-one-of-eight", name), rc=15, parse=parse)
    check_types(facts)
    assert facts["status"] == "gpu_lost"
    assert [gpu["index"] for gpu in facts["gpus"]] == [0, 1, 2, 4, 5, 6, 7]
    assert [(lost["index"], lost["pci_id"]) for lost in facts["lost_gpus"]] == [(3, "00000000:5C:00.0")]
    assert facts["summary"] == "7 x NVIDIA H800, 81559 MiB each, driver 550.90.12, CUDA 12.4, 1 lost"


def test_xml_that_ends_at_the_lost_gpu():
    facts = facts_of(fixture("gpu-lost-one-of-eight", "broken-off.xml"), rc=15)
    assert facts["status"] == "gpu_lost"
    assert [gpu["index"] for gpu in facts["gpus"]] == [0, 1, 2]
    assert facts["warnings"] == ["The driver says 8 GPUs and describes 3."]


def test_query_corrects_the_index():
    rows = "GPU-00000001-aaaa-bbbb-cccc-dddddddddddd, 6, 9.0\n"
    gpus = facts_of(fixture("h800-x8-driver550"), query=rows)["gpus"]
    assert [gpu["index"] for gpu in gpus][:3] == [0, 6, 2]
    assert [gpu["compute_capability_source"] for gpu in gpus][:2] == ["product", "query"]


def test_small_outputs():
    assert parse_query("GPU-a, 0, 9.0\nGPU-b, 1, [N/A]\nUnable to determine, the, handle\n") == [
        ("GPU-a", 0, "9.0"),
        ("GPU-b", 1, None),
    ]
    text = (
        "GPU 0: NVIDIA A100 (UUID: GPU-a)\n\t Link 0: 25 GB/s\n\t Link 1: <inactive>\n"
        "GPU 1: NVIDIA A100 (UUID: GPU-b)\nNVML: Unable to retrieve NVLink information as all links are inActive\n"
    )
    assert parse_nvlink(text) == {"GPU-a": 1, "GPU-b": 0}
    assert parse_nvlink_down(text) == {"GPU-a": 1}


def test_links_that_the_driver_does_not_tell_of_are_not_known():
    zeros = "GPU-00000000-0000-0000-0000-000000000000"
    divided = fixture("nvlink-mig-590", "nvlink.txt")
    assert (parse_nvlink(divided), parse_nvlink_down(divided)) == ({}, {})
    inactive = fixture("nvlink-all-inactive-610", "nvlink.txt")
    assert (parse_nvlink(inactive), parse_nvlink_down(inactive)) == ({zeros: 0}, {})


@pytest.mark.parametrize(
    ("name", "architecture", "capability"),
    [
        ("NVIDIA H20", None, "9.0"),
        # Guests: NVIDIA, "Virtual GPU Types for Supported GPUs".
        ("NVIDIA H100XM-80C", None, "9.0"),
        ("NVIDIA H200X-141C", None, "9.0"),
        ("NVIDIA A800DX-80C", None, "8.0"),
        ("GRID A100DX-80C", None, "8.0"),
        ("NVIDIA RTXA6000-48Q", None, "8.6"),
        ("GRID RTX6000-24Q", None, "7.5"),
        ("NVIDIA RTX6000-Ada-48Q", None, "8.9"),
        # pci.ids of 2026-08-22.
        ("NVIDIA GeForce RTX 3050 A Laptop GPU", None, "8.9"),
        ("NVIDIA GeForce RTX 3050 Laptop GPU", None, "8.6"),
        ("Tesla T10", None, "7.5"),
        ("Tesla T40 24GB", None, "7.5"),
        ("NVIDIA CMP 70HX", None, "8.6"),
        ("NVIDIA H100L 94GB", None, "9.0"),
        ("NVIDIA L30", None, "8.9"),
        ("NVIDIA H200 NVL", None, "9.0"),
        ("NVIDIA GB200", "Blackwell", "10.0"),
        ("NVIDIA B300 SXM6 AC", "Blackwell", "10.3"),
        ("NVIDIA RTX PRO 6000 Blac...", None, "12.0"),
        ("NVIDIA GeForce RTX 5090", None, "12.0"),
        ("Quadro RTX 5000", None, "7.5"),
        ("NVIDIA RTX 5000 Ada Gene...", None, "8.9"),
        ("NVIDIA L20", None, "8.9"),
        ("NVIDIA A800-SXM4-80GB", None, "8.0"),
        ("NVIDIA A10", None, "8.6"),
        ("NVIDIA RTX A6000", None, "8.6"),
        ("Tesla T4", None, "7.5"),
        ("NVIDIA H999", "Hopper", "9.0"),
        ("NVIDIA X999", "Blackwell", None),
        (None, None, None),
    ],
)
def test_capability_of(name, architecture, capability):
    assert capability_of(name, architecture) == capability


def test_summary_of_mixed_gpus():
    text = fixture("mig-a100").replace("A100-SXM4-40GB", "A30", 1).replace("40960", "24576", 1)
    assert facts_of(text)["summary"] == (
        "1 x NVIDIA A30, 24576 MiB, 1 x NVIDIA A100-SXM4-40GB, 40960 MiB, driver 535.54.03, CUDA 12.2"
    )
    assert summary(facts_of("", rc=9)) == "no usable NVIDIA GPU: nvidia-smi ended with code 9 and no message"


# Any text gives a typed result


def all_of(text, rc):
    for parse in (parse_xml, parse_table):
        report = parse(text)
        for timeout in (None, 5):
            check_types(build_facts(diagnose(rc, text, text, report, timeout), report, "xml", text, text))


@given(text=st.text(), rc=st.none() | st.integers(-64, 255))
def test_any_text(text, rc):
    all_of(text, rc)


PIECES = [line for path in sorted(FIXTURES.rglob("*.*")) for line in path.read_text(errors="replace").splitlines()]


@given(lines=st.lists(st.sampled_from(PIECES) | st.text(max_size=20), max_size=60))
def test_any_mix_of_lines(lines):
    all_of("\n".join(lines), 0)


@given(
    seed=st.integers(0, 10**6), name=st.sampled_from(["odd-values", "mig-a100", "process-names", "h800-x8-driver550"])
)
def test_damaged_outputs(seed, name):
    dice, files = random.Random(seed), sorted((FIXTURES / name).iterdir())
    text = dice.choice(files).read_text(errors="replace")
    for _cut in range(dice.randint(1, 4)):
        start = dice.randrange(len(text) + 1)
        text = (
            text[:start]
            + dice.choice(["", "\x00", "<", "&", "\udc80", "9" * 5000, "|", "N/A"])
            + text[start + dice.randint(0, 400) :]
        )
    all_of(text, 0)


@given(
    name=st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufffe\uffff")),
    raw=st.booleans(),
)
def test_any_process_name_comes_back(name, raw):
    # A name that holds an escape sequence of its own is ambiguous when the driver does not escape.
    raw = raw and "&" not in name and "<" not in name
    text = fixture("process-names").replace(">bell\x07name<", ">%s<" % (name if raw else escape(name)))
    assert parse_xml(text)["gpus"][0]["processes"][2]["name"] == name
