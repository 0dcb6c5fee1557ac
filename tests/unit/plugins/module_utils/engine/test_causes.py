# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why an engine ended: logs of vLLM and SGLang on an H200, and lines of llama.cpp, CUDA and others."""

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import causes, figures

LOGS = Path(__file__).resolve().parents[3] / "fixtures" / "engine_logs"
WRAPPER = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"


def log(name):
    return (LOGS / name).read_text(encoding="utf-8").splitlines()


def test_the_cause_stands_a_hundred_lines_above_the_end_of_vllm_s_log():
    lines = log("vllm-0.32.0-no-room-for-the-cache.log")
    assert any(map(causes.second_hand, lines[-40:]))
    found = causes.cause(lines)
    assert found.line.startswith("ValueError: No available memory for the cache blocks. Try increasing")
    assert "vllm_venv_gpu_memory_utilization" in found.hint
    assert found.final


def test_it_is_found_before_and_after_the_next_start_has_begun():
    lines = log("vllm-0.32.0-no-room-for-the-cache.log")
    last = max(number for number, line in enumerate(lines) if "non-default args" in line)
    assert causes.cause(lines[:last]) == causes.cause(lines)
    assert causes.cause(lines[last:]) is None


def test_what_an_earlier_start_died_of_is_not_told_of_a_later_one():
    start = "INFO 11-28 [api_utils.py:286] non-default args: {}"
    lines = ["ValueError: No available memory for the cache blocks. Try", start, "fine", start, "Killed"]
    assert causes.cause(lines) is None


def test_sglang_says_its_own_fraction():
    found = causes.cause(log("sglang-0.5.23-no-room-for-the-cache.log"))
    assert found.line.startswith("ValueError: Loaded weights leave no GPU memory for the KV cache")
    assert "sglang_mem_fraction_static" in found.hint
    # Another program may hold the memory, and be gone the next time.
    assert not found.final


@pytest.mark.parametrize(
    "line, said, hint, final",
    [
        # vLLM before its V1 engine; SGLang (its issue 5285); llama.cpp's CUDA; llama.cpp issues 15099 and 11975.
        (
            "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be "
            "stored in KV cache (23696). Try increasing `gpu_memory_utilization` or decreasing `max_model_len`",
            "ValueError: The model's max seq len (131072) is larger than",
            "vllm_venv_max_model_len",
            True,
        ),
        (
            "Exception: Capture cuda graph failed: CUDA out of memory. Tried to allocate 448.00 MiB. GPU 7 has a total",
            "Exception: Capture cuda graph failed: CUDA out of memory.",
            "memory is full",
            False,
        ),
        (
            "Error while creating shared memory segment /dev/shm/nccl-abc (size 33030528), error: No space left on "
            "device (28)",
            "creating shared memory segment /dev/shm/nccl-abc",
            "more memory to share",
            False,
        ),
        (
            'error while handling argument "--ctx-size": stoi',
            "error while handling argument",
            "engine's parameters",
            True,
        ),
        ("ggml_cuda: CUDA error: out of memory", "CUDA error: out of memory", "memory is full", False),
        (
            "gguf_init_from_file_impl: tensor 'blk.0.ffn_down_exps.weight' has invalid ggml type 39 (NONE)",
            "has invalid ggml type 39 (NONE)",
            "llama_cpp_wheel_version",
            True,
        ),
        (
            "llama_model_load: error loading model: error loading model vocabulary: unknown pre-tokenizer type: 'x'",
            "unknown pre-tokenizer type: 'x'",
            "llama_cpp_wheel_version",
            True,
        ),
        (
            "llama_model_load: error loading model: unknown model architecture: 'deepseek9'",
            "unknown model architecture: 'deepseek9'",
            "llama_cpp_wheel_version",
            True,
        ),
        (
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 61440.00 MiB on device 0: "
            "cudaMalloc failed: out of memory",
            "cudaMalloc failed: out of memory",
            "llama_cpp_gpu_layers",
            False,
        ),
        (
            "ERROR torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.2 GiB free",
            "torch.OutOfMemoryError: CUDA out of memory.",
            "nvidia-smi",
            False,
        ),
        ("OSError: [Errno 98] Address already in use", "OSError: [Errno 98]", "ss -ltnp", False),
        (
            "RuntimeError: CUDA error: no kernel image is available for execution on the device",
            "RuntimeError: CUDA error: no kernel image",
            "compute capability",
            True,
        ),
        (
            "RuntimeError: CUDA unknown error / Error 802: system not yet initialized",
            "RuntimeError: CUDA unknown error",
            "fabric manager",
            False,
        ),
        ("vllm: error: unrecognized arguments: --nope", "error: unrecognized arguments: --nope", "_extra_args", True),
        ("error: invalid argument: --nope", "error: invalid argument: --nope", "_extra_args", True),
        (
            "ModuleNotFoundError: No module named 'intel_extension_for_pytorch'",
            "ModuleNotFoundError: No module named 'intel_extension_for_pytorch'",
            "sglang_tensor_parallel_size",
            True,
        ),
        (
            "(EngineCore pid=1225) ERROR [core.py:1510] RuntimeError: Insufficient space in /dev/shm for shared-memory "
            "allocation: 160 MiB required, 62 MiB free. Increase /dev/shm (e.g. --shm-size or --ipc=host).",
            "RuntimeError: Insufficient space in /dev/shm",
            "remount",
            False,
        ),
        ("KeyError: 'rope_scaling'", "KeyError: 'rope_scaling'", "", False),
        (
            "ValueError: To serve at least one request with the model's max seq len (163840), (11.2 GiB KV cache is "
            "needed, which is larger than the available KV cache memory (3.1 GiB).",
            "ValueError: To serve at least one request",
            "vllm_venv_max_model_len",
            True,
        ),
    ],
)
def test_lines_of_engines(line, said, hint, final):
    found = causes.cause(["INFO fine", line, "INFO more", WRAPPER])
    assert found.line.startswith(said)
    assert hint in found.hint
    assert found.final is final


