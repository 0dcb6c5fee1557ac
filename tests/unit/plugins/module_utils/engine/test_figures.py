# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines say of their own memory: real lines of each, several ranks, several starts, and lines that are none."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import figures

GIB, MIB = 1024**3, 1024**2

VLLM = """\
(EngineCore pid=272) INFO 02-07 15:44:44 [core.py:101] Initializing a V1 LLM engine (v0.32.0)
(Worker_TP0 pid=1) INFO 02-07 15:45:42 [gpu_model_runner.py:1] Model loading took 47.08 GiB memory and 15.123456 seconds
(Worker_TP1 pid=2) INFO 02-07 15:45:43 [gpu_model_runner.py:1] Model loading took 47.1 GiB memory and 15.9 seconds
(Worker_TP0 pid=1) INFO 02-07 15:46:11 [gpu_worker.py:760] Available KV cache memory: 18.85 GiB
(Worker_TP1 pid=2) INFO 02-07 15:46:11 [gpu_worker.py:760] Available KV cache memory: 18.9 GiB
(EngineCore pid=272) INFO 02-07 15:46:11 GPU KV cache size: 3,513,712 tokens, Maximum concurrency for 8,192 tokens
""".splitlines()
SGLANG = """\
[2025-03-08 12:29:21 TP1] Load weight end. type=Qwen2ForCausalLM, avail mem=6.09 GB, mem usage=15.54 GB.
[2025-03-08 12:29:21 TP0] Load weight end. type=Qwen2ForCausalLM, avail mem=6.09 GB, mem usage=15.54 GB.
[2025-03-08 12:29:21 TP0] KV Cache is allocated. #tokens: 46611, K size: 1.42 GB, V size: 1.42 GB
[2025-03-08 12:29:21 TP1] KV Cache is allocated. #tokens: 46611, K size: 1.42 GB, V size: 1.42 GB
[2025-03-08 12:29:40 TP0] max_total_num_tokens=46611, chunked_prefill_size=2048, max_prefill_tokens=16384
""".splitlines()
# Two ranks with a draft model, SGLang of 2026; a model with windows has two pools a rank (its PR 18039).
SGLANG_DRAFT = """\
[2026-08-28 21:30:39 TP0] Load weight end. type=Qwen4ExpForCausalLM, mem usage=51.50 GB.
[2026-08-28 21:30:39 TP1] Load weight end. type=Qwen4ExpForCausalLM, mem usage=51.50 GB.
[2026-08-28 21:31:39 TP0] KV Cache is allocated. dtype: torch.uint8, #tokens: 159552, K size: 6.09 GB, V size: 6.09 GB
[2026-08-28 21:31:39 TP1] KV Cache is allocated. dtype: torch.uint8, #tokens: 159552, K size: 6.09 GB, V size: 6.09 GB
[2026-08-28 21:34:13 TP0] Load weight end. type=Qwen4ExpForCausalLMMTP, mem usage=0.50 GB.
[2026-08-28 21:34:13 TP1] Load weight end. type=Qwen4ExpForCausalLMMTP, mem usage=-1.86 GB.
[2026-08-28 21:34:15 TP0] KV Cache is allocated. #tokens: 159552, K size: 0.25 GB, V size: 0.25 GB
x python[7]: [2026-08-28 21:34:15 TP1] KV Cache is allocated. #tokens: 159552, K size: 0.25 GB, V size: 0.25 GB
[2026-08-28 21:34:50 TP0] max_total_num_tokens=159552, chunked_prefill_size=8192, max_prefill_tokens=16384
""".splitlines()
SGLANG_WINDOWS = """\
[2026-01-31 13:50:39 TP2] Use sliding window memory pool. full_layer_tokens=375360, swa_layer_tokens=300288
[2026-01-31 13:50:39 TP1] KV Cache is allocated. #tokens: 300288, K size: 8.38 GB, V size: 5.59 GB
[2026-01-31 13:50:39 TP2] KV Cache is allocated. #tokens: 300288, K size: 8.38 GB, V size: 5.59 GB
[2026-01-31 13:50:40 TP1] KV Cache is allocated. #tokens: 375360, K size: 1.21 GB, V size: 0.81 GB
[2026-01-31 13:50:40 TP2] KV Cache is allocated. #tokens: 375360, K size: 1.21 GB, V size: 0.81 GB
""".splitlines()
LLAMA = """\
load_tensors: offloaded 17/17 layers to GPU
load_tensors:          CPU model buffer size =   143.86 MiB
load_tensors:        CUDA0 model buffer size =  1575.00 MiB
load_tensors:        CUDA1 model buffer size =  2025.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =   238.00 MiB
llama_kv_cache:      CUDA1 KV buffer size =   306.00 MiB
llama_kv_cache: size =  544.00 MiB (  8192 cells,  16 layers,  1/1 seqs), K (q8_0):  272.00 MiB, V (q8_0):  272.00 MiB
""".splitlines()
OLLAMA = """\
time=2026-04-09T23:30:17.630-07:00 level=INFO source=device.go:240 msg="model weights" device=CUDA0 size="18.1 GiB"
time=2026-04-09T23:30:17.630-07:00 level=INFO source=device.go:240 msg="model weights" device=CUDA0 size="19.9 GiB"
time=2026-04-09T23:30:17.631-07:00 level=INFO source=device.go:245 msg="model weights" device=CPU size="28.3 GiB"
time=2026-04-09T23:30:17.631-07:00 level=INFO source=device.go:251 msg="kv cache" device=CUDA0 size="1.1 GiB"
time=2026-04-09T23:30:17.631-07:00 level=INFO source=device.go:256 msg="kv cache" device=CPU size="512.0 MiB"
llama_kv_cache: size = 1638.00 MiB ( 32768 cells,  48 layers,  1/1 seqs), K (f16): 819.00 MiB, V (f16): 819.00 MiB
""".splitlines()


