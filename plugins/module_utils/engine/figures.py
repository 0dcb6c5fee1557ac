# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine says of its own memory once it has started, from its log or its metrics. Pure; bytes and tokens.

The lines, as the engines write them:

- vLLM 0.15 to 0.33 (v1/worker/gpu_model_runner.py, gpu_worker.py, v1/core/kv_cache_utils.py): ``Model loading took
  47.08 GiB memory and 15.2 seconds`` (0.8 to 0.10 wrote ``GB``, and meant GiB), ``Available KV cache memory: 18.85
  GiB``, ``GPU KV cache size: 3,513,712 tokens``, of each rank;
- SGLang (model_runner.py, memory_pool.py, scheduler.py): ``Load weight end. … mem usage=15.54 GB.``, ``KV Cache is
  allocated. #tokens: 46611, K size: 1.42 GB, V size: 1.42 GB`` (since 2026 with ``dtype: torch.bfloat16,`` before),
  ``max_total_num_tokens=46611``; its GB are GiB. A rank has several pools with sliding windows or a draft model, whose
  weights are told of behind the first pools;
- llama.cpp (llama-model.cpp, llama-kv-cache.cpp): ``load_tensors: CUDA0 model buffer size = 4417.38 MiB``,
  ``llama_kv_cache: size = 544.00 MiB ( 8192 cells, 16 layers, 1/1 seqs)``; since about b11400 (seen: b11549) only with
  ``-lv 4``, by itself ``load_model: initializing, n_slots = 2, n_ctx_slot = 2048, kv_unified = 'false'``, and the bytes
  of all tensors under ``/v1/models`` (``data[].meta.size``);
- Ollama (llm/device.go): ``msg="model weights" device=CUDA0 size="4.1 GiB"``, ``msg="kv cache" …``, beside llama.cpp's.

Of several starts in one log the last counts.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Set

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

MIB, GIB = 1024**2, 1024**3
_UNITS = {"B": 1, "KiB": 1024, "MiB": MIB, "GiB": GIB, "TiB": 1024**4}
_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,4})?)"
_VLLM_WEIGHTS = re.compile(r"Model loading took %s (?:GiB|GB)\b" % _NUMBER)
_VLLM_TOKENS = re.compile(r"\b(?:GPU|CPU) KV cache size: ([0-9][0-9,]{0,20}) tokens")
# What is said first of all of a start: one that failed has said the weights of another model, maybe.
_VLLM_START = re.compile(r"non-default args: |vLLM API server version")
_SGLANG_START = re.compile(r"\bserver_args=")
_LLAMA_FAILED = re.compile(r"exiting due to model loading error")
_VLLM_ROOM = re.compile(r"Available KV cache memory: %s GiB" % _NUMBER)
_SGLANG_WEIGHTS = re.compile(r"Load weight end\..*\bmem usage=%s GB" % _NUMBER)
_SGLANG_POOL = re.compile(
    r"KV Cache is allocated\.(?: dtype: [\w.]+,)?(?: #tokens: ([0-9]{1,15}),)? "
    r"(?:K size: %s GB, V size: %s GB|KV size: %s GB)" % (_NUMBER, _NUMBER, _NUMBER)
)
# "[2025-05-09 15:00:16 DP1 TP1]": whose line it is.
_SGLANG_RANK = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,\d]*((?: [A-Z]+\d+)*)\]")
_SGLANG_TOKENS = re.compile(r"\bmax_total_num_tokens=([0-9]{1,15})\b")
_LLAMA_WEIGHTS = re.compile(r"load_tensors:\s+(\S+) model buffer size =\s*%s MiB" % _NUMBER)
_LLAMA_POOL = re.compile(r"llama_kv_cache\w*: size =\s*%s MiB \(\s*([0-9]{1,12}) cells" % _NUMBER)
_LLAMA_SLOTS = re.compile(
    r"initializing, n_slots = ([0-9]{1,6}), n_ctx_slot = ([0-9]{1,12})(?:, kv_unified = '(true|false)')?"
)
_LLAMA_START = re.compile(r"llama_model_loader: loaded meta data|srv\s+load_model: loading model")
_OLLAMA = re.compile(r'msg="(model weights|kv cache)" device=(\S+) size="([0-9.]{1,12}) ([KMGT]?i?B)"')
_CACHE_INFO = re.compile(r"^vllm:cache_config_info\{(.*)\}\s+1(?:\.0)?\s*$", re.M)
_SGLANG_METRIC = re.compile(r"^sglang:max_total_num_tokens(?:\{[^\n]*\})?\s+([0-9.e+]{1,24})\s*$", re.M)


def of_log(engine: str, lines: List[str]) -> Dict[str, Any]:
    """``weights`` (bytes: vLLM and SGLang on the fullest GPU, llama.cpp and Ollama in all), ``kv_tokens``, ``kv``
    (bytes, likewise); what the log does not say is missing. An engine that is not known says nothing.
    """
    reader = {"vllm": _vllm, "sglang": _sglang, "llama_cpp": _llama, "ollama": _ollama}.get(engine)
    return {key: value for key, value in reader(lines).items() if value} if reader else {}