@pytest.mark.parametrize(
    "lines", [[], [""], ["Killed"], [WRAPPER], ["asyncio.CancelledError: Cancelled"], ["\x00" * 50]]
)
def test_a_log_that_does_not_tell_is_no_cause(lines):
    assert causes.cause(lines) is None


def test_a_cause_is_one_short_line_without_signs_that_steer_a_terminal():
    found = causes.cause(["ValueError: \x1b[31mred " + "x" * 5000])
    assert "\x1b" not in found.line
    assert len(found.line) <= 300


@pytest.mark.parametrize(
    "line, said",
    [
        (
            "Exception: Capture cuda graph failed: [pair.cc:534] Connection closed by peer",
            "Exception: Capture cuda graph failed: [pair.cc:534] Connection closed by peer",
        ),
        (
            "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
            "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        ),
        # The same words as of a wrong option, and nothing that an option makes good (SGLang issue 9706).
        ("RuntimeError: CUDA error: invalid argument", "RuntimeError: CUDA error: invalid argument"),
        ("RuntimeError: CUDA driver error: invalid argument", "RuntimeError: CUDA driver error: invalid argument"),
        ("gguf_init_from_file: failed to open GGUF file '/m/x.gguf'", "failed to open GGUF file '/m/x.gguf'"),
        ("  what():  Failed to open libcuda", "what(): Failed to open libcuda"),
        ("/b/ggml/src/ggml.c:2701: GGML_ASSERT(a->ne[2] == 1) failed", "GGML_ASSERT(a->ne[2] == 1) failed"),
    ],
)
def test_a_cause_that_has_no_hint(line, said):
    assert causes.cause(["before", line, "after"]) == causes.Cause(said)


def test_what_is_wrong_stands_behind_pydantic_s_count():
    # vLLM issue 26161, and of its later releases with the process before each line.
    lines = [
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "  Value error, Expecting value: line 1 column 1 (char 0) [type=value_error, input_value=ArgsKwargs((), "
        "{'model': ...rocessor_plugin': None}), input_type=ArgsKwargs]",
        "    For further information visit https://errors.pydantic.dev/2.12/v/value_error",
    ]
    said = lines[0] + ": Value error, Expecting value: line 1 column 1 (char 0)"
    assert causes.cause(lines) == causes.Cause(said)
    assert causes.cause(["(APIServer pid=2994609) " + line for line in lines]) == causes.Cause(said)
    of_a_field = [lines[0], "block_size", "  Field required [type=missing, input_value={}]"]
    assert causes.cause(of_a_field).line == lines[0] + ": Field required"
    assert causes.cause(lines[:1]).line == lines[0]


def test_a_failed_start_s_weights_are_not_those_of_the_next_model():
    # Five starts of one model of 47 GiB that failed, then another model, of 33.59 GiB, in the same file.
    said = figures.of_log("vllm", log("vllm-0.32.0-failed-then-another-model.log"))
    assert said == {"weights": int(33.59 * 1024**3), "kv": int(45.06 * 1024**3), "kv_tokens": 5249936}
    sglang = [
        "server_args=ServerArgs(model_path='a')",
        "Load weight end. type=A, avail mem=6.09 GB, mem usage=15.54 GB.",
        "server_args=ServerArgs(model_path='b')",
        "Load weight end. type=B, avail mem=6.09 GB, mem usage=2.50 GB.",
    ]
    assert figures.of_log("sglang", sglang) == {"weights": int(2.5 * 1024**3)}
    llama = [
        "load_tensors:        CUDA0 model buffer size =  1575.00 MiB",
        "srv    main: exiting due to model loading error",
        "load_tensors:        CUDA0 model buffer size =   100.00 MiB",
    ]
    assert figures.of_log("llama_cpp", llama) == {"weights": 100 * 1024**2}


def test_the_hints_name_variables_that_there_are():
    known = set()
    for path in Path(__file__).resolve().parents[5].glob("roles/*/meta/argument_specs.yml"):
        for point in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            known |= set(point.get("options") or {})
    named = {word for _known, hint, _final in causes._KNOWN for word in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", hint)}
    assert "vllm_venv_gpu_memory_utilization" in named
    assert named <= known, sorted(named - known)
