# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each generation of the driver and each kind of GPU has of its own, from public outputs and their siblings."""

import re
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import gpus_from_facts, memory_unknown
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.facts import build_facts, capability_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi import diagnose
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi_table import parse_table
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi_xml import parse_xml

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures" / "nvidia_smi"
XML, TABLE, OUTPUT = "nvidia-smi-q-x.xml", "nvidia-smi.txt", "output.txt"


def text_of(case, name):
    return (FIXTURES / case / name).read_text()


def facts_of(text, rc=0, parse=None):
    parse = parse or (parse_xml if "<nvidia_smi_log" in text else parse_table)
    report = parse(text)
    return build_facts(diagnose(rc, text, "", report), report, "xml")


def lost_of(facts):
    return [(one["index"], one["pci_id"], one["reason"]) for one in facts["lost_gpus"]]


def indices(facts):
    return [gpu["index"] for gpu in facts["gpus"]]


# A GPU that is gone, with rows that can be read


def test_a_row_of_errors_with_a_readable_memory_is_a_lost_gpu():
    facts = facts_of(text_of("err-row-readable-memory", TABLE))
    assert (facts["status"], indices(facts)) == ("gpu_lost", [4])
    (lost,) = facts["lost_gpus"]
    assert (lost["index"], lost["pci_id"], lost["name"]) == (5, "00000000:91:00.0", None)
    assert [gpu["ecc"]["mode"] for gpu in facts["gpus"]] == ["Enabled"]


@pytest.mark.parametrize("ecc", ["ERR!", "N/A"])
def test_so_it_is_where_its_name_is_kept(ecc):
    facts = facts_of(text_of("err-row-name-kept", TABLE).replace("                 ERR! |\n|ERR!", f"  {ecc} |\n|ERR!"))
    assert (facts["status"], facts["gpus"]) == ("gpu_lost", [])
    assert [(one["index"], one["name"]) for one in facts["lost_gpus"]] == [(3, "NVIDIA Y100")]


@pytest.mark.parametrize("row", ["|ERR!   50C    P0    60W / 400W |", "| 30%   50C    P0    ERR! / ERR! |"])
def test_a_sensor_that_fails_alone_is_a_warning(row):
    text = text_of("err-row-readable-memory", TABLE).replace("| N/A   34C    P0    60W / 400W |", row)
    facts = facts_of(text)
    assert indices(facts) == [4]
    assert facts["warnings"] == ["GPU 4: nvidia-smi shows ERR! for a reading."]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (r"<uuid>GPU[^<]*</uuid>", "<uuid>[GPU is lost]</uuid>"),
        (r"<product_name>[^<]*</product_name>", "<product_name>ERR!</product_name>"),
        (r"(?s)<gpu_util>.*?</gpu_util>(.*)<gpu_temp>.*?</gpu_temp>", r"<gpu_util>Unknown Error</gpu_util>\1"
         "<gpu_temp>GPU requires reset</gpu_temp>"),
    ],
)  # fmt: skip
def test_in_the_xml_too(path, value):
    text = text_of("h100-x1-driver580", XML)
    found = re.sub(path, value, text, count=1)
    assert found != text
    facts = facts_of(found)
    assert (facts["status"], facts["gpus"], len(facts["lost_gpus"])) == ("gpu_lost", [], 1)


def test_one_failed_reading_of_the_xml_is_not_a_lost_gpu():
    text = re.sub("<gpu_temp>.*?</gpu_temp>", "<gpu_temp>Unknown Error</gpu_temp>", text_of("h100-x1-driver580", XML))
    facts = facts_of(text)
    assert (facts["status"], facts["gpus"][0]["temperature_c"]) == ("ok", None)


# The message for a GPU without a handle


