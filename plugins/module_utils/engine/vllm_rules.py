# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vLLM's parameters must be to each other, to the model and to the host. Pure.

Sources: vLLM's own checks (vllm/config, model_executor/layers/quantization), docs/usage/security.md, and, for
enforce-eager, a run of DeepSeek R1's true shapes on one H100.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import own_context
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.guards import flag_value
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import parallel
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape

# What each way of storing weights is called in vLLM; a model that is not quantised may be while it is loaded.
_STORED_AS = {
    "AWQ": ("awq", "awq_marlin", "moe_wna16"),
    "GPTQ": ("gptq", "gptq_marlin", "moe_wna16"),
    "FP8": ("fp8", "deepseek_v4_fp8"),
}
_ONLY_FLOAT16 = ("awq", "gptq")
_HALF = ("float16", "half")

EAGER = (
    "{0}_enforce_eager is set: without CUDA graphs R1's shapes gave 93 tokens/s instead of 436 for one request on an "
    "H100, 4.7 times less. Set it only where memory for the graphs is missing."
)
TRUST = (
    "{0}_trust_remote_code is set: Python code that lies with the model is run. vLLM serves DeepSeek, Qwen and Llama "
    "without it."
)
CREDENTIALS = (
    "{0}_allow_credentials is set and {0}_allowed_origins names every origin: any web page can use its visitors' "
    "access. Name the origins."
)


def check(values: Dict[str, Any], facts: Dict[str, Any], prefix: str) -> Tuple[List[str], List[str]]:
    """`(problems, warnings)`, one line each.

    :param values: parameter to value, None where it is vLLM's to choose; checked by themselves before.
    :param facts: ``profile`` (cpu or cuda), ``gpus`` (of one host), ``hosts`` (of the play), ``model`` (the catalog's
        entry), ``omp_threads_bind``, ``shared_nvswitch``, ``extra_args``.
    """
    problems = _of_parallelism(values, facts, prefix)
    problems += _of_numbers(values, facts, prefix)
    problems += _of_scheduling(values, facts, prefix)
    problems += _of_security(values, prefix)
    if values.get("enable_auto_tool_choice") and not values.get("tool_call_parser"):
        problems.append("%s_enable_auto_tool_choice needs %s_tool_call_parser" % (prefix, prefix))
    # A dict given as a whole replaces the keys of it that are given one by one.
    if facts.get("shared_nvswitch") and "--compilation-config" in (facts.get("extra_args") or []):
        problems.append(
            "%s_extra_args: --compilation-config: with %s_shared_nvswitch give its keys one by one, such as "
            "--compilation-config.cudagraph_mode=FULL" % (prefix, prefix)
        )
    warnings = []
    if values.get("enforce_eager"):
        warnings.append(EAGER.format(prefix))
    if values.get("trust_remote_code"):
        warnings.append(TRUST.format(prefix))
    if values.get("allow_credentials") and "*" in (values.get("allowed_origins") or []):
        warnings.append(CREDENTIALS.format(prefix))
    return problems, warnings


def _of_parallelism(values: Dict[str, Any], facts: Dict[str, Any], prefix: str) -> List[str]:
    tensor = values.get("tensor_parallel_size") or 1
    pipeline = values.get("pipeline_parallel_size") or 1
    data = values.get("data_parallel_size") or 1
    problems = []
    try:
        shape = model_shape.from_catalog(facts.get("model") or {})
    except ValueError:
        shape = None  # a model of the user's own, without numbers
    if shape and tensor > 1:
        whole = 0 if values.get("enable_expert_parallel") else 1
        for problem in parallel.tensor_parallel_problems(shape, tensor, whole):
            sizes = parallel.tensor_parallel_sizes(shape, max(8, tensor), whole)
            with_whole = whole and not parallel.tensor_parallel_problems(shape, tensor, 0)
            problems.append(
                "%s_tensor_parallel_size: %d is not possible for %s: %s; possible are %s%s"
                % (
                    *(prefix, tensor, shape.name, problem, ", ".join(str(size) for size in sizes)),
                    ", or %d with %s_enable_expert_parallel" % (tensor, prefix) if with_whole else "",
                )
            )
    nodes, world = values.get("nnodes") or 1, tensor * pipeline * data
    problems += _of_hosts(values, facts, prefix, world)
    have = facts["gpus"] * nodes
    if facts.get("profile") == "cuda" and world > have:
        problems.append(
            "%s_tensor_parallel_size %d × pipeline %d × data %d needs %d GPUs, %s %d"
            % (
                *(prefix, tensor, pipeline, data, world),
                *("this host has" if nodes == 1 else "%d hosts of this kind have" % nodes, have),
            )
        )
    here = tensor if nodes == 1 else world // nodes
    if facts.get("profile") == "cpu" and here > 1:
        parts = str(facts.get("omp_threads_bind") or "").split("|")
        if len(parts) != here:
            problems.append(
                "%s_tensor_parallel_size: on CPU %d ranks need their processors named in %s_cpu_omp_threads_bind, such "
                "as '0|1'" % (prefix, here, prefix)
            )
    return problems


