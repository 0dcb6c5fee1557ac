# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why an engine ended, by its own log, and what to change. Pure.

The last lines of a log rarely tell it: vLLM and SGLang end with the traceback of the process that waited for the one
that failed. The lines are those of vLLM 0.32 (v1/core/kv_cache_utils.py, v1/worker/utils.py, cpu_worker.py), SGLang
0.5.23 (mem_cache/kv_cache_configurator.py, model_executor/pool_configurator.py), llama.cpp b11434 (llama-model.cpp,
ggml-cuda.cu, server.cpp) and of CUDA and NCCL.
"""

from __future__ import annotations

import re
from typing import List, NamedTuple, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign


class Cause(NamedTuple):
    """`line`: the engine's words, one line. `hint`: what to change; empty where that is not known. `final`: the next
    start ends the same way, whatever else happens on the host."""

    line: str
    hint: str = ""
    final: bool = False


# (what the log says, what to change, whether it is final). The last line that matches counts.
_KNOWN = [
    (re.compile(pattern), hint, final)
    for pattern, hint, final in (
        (
            r"No available memory for the cache blocks",
            "Weights and overhead fill the engine's share of the GPU: raise vllm_venv_gpu_memory_utilization, use more "
            "GPUs (vllm_venv_tensor_parallel_size), or lower vllm_venv_max_num_seqs; `dsdeploy plan --explain` counts.",
            True,
        ),
        (
            r"To serve at least one request with the model'?s'? max seq len|"
            r"max seq len \([0-9]+\) is larger than the maximum number of tokens that can be stored in KV cache",
            "Lower vllm_venv_max_model_len, raise vllm_venv_gpu_memory_utilization, or use more GPUs "
            "(vllm_venv_tensor_parallel_size).",
            True,
        ),
        (
            r"(?:Free|Available) memory on (?:device|node) .* is less than desired",
            "Other processes hold the memory (nvidia-smi, or `dsdeploy doctor`): end them, or lower "
            "vllm_venv_gpu_memory_utilization.",
            False,
        ),
        (
            r"Loaded weights leave no GPU memory for the KV cache|Not enough memory\. Please try to increase "
            r"--mem-fraction-static",
            "Raise sglang_mem_fraction_static, use more GPUs (sglang_tensor_parallel_size), or end what else holds the "
            "GPU's memory (nvidia-smi).",
            False,
        ),
        (
            r"No module named 'intel_extension_for_pytorch'",
            "SGLang's CPU path wants Intel's extension of PyTorch for more than one rank: give a lock that has it "
            "(sglang_lock), or set sglang_tensor_parallel_size to 1.",
            True,
        ),
        (
            r"unknown model architecture: |unknown pre-tokenizer type: |has invalid ggml type ",
            "This llama.cpp does not know the model: deploy a newer one (llama_cpp_wheel_version, "
            "llama_cpp_source_version).",
            True,
        ),
        (
            r"cudaMalloc failed: out of memory|failed to allocate (?:buffer for|compute) |"
            r"unable to allocate \S+ buffer",
            "Lower llama_cpp_gpu_layers or llama_cpp_context, or end what else holds the memory (nvidia-smi).",
            False,
        ),
        (
            r"OutOfMemoryError|CUDA out of memory|CUDA error: out of memory",
            "The GPU's memory is full: end what else holds it (nvidia-smi), use more GPUs, or shorten the context.",
            False,
        ),
        (
            r"couldn't bind HTTP server socket|[Aa]ddress already in use",
            "Another program has the port: `ss -ltnp` names it. End it, or give the engine another port.",
            False,
        ),
        (
            r"CUDA driver version is insufficient|NVIDIA driver on your system is too old",
            "The driver is older than the engine's CUDA: `dsdeploy prepare` installs a newer one, or choose an older "
            "version of the engine.",
            True,
        ),
        (
            r"no kernel image is available for execution",
            "This build of the engine has no code for this GPU's compute capability: choose another version of it.",
            True,
        ),
        (
            # The launcher's, which starts no engine then: what to do is in the line itself.
            r"there is no /dev/nvidia\S+, (?:nor|so that CUDA)|the device files of MIG's instances are not in|"
            r"MIG is on and has no instance",
            "No engine is started on the CPU instead: it starts by itself once it has GPUs (`dsdeploy doctor`).",
            False,
        ),
        (
            r"system not yet initialized|CUDA_ERROR_SYSTEM_NOT_READY",
            "GPUs on an NVSwitch need a fabric manager of the driver's version: `dsdeploy doctor`, `dsdeploy prepare`.",
            False,
        ),
        (
            # Not CUDA's "error: invalid argument", which no parameter of ours makes good.
            r"(?<!CUDA )(?<!driver )error: (?:unrecognized arguments?|argument \S+|(?:invalid|unknown) argument)|"
            r"error while handling argument",
            "Correct what is set of the engine's parameters (its role's variables, `_extra_args` among them).",
            True,
        ),
        (
            r"Insufficient space in /dev/shm|creating shared memory segment /dev/shm/",
            "Give the processes more memory to share: `mount -o remount,size=1g /dev/shm`, and the same in /etc/fstab; "
            "a container is given it from outside (--shm-size).",
            False,
        ),
        (r"[Nn]o space left on device", "A disk is full: `df -h`, `dsdeploy model prune`.", False),
    )
]
# What an engine says once, first of all, of each start.
_START = re.compile(r"non-default args: |vLLM API server version|\bserver_args=|llama_model_loader: loaded meta data")
_EXCEPTION = re.compile(r"(?:^|\s)((?:\w+\.)*(?:[A-Z]\w*(?:Error|Exception)|Exception): \S.*)$")
_LLAMA_ERROR = re.compile(
    r"error loading model: .+|CUDA error: .+|GGML_ASSERT\(.+\) failed.*|failed to open GGUF file .+|what\(\): +\S.*"
)
# Pydantic's first line only counts; what is wrong stands in one of the next, and its input again behind that.
_COUNTED = re.compile(r"ValidationError: [0-9]+ validation errors? for \w+$")
_COUNTED_ONE = re.compile(r"\s{2}(\S.*?)(?: \[type=.*)?$")
# Of a process that waited for the one that failed.
_SECOND_HAND = re.compile(
    r"Engine core initialization failed|EngineDeadError|EngineCore encountered|WorkerProc initialization failed|"
    r"Cancelled(?:Error)?\b|exit(?:ed)? (?:with )?code|BrokenPipeError"
)


def _starts(lines: List[str]) -> List[List[str]]:
    """The lines of each start that the log tells of; what stands before the first counts as one."""
    blocks: List[List[str]] = [[]]
    for line in lines:
        if _START.search(line):
            blocks.append([])
        blocks[-1].append(line)
    return blocks


def second_hand(line: str) -> bool:
    """Whether a process says there that another one failed, and not why."""
    return bool(_SECOND_HAND.search(line))


def cause(lines: List[str]) -> Optional[Cause]:
    """Why the engine ended, of the last lines of its log, up to a few hundred; None where they do not tell.

    Asked of an engine that has just ended: it may have been started again already, so the start before the last one
    counts, too, where the last tells nothing.
    """
    for block in reversed(_starts(lines)[-2:]):
        for line in reversed(block):
            for known, hint, final in _KNOWN:
                found = known.search(line)
                if found:
                    said = _EXCEPTION.search(line)
                    return Cause(foreign.one_line(said.group(1) if said else line[found.start() :]), hint, final)
        for number, line in enumerate(block):
            found = _EXCEPTION.search(line) or _LLAMA_ERROR.search(line)
            if found and not second_hand(line):
                said = found.group(found.lastindex or 0)
                return Cause(foreign.one_line(said + _counted(said, block[number + 1 : number + 4])))
    return None


def _counted(said: str, behind: List[str]) -> str:
    """The first of the mistakes that pydantic has only counted; empty where it did not."""
    first = next(filter(None, map(_COUNTED_ONE.search, behind)), None) if _COUNTED.search(said) else None
    return ": " + first.group(1) if first else ""