@pytest.mark.parametrize(
    ("line", "lost"),
    [
        ("GPU 0000:34:00.0: Unknown Error", (None, "00000000:34:00.0", "Unknown Error")),  # 390 to 515
        ("gpu 0000:34:00.0: GPU is lost.  Reboot the system to recover this GPU",
         (None, "00000000:34:00.0", "GPU is lost. Reboot the system to recover this GPU")),
        ("GPU0000:34:00.0: Unknown Error", (None, "00000000:34:00.0", "Unknown Error")),  # 525 to 550
        ("GPU 00000000:34:00.0: Not Found", (None, "00000000:34:00.0", "Not Found")),
        ("GPU1: 0000:34:00.0: Unknown Error", (1, "00000000:34:00.0", "Unknown Error")),  # 560 on
        ("GPU15: 000F:34:00.0: Unknown Error", (15, "0000000F:34:00.0", "Unknown Error")),
        ("GPU1: Unknown Error", (1, None, "Unknown Error")),
        ("GPU1:", (1, None, "no device handle")),
    ],
)  # fmt: skip
def test_every_generation_s_message_names_the_gpu(line, lost):
    text = "Unable to determine the device handle for " + line
    for parse in (parse_table, parse_xml):
        facts = facts_of(text + "\n" + text, 255, parse)  # on both outputs
        assert (facts["status"], lost_of(facts)) == ("gpu_lost", [lost])
        assert facts["reason"].startswith("GPU %s: " % (lost[1] or lost[0]))


def test_the_message_before_a_table_of_driver_610():
    facts = facts_of(text_of("handle-gpu-index-610", TABLE))
    assert lost_of(facts) == [(1, "00000000:34:00.0", "Unknown Error")]
    assert (indices(facts), facts["driver_version"]) == ([0, 2], "610.57.04")


def test_the_message_before_an_xml_of_three():
    facts = facts_of(text_of("handle-gpu-index-before", XML))
    assert lost_of(facts) == [(1, "00000000:3F:00.0", "Unknown Error")]
    assert (facts["status"], indices(facts)) == ("gpu_lost", [0, 2, 3])


@pytest.mark.parametrize(("line", "left"), [("GPU1: Unknown Error", [0, 2, 3]), ("GPU3: Unknown Error", [0, 1, 2])])
def test_without_an_address_it_keeps_its_number_too(line, left):
    text = text_of("handle-gpu-index-before", XML).replace("GPU1: 0000:3F:00.0: Unknown Error", line)
    facts = facts_of(text)
    assert lost_of(facts) == [(int(line[3]), None, "Unknown Error")]
    assert indices(facts) == left


def test_no_handle_and_nothing_else():
    facts = facts_of(text_of("handle-gpu-index-no-address", OUTPUT), 0)
    assert (facts["status"], lost_of(facts)) == ("gpu_lost", [(1, None, "Unknown Error")])


# GPUs that are part of a chip


def test_orin_has_no_address_and_no_memory_of_its_own():
    facts = facts_of(text_of("orin-no-bus-id-540", TABLE))
    (gpu,) = facts["gpus"]
    assert (facts["status"], facts["driver_version"], facts["cuda_version"]) == ("ok", "540.4.0", "12.6")
    assert (gpu["index"], gpu["name"], gpu["pci_id"], gpu["memory_total_mib"]) == (0, "Orin (nvgpu)", None, None)
    assert gpu["compute_capability"] == "8.7"
    assert facts["summary"] == "1 x Orin (nvgpu), memory unknown, driver 540.4.0, CUDA 12.6"


def test_two_gpus_without_addresses_are_two_also_beside_a_lost_one():
    text = text_of("orin-no-bus-id-540", TABLE)
    row = text[text.index("|   0  Orin") : text.index("+----", text.index("|   0  Orin"))]
    twice = text.replace(row, row + row.replace("|   0  Orin", "|   1  Orin"))
    assert indices(facts_of(twice)) == [0, 1]
    assert indices(facts_of("Unable to determine the device handle for GPU2: Unknown Error\n" + twice)) == [0, 1]


