"""An engine is waited for as long as it works."""

from __future__ import annotations

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.waiting import Patience, Sighting, doing, limit


@pytest.mark.parametrize(
    "line, said",
    [
        # vLLM
        (
            "(EngineCore_DP0 pid=71) Loading safetensors checkpoint shards:  40% Completed | 65/163 [00:41<01:02]",
            "loading 40 %",
        ),
        (
            "2026-11-23T19:22:13+0000 gpu1 dsdeploy-vllm[71]: (Worker_TP0 pid=9) Loading safetensors checkpoint "
            "shards:   9% Completed | 3/33",
            "loading 9 %",
        ),
        (
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  46%|████▌     | 16/35 [00:02<00:02,  7.1it/s]",
            "capturing graphs 16/35",
        ),
        ("[51/247] /usr/local/cuda/bin/nvcc -c fused_moe_90.cu -o fused_moe_90.o", "compiling 51/247"),
        ("DeepGEMM warmup:   2%|▏         | 50/2257 [08:00<5:53:01]", "compiling 50/2257 (DeepGEMM)"),
        ("DeepGEMM's kernels: 320/640", "compiling 320/640 (DeepGEMM)"),
        # On an H200 this stood for a minute, while nvcc compiled SGLang's own.
        (
            "DeepGEMM warmup: 100%|██████████| 2560/2560 [00:01<00:00, 2231.17it/s]",
            "compiling kernels, after DeepGEMM's 2560",
        ),
        ("(EngineCore pid=7) INFO 11-23 19:22:13 [backends.py:572] Dynamo bytecode transform time: 9 s", "compiling"),
        (
            "INFO 11-23 19:22:13 [gpu_model_runner.py:26] Starting to load model /srv/r1",
            "Starting to load model /srv/r1",
        ),
        (
            "2026-11-28 03:10:44,716 - INFO - core.py:564 - flashinfer.jit: Building JIT module sampling; this can "
            "take several minutes on first use.",
            "compiling kernels (sampling)",
        ),
        (
            "2026-11-28 03:10:41,431 - INFO - autotuner.py:1069 - flashinfer.jit: [Autotuner]: Autotuning process ends",
            "flashinfer.jit: [Autotuner]: Autotuning process ends",
        ),
        # SGLang
        ("Multi-thread loading shards:  40% Completed | 65/163 [00:41<01:02,  1.5it/s]", "loading 40 %"),
        ("Capturing batches (bs=4 avail_mem=9.1 GB):  50%|█████     | 12/24 [00:09<00:09]", "capturing graphs 12/24"),
        ("[2026-11-23 19:22:13 TP0] Capture cuda graph begin. This can take minutes.", "capturing graphs"),
        # llama.cpp
        ("load_tensors: loading model tensors, this can take a while... (mmap = true)", "loading"),
        ("main: server is listening on http://127.0.0.1:8080", "main: server is listening on http://127.0.0.1:8080"),
        # Ollama
        (
            'time=2026-11-23T19:22:13.001Z level=DEBUG source=server.go:643 msg="model load progress 0.45"',
            "loading 45 %",
        ),
        (
            'time=2026-11-23T19:22:13.001Z level=INFO source=server.go:1 status="llm server loading model"',
            "loading",
        ),
    ],
)
def test_what_an_engine_does(line, said):
    assert doing(["something before", line, ""]) == said


def test_a_process_that_waits_for_another_says_nothing_of_what_is_done():
    compiles = "2026-11-28 03:10:44,716 - INFO - core.py:564 - flashinfer.jit: Building JIT module sampling; this"
    waits = (
        "(EngineCore pid=15110) INFO 11-28 03:11:47 [shm_broadcast.py:681] No available shared memory broadcast block "
        "found in 60 seconds. This typically happens when some processes are hanging or doing some time-consuming work"
    )
    assert doing([compiles, waits, waits]) == "compiling kernels (sampling)"


def test_nothing_is_said_of_an_empty_log_and_a_long_line_is_cut():
    assert doing([]) == doing(["", "  "]) == ""
    assert len(doing(["x " * 100])) == 60


def patience(*sightings, idle=100.0):
    """What was said at each sighting of (second, CPU s, bytes, line)."""
    waiting = Patience(idle, 0.0)
    return [waiting.see(Sighting(*sighting)) for sighting in sightings]


def test_one_that_does_nothing_is_given_up():
    assert patience((0, 5.0, 0, "a"), (50, 5.0, 0, "a"), (99, 5.1, 9, "a"), (101, 5.1, 9, "a")) == [
        None,
        None,
        None,
        "it has done nothing for 101 s",
    ]


@pytest.mark.parametrize(
    "later",
    [
        lambda second: (second, second * 0.5, 0, "a"),  # CPU time
        lambda second: (second, 0.0, second * 100_000_000, "a"),  # a cold disk
        lambda second: (second, 0.0, 0, f"[{second}/9999] nvcc"),  # its log, the rest is not told
        lambda second: (second, None, None, f"line {second}"),
    ],
)
def test_one_that_works_is_waited_for_beyond_its_time(later):
    assert patience(*(later(second) for second in range(0, 7000, 50)))[-1] is None


def test_an_idle_server_s_polling_is_no_work():
    said = patience(*((second, second * 0.01, second * 1000, "a") for second in range(0, 150, 2)))
    assert said[-1].startswith("it has done nothing for")


def test_an_end_of_work_is_seen():
    work = [(second, second * 1.0, 0, "a") for second in range(0, 500, 10)]
    idle = [(second, 490.0, 0, "a") for second in range(500, 620, 10)]
    said = patience(*work, *idle)
    assert said[: len(work)] == [None] * len(work)
    assert said[-1] is not None


def test_without_any_sign_the_time_out_counts():
    assert patience((0,), (99,), (100,)) == [None, None, "it has done nothing for 100 s"]


def test_no_start_takes_for_ever():
    assert limit(60) == 7200
    assert limit(6000) == 24000
    (*_others, last) = patience(*((second, float(second), 0, "a") for second in range(0, 7201, 60)))
    assert last == "not ready after 7200 s, however busy it is"


def test_processes_that_were_started_anew_are_no_work():
    assert patience((0, 50.0, 9, "a"), (60, 0.1, 0, "a"), (101, 0.1, 0, "a"))[-1] == "it has done nothing for 101 s"
