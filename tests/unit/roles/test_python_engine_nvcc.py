# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nvcc engines compile their kernels with."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from resolve import ROLES, resolve

ROOT = "/opt/dsdeploy/vllm"


def nvcc(cuda, *lines):
    known = {
        "python_engine_root": ROOT,
        "python_engine_cuda": cuda,
        "_python_engine_nvcc_said": {"stdout_lines": lines},
    }
    return resolve("python_engine", "Ubuntu 22.04", "_python_engine_nvcc", {}, **known)


def test_the_release_s_own_programs_are_found_and_the_host_s_nvcc():
    found = nvcc("13.0", "/usr/local/cuda/bin/nvcc 12.4", "/usr/local/cuda-13.0/bin/nvcc 13.0")
    # ninja is one of the release's own programs, and called by its name.
    assert found["environment"]["PATH"].startswith(f"{ROOT}/current/bin:/usr/local/cuda-13.0/bin:/usr/local/sbin:")
    assert found["environment"]["PATH"].endswith(":/usr/bin:/sbin:/bin")
    assert found["environment"]["CUDA_HOME"] == "/usr/local/cuda-13.0"


@pytest.mark.parametrize(
    ("cuda", "lines", "path"),
    [
        ("13.0", ["/usr/local/cuda/bin/nvcc 13.0"], "/usr/local/cuda/bin/nvcc"),
        ("12.8", ["/usr/bin/nvcc 12.8", "/usr/local/cuda/bin/nvcc 12.4"], "/usr/bin/nvcc"),
        ("13.0", ["/usr/local/cuda/bin/nvcc 12.4"], ""),
        ("13.0", ["/usr/local/cuda-13.0/bin/nvcc "], ""),
        ("13.0", [], ""),
    ],
)
def test_nvcc_of_another_cuda_does_not_serve(cuda, lines, path):
    found = nvcc(cuda, *lines)
    assert (found["path"], found["found"]) == (path, lines)
    if not path:
        assert found["environment"]["PATH"].startswith(f"{ROOT}/current/bin:/usr/local/sbin:")
        assert "CUDA_HOME" not in found["environment"]


def test_each_nvcc_tells_its_version(tmp_path):
    tasks = yaml.safe_load((ROLES / "python_engine/tasks/nvcc.yml").read_text(encoding="utf-8"))
    argv = tasks[0]["ansible.builtin.command"]["argv"]
    program = tmp_path / "nvcc"
    program.write_text("#!/bin/sh\necho nvcc: NVIDIA\necho 'Cuda compilation tools, release 13.0, V13.0.88'\n")
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    said = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[0] == f"{program} 13.0"
