# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import cuda

ROLE = Path(__file__).parents[5] / "roles" / "cuda_toolkit"
TABLE = yaml.safe_load((ROLE / "defaults/main/compatibility.yml").read_text())["cuda_toolkit_compatibility"]


def test_the_table_is_in_order():
    """Newer CUDA, newer driver, newer compiler; and no driver is older than the oldest."""
    versions = sorted(TABLE, key=cuda.numbers)
    assert list(TABLE) == versions
    for key in ("driver", "oldest_driver"):
        drivers = [cuda.numbers(TABLE[version][key]) for version in versions]
        assert drivers == sorted(drivers)
    assert [TABLE[version]["gcc"] for version in versions] == sorted(entry["gcc"] for entry in TABLE.values())
    assert all(cuda.numbers(entry["oldest_driver"]) <= cuda.numbers(entry["driver"]) for entry in TABLE.values())


@pytest.mark.parametrize(
    ("version", "driver", "problem", "warned"),
    [
        ("12.4", "550.90.12", None, False),
        ("12.4", "550.54.14", None, False),
        ("12.4", "535.183.01", None, True),
        ("12.4", "525.60.13", None, True),
        ("12.4", "525.60.12", "CUDA 12.4 needs driver 525.60.13, this host has 525.60.12", False),
        ("12.8", "570.26", None, False),
        ("12.8", "570.9", None, True),
        ("13.0", "550.163.01", "CUDA 13.0 needs driver 580.65.06, this host has 550.163.01", False),
        ("12.4", "", None, False),
    ],
)
def test_drivers(version, driver, problem, warned):
    problems, warnings = cuda.compatibility(TABLE, [version], driver, "g++", "")
    assert [found["msg"] for found in problems] == ([problem] if problem else [])
    assert bool(warnings) == warned


@pytest.mark.parametrize(
    ("version", "gcc", "fits"),
    [
        ("11.8", "11.4.0", True),
        ("11.8", "12.2.0", False),
        ("12.4", "13.3.0", True),
        ("12.4", "14.2.0", False),
        ("12.8", "14", True),
        ("13.0", "15.2.0", True),
        ("12.4", "8.5.0", True),
        ("12.4", "", True),
    ],
)
def test_compilers(version, gcc, fits):
    problems, warnings = cuda.compatibility(TABLE, [version], "", "c++", gcc)
    assert (problems == []) == fits and warnings == []
    if not fits:
        assert f"g++-{TABLE[version]['gcc']}" in problems[0]["hint"]


def test_each_of_several_versions_is_looked_at():
    problems, warnings = cuda.compatibility(TABLE, ["12.4", "13.0", "99.9"], "550.90.12", "g++", "14.2.0")
    assert [problem["msg"][:17] for problem in problems] == ["nvcc of CUDA 12.4", "CUDA 13.0 needs d"]
    assert "99.9" in warnings[0]


def test_nvcc_version():
    said = "Cuda compilation tools, release 12.4, V12.4.131\nBuild cuda_12.4.r12.4/compiler.34097967_0\n"
    assert cuda.nvcc_version(said) == "12.4.131"
    assert cuda.nvcc_version("no such thing") is None


@pytest.mark.parametrize(
    ("output", "word"),
    [
        ("host_config.h:143:2: error: #error -- unsupported GNU version! gcc versions later than 13", "too new"),
        ("sh: 1: gcc: not found\nnvcc fatal   : Failed to preprocess host compiler properties.", "C++ compiler"),
        ("/usr/bin/ld: cannot find -lcudart_static: No such file or directory", "incomplete"),
        ("something else", "See nvcc's output"),
    ],
)
def test_compile_hints(output, word):
    assert word in cuda.compile_hint(output)


def test_run_hints():
    assert "fabric manager" in cuda.run_hint(802)
    assert "cudaError_t" in cuda.run_hint(12345)
