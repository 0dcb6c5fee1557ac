# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `up` would do for one row of the plan, and what that takes: bytes, disks, time. Pure."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.parameters import version_key
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.shape import number
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.disk import disk_bytes
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import sglang_kernels
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.plan_offers import TITLES, Engine
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.start_timeout import SLOWEST_READ_BYTES_PER_S

# Bytes a second of one NVMe disk that reads in order; the other end is SLOWEST_READ_BYTES_PER_S.
FAST_READ = 3_000_000_000
# s that a release compiles at its first start on GPUs, and keeps. Measured with 0.32.0 and shapes of R1: torch.compile
# 25 to 32 s, FlashInfer's sampler by nvcc 100 s on 32 cores, 128 s on 16, CUDA graphs 15 to 20 s.
_VLLM_FIRST = 200
_VLLM_HOW = "torch.compile, FlashInfer's sampler, CUDA graphs: vLLM 0.32.0 took 190 s on 2 × H200, 220 s on one"
# The same of SGLang for DeepSeek V3's shapes in FP8, where the launcher compiles ahead (sglang_compile_ahead).
_SGLANG_FIRST = 160
_SGLANG_AWQ_HOW = "nvcc takes 5 to 6 min on one core for each file of Marlin's kernels (0.5.23): 1, with experts 3"
_SGLANG_HOW = "DeepGEMM's kernels 58 s, its own and CUDA graphs 97 s: SGLang 0.5.23 on one H200 with 16 cores"


def costs(
    row: Dict[str, Any],
    entry: Dict[str, Any],
    engine: Engine,
    stored: Optional[int] = None,
    free: Optional[int] = None,
    download_mb_s: float = 100.0,
    merge: str = "copy",
    deployed: Optional[Dict[str, Any]] = None,
) -> Dict[str, Any]:
    """``download`` and ``install`` (bytes), ``disk`` (bytes by purpose), ``disk_total``, ``disk_free``, and
    ``download_s``, ``load_fast_s``, ``load_slow_s``, ``first_start_s``; every one a `number`. What the host has takes
    no more of its disk.

    :param stored: bytes of the model that the host has; None: not known, counts as none.
    :param free: free bytes where models lie; None: not known.
    :param deployed: the record of this engine's deployment on the host.
    """
    size = row["bytes"]["value"]
    if size is None:
        nothing = number(None, "not known", row["bytes"]["how"])
        names = ("download", "disk_total", "download_s", "load_fast_s", "load_slow_s", "first_start_s")
        return dict(dict.fromkeys(names, nothing), disk={}, disk_free=number(free, "measured", "statvfs"))
    label = row["bytes"]["label"]
    if any(source["kind"] == "path" for source in entry.get("sources") or []):
        stored = size  # it is served from where it lies
    left = max(0, size - (stored or 0))
    shards = [item.get("bytes") or 0 for item in entry.get("files") or []]
    ollama = engine.name == "ollama"
    merged = ollama and len(shards) > 1
    purposes = disk_bytes(size, merged, merge == "consume", max(shards or [0]), ollama)
    purposes["download"] = left
    installed = is_installed(row, deployed)
    purposes["engine"] = 0 if installed else engine.install_bytes
    if installed and deployed.get("model") == row["model"] and not left:
        purposes = {name: 0 for name in purposes}  # its merged file and Ollama's copy are there, too
    how = "sum of %s" % (", ".join(name for name, value in purposes.items() if value) or "nothing")
    rate = download_mb_s * 1e6
    there = ", less %s on the host" % mib(stored) if stored else ""
    return {
        "download": number(left, label, "files of the model" + there),
        "install": number(engine.install_bytes, "estimated", "what the role sets aside for %s" % engine.title),
        "disk": {name: number(value, label, name) for name, value in purposes.items() if value},
        "disk_total": number(sum(purposes.values()), "estimated", how),
        "disk_free": number(free, "measured" if free is not None else "not known", "statvfs of the models' directory"),
        "download_s": number(round(left / rate), "estimated", "bytes / %g MB/s (assumed)" % download_mb_s),
        "load_fast_s": number(round(size / FAST_READ), "estimated", "bytes / 3 GB/s: one NVMe disk (assumed)"),
        "load_slow_s": number(
            round(size / SLOWEST_READ_BYTES_PER_S), "estimated", "bytes / 100 MB/s: a cold network disk (assumed)"
        ),
        "first_start_s": first_start(row, entry),
    }


