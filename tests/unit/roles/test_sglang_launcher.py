# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The launcher compiles ahead, and serves whatever becomes of that.

PyTorch and SGLang for GPUs do not run here: stand-ins of what deep-gemm-compile.py takes of them write a file for each
kernel. The real ones compiled 49 kernels on an H200 (tests/gpu).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[3] / "roles/sglang/files"
WARMUP = """
import enum, os, time
class DeepGemmKernelType(enum.Enum):
    GEMM_NT_F8F8BF16 = 1
class Product:
    def __init__(self, max_m, n, k):
        self.max_m, self.name = max_m, "%d-%d" % (n, k)
    def execute(self, m):
        assert m <= self.max_m
        time.sleep(float(os.environ.get("SLOW", "0")))
        if m == int(os.environ.get("FAILS_AT", "-1")):
            raise RuntimeError("nvcc fatal")
        if m == int(os.environ.get("KILLED_AT", "-1")):
            os.kill(os.getpid(), 9)
        directory = "%s/cache/kernel.%s.%d" % (os.environ["SGLANG_DG_CACHE_DIR"], self.name, m)
        os.makedirs(directory)  # fails where a size is gone through twice
        open(directory + "/kernel.cubin", "w").close()
class _BaseWarmupExecutor:
    @staticmethod
    def create(kind, max_m, n, k, num_groups):
        assert kind is DeepGemmKernelType.GEMM_NT_F8F8BF16 and num_groups == 1
        return Product(max_m, n, k)
"""


@pytest.fixture
def engine(tmp_path):
    """The launcher beside its program, and stand-ins of what they take of the release."""
    for name in ("sglang-server", "deep-gemm-compile.py"):
        shutil.copy(FILES / name, tmp_path)
    packages = tmp_path / "packages"
    wrapper = packages / "sglang/srt/layers/deep_gemm_wrapper"
    wrapper.mkdir(parents=True)
    (packages / "torch").mkdir()
    (packages / "torch/__init__.py").write_text(TORCH)
    (wrapper / "compile_utils.py").write_text(WARMUP)
    (packages / "sglang/launch_server.py").write_text(
        "import os, sys\nprint('serves', os.environ.get('DSDEPLOY_DEEP_GEMM'), sys.argv[1:])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(packages), "SGLANG_DG_CACHE_DIR": str(tmp_path / "kernels")}
    environment.pop("SGLANG_API_KEY", None)

    def start(*words, program="sglang-server", **variables):
        return subprocess.Popen(
            [sys.executable, tmp_path / program, *words], env={**environment, **variables}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            # Whoever runs the tests in the background of a script has it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    start.kernels = lambda: sorted(path.parent.name for path in (tmp_path / "kernels").rglob("*.cubin"))
    start.done = lambda: sorted(path.name for path in (tmp_path / "kernels").glob("ahead-*"))
    return start


# Room for 64 processes.
TORCH = """
import os
class cuda:
    synchronize = staticmethod(lambda: None)
    @staticmethod
    def mem_get_info(device):
        assert device == 0
        return int(os.environ.get("GPU_FREE", 128 << 30)), 1 << 40
"""


def said(process):
    text = process.communicate(timeout=120)[0]
    return process.returncode, text


def test_every_size_of_every_product_is_compiled_once_and_then_it_serves(engine):
    code, text = said(engine("--port", "1", DSDEPLOY_DEEP_GEMM="64,128 128,256 --longest 1100"))
    assert code == 0, text
    sizes = [*range(1, 1025), *range(1024, 1100, 2), 1100]
    wanted = sorted(f"kernel.{name}.{m}" for name in ("64-128", "128-256") for m in set(sizes))
    assert engine.kernels() == wanted
    result = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    assert (result["products"], result["kernels"]) == (2, len(wanted))
    assert "DeepGEMM's kernels: 10/" in text
    assert text.splitlines()[-1] == "serves None ['--port', '1']"


def test_a_cache_that_has_them_is_not_gone_through_again(engine):
    words = "64,128 --longest 1024"
    said(engine(DSDEPLOY_DEEP_GEMM=words))
    assert len(engine.done()) == 1
    code, text = said(engine(DSDEPLOY_DEEP_GEMM=words))  # a kernel that is made again fails
    assert (code, text) == (0, "serves None []\n")
    # Of other products, and of a cache that was cleared, nothing is taken for done.
    code, text = said(engine(DSDEPLOY_DEEP_GEMM="128,128 --longest 1024"))
    assert "128-128" in engine.kernels()[0] and len(engine.done()) == 2


def test_it_serves_where_the_compiling_fails_and_tries_again_at_the_next_start(engine):
    code, text = said(engine(DSDEPLOY_DEEP_GEMM="64,128", FAILS_AT="512"))
    assert code == 0
    assert "nvcc fatal" in text
    assert "were not compiled ahead (1): the server compiles them" in text
    assert text.splitlines()[-1] == "serves None []"
    assert engine.done() == []


@pytest.mark.parametrize(
    ("free", "jobs", "says"),
    [(str((5 << 30) + 1), 2, False), ("1000", 1, False), ("driver hangs", 1, True), ("", 1, True)],
)
def test_as_many_processes_as_the_gpu_has_room_for_and_one_where_that_is_not_known(engine, free, jobs, says):
    """MIG: NVML told the service's user nothing, and 64 processes of 2 GiB were started on an instance of 10 GiB."""
    code, text = said(engine(DSDEPLOY_DEEP_GEMM="64,128 --longest 1024 --jobs 4", GPU_FREE=free))
    assert code == 0
    assert json.loads(next(line for line in text.splitlines() if line.startswith("{")))["jobs"] == jobs
    assert ("free is not known: one process" in text) is says


def test_without_it_the_server_is_started_at_once(engine):
    assert said(engine("--port", "1")) == (0, "serves None ['--port', '1']\n")
    assert engine.kernels() == []


def test_it_serves_where_a_process_is_killed_for_its_memory(engine):
    code, text = said(engine(DSDEPLOY_DEEP_GEMM="64,128", KILLED_AT="512"))
    assert code == 0
    assert "were not compiled ahead (1): the server compiles them" in text
    assert text.splitlines()[-1] == "serves None []"
    assert engine.done() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_end_meanwhile_is_the_end_of_all_of_it(engine, number):
    process = engine(DSDEPLOY_DEEP_GEMM="64,128", SLOW="0.5")
    end = time.monotonic() + 60
    while not engine.kernels() and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(number)
    # Its end is the end of all that holds its output: no process is left that compiles.
    code, text = said(process)
    # By the signal itself: a code would be a failure for systemd, which asked it to stop.
    assert code == -number
    assert "serves" not in text
    assert engine.done() == []


def test_a_stop_in_the_first_moments_leaves_none_that_compiles(engine):
    for seconds in (0.05, 0.1, 0.2, 0.4):
        process = engine(DSDEPLOY_DEEP_GEMM="64,128", SLOW="0.5")
        time.sleep(seconds)
        process.terminate()
        code, text = said(process)
        assert (code, "serves" in text) == (-signal.SIGTERM, False)