@pytest.mark.parametrize("words", ["N/A", "[N/A]", "[Not Supported]", "[Insufficient Permissions]", "0 MiB"])
def test_a_memory_that_is_not_told_is_no_size_of_0(words):
    text = text_of("h100-x1-driver580", XML)
    text = re.sub(r"(<fb_memory_usage>)(.*?)(</fb_memory_usage>)", lambda found: re.sub(r">[^<>]+ MiB<", f">{words}<",
                  found.group(0)), text, flags=re.S)  # fmt: skip
    facts = facts_of(text)
    assert (facts["status"], len(facts["gpus"]), facts["total_memory_mib"]) == ("ok", 1, None)
    assert facts["gpus"][0]["memory_total_mib"] is None
    assert gpus_from_facts(facts)[0] == [] and memory_unknown(facts)
    assert "memory unknown" in facts["summary"]


def test_a_table_with_a_memory_of_0():
    text = text_of("table-driver610", TABLE)
    facts = facts_of(re.sub(r"\d+MiB\s*/\s*\d+MiB", "0MiB /      0MiB", text))
    assert {gpu["memory_total_mib"] for gpu in facts["gpus"]} == {None}
    assert facts["total_memory_mib"] is None


@pytest.mark.parametrize(
    ("mode", "process", "user", "free"),
    [("Default", True, "x", 1), ("Prohibited", False, "x", 0), ("Exclusive_Process", False, "x", 1),
     ("Exclusive_Process", True, "x", 0), ("Exclusive_Process", True, "dsdeploy-vllm", 1), (None, True, "x", 1)],
)  # fmt: skip
def test_the_compute_mode_says_whether_a_process_may_come(mode, process, user, free):
    (gpu,) = facts_of(text_of("h100-x1-driver580", XML))["gpus"]
    gpu["compute_mode"] = mode
    gpu["processes"] = [{"pid": 7, "name": "p", "type": "C", "used_memory_mib": 5, "user": user}] if process else []
    found, notes = gpus_from_facts({"gpus": [gpu]}, users=["dsdeploy-vllm"])
    assert len(found) == free
    assert all(str(mode) in note for note in notes) and len(notes) == 1 - free


def test_gb10_shares_the_host_s_memory():
    facts = facts_of(text_of("gb10-unified-memory", TABLE))
    (gpu,) = facts["gpus"]
    assert (facts["status"], gpu["pci_id"], gpu["memory_total_mib"]) == ("ok", "0000000F:01:00.0", None)
    assert (gpu["compute_capability"], facts["lost_gpus"], facts["warnings"]) == ("12.1", [], [])


# No devices


@pytest.mark.parametrize(
    "said", [text_of("no-devices-found-rc0", OUTPUT), "No devices were found", "No supported devices were found\n"]
)
@pytest.mark.parametrize("rc", [0, 6, 255])
def test_no_devices(said, rc):
    for parse in (parse_xml, parse_table):
        assert facts_of(said, rc, parse)["status"] == "no_devices"


# The health of the fabric


def test_an_unhealthy_fabric_is_not_ready_and_says_what_is_wrong():
    facts = facts_of(text_of("fabric-unhealthy", XML))
    assert facts["fabric"] == {"ready": False, "state": "Completed", "status": "Success", "health": "Unhealthy"}
    assert facts["warnings"] == [
        "GPU 1: the health of the NVLink fabric is Unhealthy, bandwidth Degraded, route_unhealthy True."
    ]


@pytest.mark.parametrize("change", [str.upper, str.lower, str.title])
def test_the_letters_of_the_fabrics_words_do_not_matter(change):
    text = text_of("fabric-unhealthy", XML)
    for word in ("Completed", "Success", "Unhealthy"):
        text = text.replace(f">{word}<", f">{change(word)}<")
    facts = facts_of(text)
    assert facts["fabric"] == {"ready": False, "state": "Completed", "status": "Success", "health": "Unhealthy"}