def first_start(row: Dict[str, Any], entry: Dict[str, Any]) -> Dict[str, Any]:
    """s that a release compiles at its first start beside loading, as a `number`; its caches are kept for the next."""
    if row["engine"] not in ("vllm", "sglang") or not (row["layout"] or {}).get("tensor_parallel"):
        return number(0, "exact", "nothing is compiled when it starts")
    if row["engine"] == "vllm":
        return number(_VLLM_FIRST, "estimated", _VLLM_HOW)
    ahead = version_key(row.get("version") or "0") >= version_key(sglang_kernels.SINCE)
    if ahead and sglang_kernels.dense_products(entry, 1, 1):
        return number(_SGLANG_FIRST, "estimated", _SGLANG_HOW)
    if "FP8" in str(entry.get("quantization")).upper():
        how = "DeepGEMM's kernels for FP8, one after the other: 10 to 20 min by SGLang's own word"
        return number(None, "not known", how)
    if entry.get("quantization") == "AWQ":
        return number(None, "not known", _SGLANG_AWQ_HOW)
    return number(None, "not known", "not measured")


def record_of(row: Dict[str, Any], records: Iterable[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """The record of the deployment by the row's engine, of those of a host."""
    return next((one for one in records if one["engine"] == row["engine"]), None)


def is_installed(row: Dict[str, Any], deployed: Optional[Dict[str, Any]]) -> bool:
    """Whether the host has the row's version of the engine, by the record of its deployment."""
    return bool(deployed) and row["version"] in ("", deployed.get("version"))


def changes(
    row: Dict[str, Any], records: List[Dict[str, Any]], costs_of: Dict[str, Any], known: bool = True
) -> List[str]:
    """What `up` would change on the host, in a few lines; `up --check` names every file.

    :param records: the deployment records of the host.
    :param known: whether the host was looked at; without, it counts as bare.
    """
    title = TITLES.get(row["engine"], row["engine"])
    lines = []
    mine = record_of(row, records)
    installed = is_installed(row, mine)
    others = [one for one in records if one["engine"] != row["engine"] and one.get("device", "gpu") == "gpu"]
    if installed and mine.get("model") == row["model"]:
        return ["nothing is known to differ: %s %s serves %s (`up --check` compares every file)"
                % (title, mine.get("version") or "", row["model"])]  # fmt: skip
    for other in others:
        lines.append("stop %s, which holds the GPUs (%s)" % (other["engine"], other.get("model") or "?"))
    if not installed:
        lines.append("install %s" % ("%s %s" % (title, row["version"])).strip())
    left = costs_of["download"]["value"]
    if left:
        lines.append("fetch %s" % mib(left))
    if mine and mine.get("model") != row["model"]:
        lines.append("serve %s instead of %s" % (row["model"], mine.get("model") or "?"))
    else:
        lines.append("start service dsdeploy-%s" % row["engine"].replace("_", "-"))
    if not known:
        lines.append("as on a bare host: none was looked at")
    return lines


def variables(row: Dict[str, Any], entry: Dict[str, Any], engine: Engine, role: str, hosts: int = 1) -> Dict[str, Any]:
    """What must be set, beside engine and model, for `up` to do as the row says."""
    layout, found = row["layout"], {}
    if row["profile"]:
        found["dsdeploy_profile"] = row["profile"]
    if engine.name in ("vllm", "sglang") and layout.get("tensor_parallel"):
        found["%s_tensor_parallel_size" % role] = layout["tensor_parallel"]
        recipes = (entry.get("recipes") or {}).get(engine.name) or []
        if hosts > 1 or any("nnodes" in (one.get("parameters") or {}) for one in recipes):
            found["%s_nnodes" % role] = hosts
        if layout["pipeline_parallel"] > 1:
            found["%s_pipeline_parallel_size" % role] = layout["pipeline_parallel"]
        if layout["data_parallel"] > 1:
            found["%s_data_parallel_size" % role] = layout["data_parallel"]
        if row["newer"]:
            found["%s_version" % role] = row["version"]
        length = "max_model_len" if engine.name == "vllm" else "context_length"
        found["%s_%s" % (role, length)] = row["context"]
        if engine.name == "vllm":
            found.update({"vllm_venv_max_num_seqs": row["users"]} if row["users"] > 1 else {})
    elif engine.name == "llama_cpp":
        found.update(llama_cpp_context=row["context"], llama_cpp_parallel=row["users"])
    elif engine.name == "ollama":
        found.update(ollama_context=row["context"], ollama_parallel=row["users"])
    return found
