# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nvidia-smi that goes on printing."""

import os
import threading
import time

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import sampling

LINE = "0, 512.33, 1755, 61, 99, 70123, 81559, 700.00, NVIDIA H100 80GB HBM3, 0x0000000000000024"


def test_a_line():
    found = sampling.parse_line(LINE)
    assert found["power_w"] == 512.33 and found["throttled"] == ["software thermal slowdown"]
    assert (found["memory_mib"], found["memory_total_mib"], found["name"]) == (70123, 81559, "NVIDIA H100 80GB HBM3")


@pytest.mark.parametrize("said", ["[N/A]", "[Not Supported]", "nan", "inf", "-3", "1e30", ""])
def test_what_is_not_told_is_not_known(said):
    found = sampling.parse_line(f"1, {said}, {said}, 61, {said}, {said}, {said}, {said}, Tesla, {said}")
    assert found["temperature_c"] == 61
    others = ("power_w", "sm_mhz", "utilization", "memory_mib", "memory_total_mib", "power_limit_w", "throttled")
    assert [found[name] for name in others] == [None] * 7


@pytest.mark.parametrize("line", ["", "NVIDIA-SMI has failed", LINE + ", more", "²" + LINE[1:], "x" + LINE])
def test_no_line_of_it(line):
    assert sampling.parse_line(line) is None


@pytest.fixture
def program(tmp_path):
    """A stand-in that knows only the older name of the throttle reasons, and prints without an end."""
    path = tmp_path / "nvidia-smi"
    path.write_text(
        "#!/bin/sh\n"
        'case "$*" in *clocks_event*) echo "Field is not valid."; exit 2;; esac\n'
        f'echo $$ >"{tmp_path}/pid"; while :; do echo "{LINE}"; sleep 0.05; done\n'
    )
    path.chmod(0o755)
    return path


def test_samples_until_it_is_stopped(program, tmp_path):
    got, enough = [], threading.Event()

    def told(sample):
        got.append(sample)
        if len(got) == 2:
            enough.set()

    sampler = sampling.Sampler(str(program), told, 0.05)
    sampler.start()
    assert enough.wait(60)
    sampler.stop()
    assert got[0]["index"] == 0 and got[0]["at"] <= time.monotonic()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_program_that_is_not_there():
    sampler = sampling.Sampler("/nonexistent", lambda sample: None)
    sampler.start()
    sampler.stop()
    assert sampler.ended