@pytest.mark.parametrize(
    ("health", "ready", "warning"),
    [
        ("<summary>Limited Capacity</summary>", True, "Limited Capacity"),
        # Before the summary there was only the mask.
        ("<bandwidth>Degraded</bandwidth><route_recovery_in_progress>False</route_recovery_in_progress>", True,
         "bandwidth Degraded"),
        ("<bandwidth>Full</bandwidth><access_timeout_recovery>True</access_timeout_recovery>", True,
         "access_timeout_recovery True"),
        ("<summary>Healthy</summary><incorrect_configuration>Insufficient Resources</incorrect_configuration>", True,
         "Healthy, incorrect_configuration Insufficient Resources"),
        ("<summary>Healthy</summary><bandwidth>Full</bandwidth><incorrect_configuration>None</incorrect_configuration>",
         True, None),
        ("<bandwidth>N/A</bandwidth><route_unhealthy>[Not Supported]</route_unhealthy>", True, None),
    ],
)  # fmt: skip
def test_every_part_of_the_health_counts(health, ready, warning):
    text = re.sub("<health>.*?</health>", f"<health>{health}</health>", text_of("fabric-unhealthy", XML))
    facts = facts_of(text)
    assert facts["fabric"]["ready"] is ready
    said = "GPU %d: the health of the NVLink fabric is %s."
    assert facts["warnings"] == ([said % (index, warning) for index in (0, 1)] if warning else [])


# What a doctor reads


def test_what_holds_the_clocks_down_and_what_the_memory_has_lost():
    (gpu,) = facts_of(text_of("h100-x1-driver580", XML))["gpus"]
    assert gpu["throttle_reasons"] == ["gpu_idle"]
    assert gpu["remapped_rows"] == {"correctable": 0, "uncorrectable": 0, "pending": False, "failure": False}
    old = text_of("h100-x1-driver580", XML).replace("clocks_event_reason", "clocks_throttle_reason")
    old = old.replace("hw_thermal_slowdown>Not Active", "hw_thermal_slowdown>Active")
    old = old.replace("<remapped_row_pending>No<", "<remapped_row_pending>Yes<")
    (gpu,) = facts_of(old)["gpus"]
    assert gpu["throttle_reasons"] == ["gpu_idle", "hw_thermal_slowdown"]
    assert gpu["remapped_rows"]["pending"] is True
    (table,) = facts_of(text_of("h100-x1-driver580", TABLE))["gpus"]
    assert (table["throttle_reasons"], table["remapped_rows"]["pending"]) == ([], None)


# Products, by pci.ids and NVIDIA's page "CUDA GPUs"


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("NVIDIA GeForce RTX 2050", "8.6"),
        ("NVIDIA GeForce RTX 2060", "7.5"),
        ("NVIDIA GeForce RTX 2080 Ti", "7.5"),
        ("NVIDIA GeForce MX570", "8.6"),
        ("NVIDIA GeForce MX550", "7.5"),
        ("NVIDIA GeForce MX450", "7.5"),
        ("NVIDIA GeForce MX350", "6.1"),
        ("NVIDIA GeForce MX130", "5.0"),
        ("NVIDIA T400 4GB", "7.5"),
        ("NVIDIA T1000 8GB", "7.5"),
        ("GRID V100D-32Q", "7.0"),
        ("Quadro GV100", "7.0"),
        ("Quadro GP100", "6.0"),
        ("Quadro P5000", "6.1"),
        ("NVIDIA P106-100", "6.1"),
        ("Tesla M60", "5.2"),
        ("Tesla M10", "5.0"),
        ("NVIDIA CMP 170HX", "8.0"),
        ("NVIDIA CMP 40HX", "7.5"),
        ("NVIDIA RTX A2000 12GB", "8.6"),
        ("NVIDIA RTX 2000 Ada Generation", "8.9"),
        ("NVIDIA GeForce RTX 5050", "12.0"),
        ("NVIDIA RTX PRO 4000 Blackwell", "12.0"),
        ("NVIDIA GB300", "10.3"),
        ("NVIDIA Thor", "11.0"),
        ("NVIDIA GeForce RTX 9999", None),
    ],
)
def test_capability_of_a_product(name, capability):
    assert capability_of(name, None) == capability
