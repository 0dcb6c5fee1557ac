# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nvcc engines compile their kernels with."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import nvcc

ROOT = "/opt/dsdeploy/vllm"
SAID = "echo nvcc: NVIDIA; echo 'Cuda compilation tools, release 13.0, V13.0.88'"


def host(*lines):
    return [dict(zip(("path", "version"), line.split(" "), strict=True)) for line in lines]


def test_the_release_s_own_programs_are_found_and_the_host_s_nvcc():
    found = nvcc.for_packages(
        host("/usr/local/cuda/bin/nvcc 12.4.1", "/usr/local/cuda-13.0/bin/nvcc 13.0.88"), "13.0", ROOT
    )
    # ninja is one of the release's own programs, and called by its name.
    assert found["environment"]["PATH"].startswith(f"{ROOT}/current/bin:/usr/local/cuda-13.0/bin:/usr/local/sbin:")
    assert found["environment"]["PATH"].endswith(":/usr/bin:/sbin:/bin")
    assert found["environment"]["CUDA_HOME"] == "/usr/local/cuda-13.0"


@pytest.mark.parametrize(
    ("cuda", "lines", "path"),
    [
        ("13.0", ["/usr/local/cuda/bin/nvcc 13.2.1"], "/usr/local/cuda/bin/nvcc"),
        ("12.8", ["/usr/bin/nvcc 12.8.1", "/usr/local/cuda/bin/nvcc 12.4.1"], "/usr/bin/nvcc"),
        ("13.0", ["/usr/local/cuda/bin/nvcc 12.4.1"], ""),
        ("13.0", ["/usr/local/cuda-13.0/bin/nvcc "], ""),
        ("13.0", [], ""),
    ],
)
def test_nvcc_of_another_cuda_does_not_serve(cuda, lines, path):
    found = nvcc.for_packages(host(*lines), cuda, ROOT)
    assert (found["path"], found["found"]) == (path, [line.strip() for line in lines])
    if not path:
        assert found["environment"]["PATH"].startswith(f"{ROOT}/current/bin:/usr/local/sbin:")
        assert "CUDA_HOME" not in found["environment"]


def test_each_nvcc_tells_its_version(tmp_path, monkeypatch):
    paths = []
    for name, says in (("first", SAID), ("cuda-12", "exit 1"), ("cuda-13", SAID)):
        program = tmp_path / name / "nvcc"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{says}\n")
        program.chmod(0o755)
        paths.append(str(program))
    monkeypatch.setenv("PATH", f"{tmp_path}/first:/usr/bin:/bin")
    found = nvcc.find([f"{tmp_path}/first/nvcc", f"{tmp_path}/cuda-*/nvcc", f"{tmp_path}/none/nvcc"])
    assert found == [
        {"path": path, "version": version} for path, version in zip(paths, ["13.0.88", "", "13.0.88"], strict=True)
    ]