def _of_hosts(values: Dict[str, Any], facts: Dict[str, Any], prefix: str, world: int) -> List[str]:
    """Several hosts: each has as many of the ranks. Source: engine/arg_utils.py, config/parallel.py."""
    nodes = values.get("nnodes") or 1
    if nodes == 1:
        return []
    problems = []
    if nodes > facts["hosts"]:
        problems.append("%s_nnodes: %d hosts are to serve it, this run is about %d" % (prefix, nodes, facts["hosts"]))
    # Where nothing is said of the parallelism, the layers are shared out among the hosts.
    given = [values.get(name) for name in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")]
    if any(given) and world % nodes:
        problems.append("%s_nnodes: %d ranks cannot be spread evenly over %d hosts" % (prefix, world, nodes))
    backend = flag_value(facts.get("extra_args") or [], "--distributed-executor-backend")
    if backend not in (None, "mp"):
        problems.append(
            "%s_extra_args: --distributed-executor-backend %s: %s_nnodes starts the processes itself (mp); leave one "
            "of the two out" % (prefix, backend, prefix)
        )
    return problems


def _of_numbers(values: Dict[str, Any], facts: Dict[str, Any], prefix: str) -> List[str]:
    """Types of numbers: of the computation, the weights, the KV cache."""
    dtype, quantization, cache = (values.get(name) for name in ("dtype", "quantization", "kv_cache_dtype"))
    stored = str((facts.get("model") or {}).get("quantization", "")).upper()
    problems = []
    if quantization in _ONLY_FLOAT16 and dtype not in (None, "auto", *_HALF):
        problems.append(
            "%s_dtype: %s computes in float16 only, found %s; use float16, or quantization %s_marlin"
            % (prefix, quantization, dtype, quantization)
        )
    if quantization and stored in _STORED_AS and quantization not in _STORED_AS[stored]:
        problems.append(
            "%s_quantization: %s is stored as %s, found %s; leave it unset, or use one of %s"
            % (prefix, facts["model"].get("name"), stored, quantization, ", ".join(_STORED_AS[stored]))
        )
    if cache == "fp8_e5m2" and (stored == "FP8" or quantization == "fp8"):
        problems.append("%s_kv_cache_dtype: fp8_e5m2 is not possible with FP8 weights; use fp8 or fp8_e4m3" % prefix)
    if values.get("calculate_kv_scales") and not str(cache).startswith("fp8"):
        problems.append("%s_calculate_kv_scales needs %s_kv_cache_dtype fp8" % (prefix, prefix))
    return problems


def _of_scheduling(values: Dict[str, Any], facts: Dict[str, Any], prefix: str) -> List[str]:
    longest, sequences = values.get("max_model_len"), values.get("max_num_seqs")
    batched = values.get("max_num_batched_tokens")
    context = own_context.longest(values, facts, "vllm")
    problems = []
    if isinstance(longest, int) and context and longest > context:
        problems.append(
            "%s_max_model_len: %d is more than the %d tokens of %s" % (prefix, longest, context, facts["model"]["name"])
        )
    if batched and sequences and batched < sequences:
        problems.append(
            "%s_max_num_batched_tokens: %d is less than %s_max_num_seqs %d: each sequence needs one a step"
            % (prefix, batched, prefix, sequences)
        )
    return problems


def _of_security(values: Dict[str, Any], prefix: str) -> List[str]:
    problems = []
    if bool(values.get("ssl_keyfile")) != bool(values.get("ssl_certfile")):
        problems.append("%s_ssl_certfile and %s_ssl_keyfile must be set together" % (prefix, prefix))
    return problems