def _vllm(lines: List[str]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for line in lines:
        weights, room, tokens = _VLLM_WEIGHTS.search(line), _VLLM_ROOM.search(line), _VLLM_TOKENS.search(line)
        if _VLLM_START.search(line) or (weights and "kv_tokens" in found):
            found = {}
        if weights:
            found["weights"] = max(found.get("weights", 0), int(float(weights.group(1)) * GIB))
        if room:
            # The ranks agree on the least of it.
            value = int(float(room.group(1)) * GIB)
            found["kv"] = min(found.get("kv", value), value)
        if tokens:
            found["kv_tokens"] = int(tokens.group(1).replace(",", ""))
    return found


def _sglang(lines: List[str]) -> Dict[str, Any]:
    weights: Dict[str, float] = {}
    pools: Dict[str, float] = {}
    tokens = 0
    ended: Set[str] = set()
    for line in lines:
        loaded, pool, told = _SGLANG_WEIGHTS.search(line), _SGLANG_POOL.search(line), _SGLANG_TOKENS.search(line)
        whose = _SGLANG_RANK.search(line)
        rank = whose.group(1) if whose else ""
        if _SGLANG_START.search(line) or ("Load weight end." in line and rank in ended):
            weights, pools, tokens, ended = {}, {}, 0, set()
        if loaded:
            weights[rank] = weights.get(rank, 0.0) + float(loaded.group(1))
        if pool:
            pools[rank] = pools.get(rank, 0.0) + sum(float(size) for size in pool.groups()[1:] if size)
            # That of the layers with windows, and a draft's, hold no more than that of the others.
            tokens = max(tokens, int(pool.group(1) or 0))
        if told:
            tokens = int(told.group(1))
            ended.add(rank)
    sizes = {"weights": max(weights.values(), default=0.0), "kv": max(pools.values(), default=0.0)}
    return dict({name: int(size * GIB) for name, size in sizes.items()}, kv_tokens=tokens)


def _llama(lines: List[str]) -> Dict[str, Any]:
    weights: Dict[str, List[float]] = {}
    pools: List[Any] = []
    tokens = 0
    for line in lines:
        if _LLAMA_FAILED.search(line) or (_LLAMA_START.search(line) and (pools or tokens)):
            weights, pools, tokens = {}, [], 0
        slots = _LLAMA_SLOTS.search(line)
        if slots and slots.group(3):
            tokens = int(slots.group(2)) * (1 if slots.group(3) == "true" else int(slots.group(1)))
        buffer, pool = _LLAMA_WEIGHTS.search(line), _LLAMA_POOL.search(line)
        if buffer:
            weights.setdefault(buffer.group(1), []).append(float(buffer.group(2)))
        if pool:
            pools.append((float(pool.group(1)), int(pool.group(2))))
    # A mapped file is told once for each part of it, and each time with all that lies between its first and last byte.
    total = sum(max(sizes) if name.endswith("_Mapped") else sum(sizes) for name, sizes in weights.items())
    return {
        "weights": int(total * MIB),
        "kv": int(sum(size for size, _cells in pools) * MIB),
        # Of a model with windows the second cache holds fewer.
        "kv_tokens": max([cells for _size, cells in pools] or [tokens]),
    }


def _ollama(lines: List[str]) -> Dict[str, Any]:
    found: Dict[str, Dict[str, int]] = {"model weights": {}, "kv cache": {}}
    for line in lines:
        match = _OLLAMA.search(line)
        if match and match.group(4) in _UNITS:
            # It fits several times before it loads: the last counts.
            found[match.group(1)][match.group(2)] = int(float(match.group(3)) * _UNITS[match.group(4)])
    said = _llama(lines)
    weights, kv = sum(found["model weights"].values()), sum(found["kv cache"].values())
    return dict(said, weights=weights or said["weights"], kv=kv or said["kv"])


def of_metrics(engine: str, text: str) -> Dict[str, Any]:
    """The same of the engine's metrics in Prometheus' format: ``kv_tokens``, where they tell it for certain."""
    if engine == "vllm":
        tokens = []
        for labels in _CACHE_INFO.findall(text):
            pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            counts = [pairs.get(name, "") for name in ("num_gpu_blocks", "block_size")]
            if not all(count.isdigit() and len(count) < 16 for count in counts):
                return {}
            tokens.append(int(counts[0]) * int(counts[1]))
        return {"kv_tokens": sum(tokens)} if tokens and sum(tokens) else {}
    if engine == "sglang":
        values = _SGLANG_METRIC.findall(text)
        try:
            return {"kv_tokens": int(float(values[0]))} if values and float(values[0]) > 0 else {}
        except (ValueError, OverflowError):
            return {}
    return {}


def of_models(engine: str, text: str) -> Dict[str, Any]:
    """``weights`` of what llama.cpp says under ``/v1/models``; nothing of other engines."""
    if engine != "llama_cpp" or not text:
        return {}
    try:
        items = list(foreign.parse(text, "/v1/models").items("data"))
        sizes = [item.count("meta.size", 0) for item in items]
    except Failure:
        return {}
    return {"weights": sizes[0]} if len(sizes) == 1 and sizes[0] else {}


def measured(
    engine: str,
    lines: List[str],
    metrics: str = "",
    since: Optional[str] = None,
    before: Optional[Dict] = None,
    models: str = "",
    ready_s: Optional[int] = None,
) -> Optional[Dict[str, Any]]:
    """What to note of a deployment that has answered: ``{source, since, weights, kv, kv_tokens, ready_s}``; None:
    nothing new.

    :param models: what it says under ``/v1/models``. `ready_s`: seconds of the start, where it was seen.
    :param since: when the service was started. What was noted of that start already (``before``) stays.
    """
    if before and since and before.get("since") == since and ready_s is None:
        return None
    found = dict(of_models(engine, models), **of_log(engine, lines))
    source = "log"
    if "kv_tokens" not in found:
        more = of_metrics(engine, metrics)
        source = "log and metrics" if found and more else "metrics" if more else source
        found.update(more)
    if found and before and "weights" not in found and "weights" in before:
        found["weights"] = before["weights"]  # the same model; the log of its start is gone
    if ready_s is None and found and before:
        ready_s = before.get("ready_s")
    if ready_s is not None:
        found["ready_s"] = ready_s
    return dict(found, source=source, since=since) if found else None