@pytest.mark.parametrize(
    ("engine", "lines", "expected"),
    [
        ("vllm", VLLM, {"weights": int(47.1 * GIB), "kv": int(18.85 * GIB), "kv_tokens": 3513712}),
        # The measurement that proved the MLA formula: 5 layers of R1.
        ("vllm", ["INFO Model loading took 15.6271 GB and 4.171168 seconds"], {"weights": int(15.6271 * GIB)}),
        ("vllm", ["INFO CPU KV cache size: 65,536 tokens"], {"kv_tokens": 65536}),
        ("sglang", SGLANG, {"weights": int(15.54 * GIB), "kv": int(2.84 * GIB), "kv_tokens": 46611}),
        ("sglang", SGLANG_DRAFT, {"weights": 52 * GIB, "kv": int(12.68 * GIB), "kv_tokens": 159552}),
        ("sglang", SGLANG_WINDOWS, {"kv": int(15.99 * GIB), "kv_tokens": 375360}),
        ("sglang", ["[x] KV Cache is allocated. K size: 0.25 GB, V size: 0.25 GB."], {"kv": GIB // 2}),
        ("sglang", ["[x] KV Cache is allocated. #tokens: 4096, KV size: 0.50 GB"], {"kv": GIB // 2, "kv_tokens": 4096}),
        ("llama_cpp", LLAMA, {"weights": int(3743.86 * MIB), "kv": 544 * MIB, "kv_tokens": 8192}),
        ("ollama", OLLAMA, {"weights": int(48.2 * GIB), "kv": int(1.1 * GIB) + 512 * MIB, "kv_tokens": 32768}),
        ("ollama", LLAMA, {"weights": int(3743.86 * MIB), "kv": 544 * MIB, "kv_tokens": 8192}),
    ],
)  # fmt: skip
def test_what_engines_write(engine, lines, expected):
    assert figures.of_log(engine, lines) == pytest.approx(expected, rel=1e-9)


def test_bytes_a_token_of_r1():
    found = figures.of_log("vllm", VLLM)
    assert found["kv"] / found["kv_tokens"] == pytest.approx(5760, rel=0.001)


@pytest.mark.parametrize(("engine", "lines"), [("vllm", VLLM), ("sglang", SGLANG), ("llama_cpp", LLAMA)])
def test_of_several_starts_the_last_counts(engine, lines):
    before = [line.replace("47.", "99.").replace("15.54", "99.54").replace("3,513", "9,513") for line in lines]
    starts = {"llama_cpp": ["llama_model_loader: loaded meta data with 33 key-value pairs"]}.get(engine, [])
    assert figures.of_log(engine, before + starts + lines) == figures.of_log(engine, lines)


def test_a_mapped_file_is_counted_once():
    lines = [
        "load_tensors:   CPU_Mapped model buffer size = 47373.43 MiB",
        "load_tensors:   CPU_Mapped model buffer size = 27465.95 MiB",
    ]
    assert figures.of_log("llama_cpp", lines)["weights"] == int(47373.43 * MIB)


def test_windows_have_a_cache_of_their_own():
    lines = [
        "llama_kv_cache: size =  100.00 MiB (  8192 cells,  12 layers,  1/1 seqs)",
        "llama_kv_cache: size =   10.00 MiB (   768 cells,  12 layers,  1/1 seqs)",
    ]
    assert figures.of_log("llama_cpp", lines) == {"kv": 110 * MIB, "kv_tokens": 8192}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "GET /v1/models?x=GPU KV cache size: tokens",
        "Model loading took a while",
        "Model loading took -3.2 GiB memory",
        "GPU KV cache size: 99999999999999999999999999999999 tokens",
        "KV Cache is allocated. #tokens: many, K size: x GB",
        'msg="model weights" device=CUDA0 size="1e309 GiB"',
        "llama_kv_cache: size = nan MiB ( 8 cells",
    ],
)
def test_what_says_nothing_is_no_number(line):
    for engine in ("vllm", "sglang", "llama_cpp", "ollama", "other"):
        assert figures.of_log(engine, [line]) == {}


def test_metrics_of_vllm():
    text = (
        "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
        'vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="1780"} 1.0\n'
    )
    assert figures.of_metrics("vllm", text) == {"kv_tokens": 28480}
    assert figures.of_metrics("vllm", text.replace('"1780"', '"None"')) == {}
    assert figures.of_metrics("vllm", "") == {}
    assert figures.of_metrics("sglang", 'sglang:max_total_num_tokens{model_name="m"} 46611.0\n') == {"kv_tokens": 46611}
    assert figures.of_metrics("llama_cpp", text) == {}


def test_of_one_start_it_is_noted_once():
    first = figures.measured("vllm", VLLM, since="2026-11-27T20:00:00Z")
    assert (first["source"], first["kv_tokens"]) == ("log", 3513712)
    assert figures.measured("vllm", VLLM, since="2026-11-27T20:00:00Z", before=first) is None
    # The log of the start is gone: the weights are those of the same model.
    text = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="10"} 1.0\n'
    later = figures.measured("vllm", [], text, "2026-11-28T20:00:00Z", first)
    assert later == {
        "kv_tokens": 160,
        "weights": first["weights"],
        "source": "metrics",
        "since": "2026-11-28T20:00:00Z",
    }
    assert figures.measured("vllm", ["nothing"], "", "2026-11-28T20:00:00Z", first) is None


def test_llama_cpp_of_today_says_its_slots_and_the_size_of_its_tensors():
    """b11549, as it is deployed: nothing of buffers in its log."""
    lines = [
        "0.00.189.229 I srv    load_model: loading model '/m.gguf'",
        "0.25.258.146 I srv    load_model: initializing, n_slots = 2, n_ctx_slot = 2048, kv_unified = 'false'",
    ]
    models = (
        '{"models":[{"name":"m","size":""}],"object":"list","data":[{"id":"m","meta":{"n_ctx":2048,"size":96576768}}]}'
    )
    assert figures.of_log("llama_cpp", lines) == {"kv_tokens": 4096}
    assert figures.of_log("llama_cpp", [lines[0], lines[1].replace("false", "true")]) == {"kv_tokens": 2048}
    # Whether the slots share one cache is not said: then it is not known.
    assert figures.of_log("llama_cpp", [lines[1].replace(", kv_unified = 'false'", "")]) == {}
    assert figures.of_log("llama_cpp", [*lines, lines[0]]) == {}
    found = figures.measured("llama_cpp", lines, models=models)
    assert found == {"weights": 96576768, "kv_tokens": 4096, "source": "log", "since": None}
    for wrong in (
        "",
        "[]",
        "{",
        '{"data": []}',
        '{"data": [{"meta": {"size": -1}}]}',
        '{"data": [{}, {}]}',
        '{"data": [5]}',
    ):
        assert figures.of_models("llama_cpp", wrong) == {}
    assert figures.of_models("vllm", models) == {}
