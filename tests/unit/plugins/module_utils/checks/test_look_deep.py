# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What deep checks measure with, read as the tools print it; and that nothing is measured while somebody serves."""

import json

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import look_deep
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place

# As nvbandwidth 0.8 and nccl-tests 2.17 print it.
NVBANDWIDTH = """Running host_to_device_memcpy_ce.
memcpy CE CPU(row) -> GPU(column) bandwidth (GB/s)
           0         1
 0     55.64     55.62

SUM host_to_device_memcpy_ce 111.26
"""
NCCL = """#       size         count      type   redop    root     time   algbw   busbw #wrong
  4294967296    1073741824     float     sum      -1    15301  280.70  491.22      0
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 491.22
"""


@pytest.fixture
def place(tmp_path):
    devices = tmp_path / "sys/bus/pci/devices"
    for number in range(2):
        directory = devices / f"0000:0{number}:00.0"
        directory.mkdir(parents=True)
        (directory / "vendor").write_text("0x10de")
        (directory / "class").write_text("0x030200")
    (tmp_path / "records").mkdir()
    return Place(
        sysfs=str(tmp_path / "sys"), records=str(tmp_path / "records"), supervisor_config=str(tmp_path / "none")
    )


@pytest.fixture
def programs(tmp_path, monkeypatch):
    def put(name, text, rc=0):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\ncat <<'EOF'\n{text}EOF\nexit {rc}\n")
        path.chmod(0o755)

    monkeypatch.setattr(
        look_deep, "program", lambda name: str(tmp_path / name) if (tmp_path / name).is_file() else None
    )
    return put


def test_the_tools_of_nvidia(place, programs):
    programs("nvbandwidth", NVBANDWIDTH)
    programs("all_reduce_perf", NCCL)
    found = look_deep.bandwidth(place)
    assert found["copy"] == {0: 55.64, 1: 55.62}
    assert (found["all_reduce"], found["by"], found["nvls"]) == (491.22, "nvbandwidth and nccl-tests", False)


def test_nothing_is_there_to_measure_with(place, programs):
    found = look_deep.bandwidth(place)
    assert found["copy"] is None and found["all_reduce"] is None
    for said in ("nvbandwidth is not installed", "all_reduce_perf) is not installed", "no engine with PyTorch"):
        assert said in found["copy_skip"]


def test_a_tool_that_fails_is_said(place, programs):
    programs("nvbandwidth", "CUDA error 802\n", 1)
    assert "nvbandwidth: CUDA error 802" in look_deep.bandwidth(place)["copy_skip"]


def test_nothing_is_measured_while_an_engine_may_run(place, programs, tmp_path, monkeypatch):
    record = {
        "engine": "vllm", "endpoint": "http://127.0.0.1:8000", "api": "openai", "device": "gpu",
        "service": {"name": "dsdeploy-vllm", "manager": "supervisor"},
    }  # fmt: skip
    (tmp_path / "records/vllm.json").write_text(json.dumps(record))
    programs("nvbandwidth", NVBANDWIDTH)
    for active in ("running", "starting", None):
        state = {"active": active} if active else None
        monkeypatch.setattr(look_deep, "look", lambda *_arguments, state=state: {"state": state})
        assert "`dsdeploy down` first" in look_deep.bandwidth(place)["skip"]
        assert "`dsdeploy down` first" in look_deep.context(place)["skip"]
    monkeypatch.setattr(look_deep, "look", lambda *_arguments: {"state": {"active": "stopped"}})
    assert look_deep.bandwidth(place)["copy"]


def test_a_disk_is_read_past_its_cache(place, tmp_path):
    assert look_deep.disk(place) == {"skip": "no model is here to be read"}
    with open(tmp_path / "records/model.gguf", "wb") as handle:
        handle.write(b"x" * (4 * look_deep.BLOCK))
    found = look_deep.disk(place._replace(paths=(str(tmp_path / "records"),)))
    assert found.get("skip", "").endswith("past its cache") or found["rate"] > 0
