# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What SGLang's parameters must be to each other, to the model and to the hosts. Pure.

Sources: SGLang's own checks (srt/server_args.py), docs/basic_usage/deepseek_v3.md, benchmark/deepseek_v3/README.md.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import own_context
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.parameters import in_versions
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import parallel
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape

Values = Dict[str, Any]

# What each way of storing weights is called in SGLang. FP8 is read from the model and must not be given.
_STORED_AS = {"AWQ": ("awq", "awq_marlin", "moe_wna16"), "GPTQ": ("gptq", "gptq_marlin", "moe_wna16"), "FP8": ()}
_ONLY_FLOAT16 = ("awq",)
_HALF = ("float16", "half")
_SPECULATIVE = ("speculative_num_steps", "speculative_eagle_topk", "speculative_num_draft_tokens")

GRAPHS = (
    "{0}_disable_cuda_graph is set: without CUDA graphs each token waits for the CPU, up to 9 times longer (R1's "
    "shapes on an H100). Set it only where memory for the graphs is missing."
)
TRUST = (
    "{0}_trust_remote_code is set: Python code that lies with the model is run. SGLang serves DeepSeek, Qwen and Llama "
    "without it."
)
EXTENSION = (
    "{0}_tensor_parallel_size: on CPUs SGLang wants Intel's extension of PyTorch (intel_extension_for_pytorch) for "
    "more than one rank, which the role's locks have not: it starts, and ends with its first answer."
)


def check(values: Values, facts: Dict[str, Any], prefix: str) -> Tuple[List[str], List[str]]:
    """`(problems, warnings)`, one line each.

    :param values: parameter to value, None where it is SGLang's to choose; checked by themselves before.
    :param facts: ``profile`` (cpu or cuda), ``version``, ``gpus`` (of one host), ``hosts`` (of the play), ``model``
        (the catalog's entry).
    """
    lines = _of_parallelism(values, facts) + _of_hosts(values, facts, prefix) + _of_attention(values, facts)
    lines += _of_numbers(values, facts) + _of_speculation(values, facts, prefix) + _of_security(values, prefix)
    longest = values.get("context_length")
    context = own_context.longest(values, facts, "sglang")
    if longest and context and longest > context:
        name = facts["model"]["name"]
        lines.append("context_length: %d is more than the %d tokens of %s" % (longest, context, name))
    warnings = []
    if values.get("disable_cuda_graph") and facts.get("profile") == "cuda":
        warnings.append(GRAPHS.format(prefix))
    if values.get("trust_remote_code"):
        warnings.append(TRUST.format(prefix))
    if (values.get("tensor_parallel_size") or 1) > 1 and facts.get("profile") == "cpu":
        warnings.append(EXTENSION.format(prefix))
    return ["%s_%s" % (prefix, line) for line in lines], warnings


def _of_parallelism(values: Values, facts: Dict[str, Any]) -> List[str]:
    tensor = values.get("tensor_parallel_size") or 1
    lines = []
    try:
        shape = model_shape.from_catalog(facts.get("model") or {})
    except ValueError:
        shape = None  # a model of the user's own, without numbers
    expert = values.get("expert_parallel_size") or 1
    whole = expert if tensor % expert == 0 else 1
    for problem in parallel.tensor_parallel_problems(shape, tensor, whole) if shape and tensor > 1 else []:
        possible = parallel.tensor_parallel_sizes(shape, max(8, tensor))
        with_whole = expert == 1 and not parallel.tensor_parallel_problems(shape, tensor, 0)
        lines.append(
            "tensor_parallel_size: %d is not possible for %s: %s; possible are %s%s"
            % (
                *(tensor, shape.name, problem, ", ".join(str(size) for size in possible)),
                ", or %d with expert_parallel_size %d" % (tensor, tensor) if with_whole else "",
            )
        )
    if tensor % expert:
        lines.append("expert_parallel_size: %d does not divide the tensor-parallel size %d" % (expert, tensor))
    return lines


def _of_hosts(values: Values, facts: Dict[str, Any], prefix: str) -> List[str]:
    """GPUs and hosts: each copy of the model takes TP × PP GPUs, spread evenly over the hosts."""
    nodes = values.get("nnodes") or 1
    tensor, pipeline = (values.get(name) or 1 for name in ("tensor_parallel_size", "pipeline_parallel_size"))
    copies = 1 if values.get("enable_dp_attention") else values.get("data_parallel_size") or 1
    lines = []
    if nodes > facts["hosts"] and values.get("node_rank") is None:
        lines.append(
            "nnodes: %s is served by %d hosts, this run is about %d; name the others in the inventory too, or, where "
            "one host has the memory, set %s_nnodes to 1 and %s_tensor_parallel_size to its GPUs"
            % ((facts.get("model") or {}).get("name", "this model"), nodes, facts["hosts"], prefix, prefix)
        )
    if (values.get("node_rank") or 0) >= nodes:
        lines.append("node_rank: %d is not below the %d of nnodes" % (values["node_rank"], nodes))
    if tensor * pipeline % nodes:
        lines.append("nnodes: TP %d × PP %d cannot be spread evenly over %d hosts" % (tensor, pipeline, nodes))
    have = facts["gpus"] * nodes
    # That a host has none at all is the role's to say.
    if facts.get("profile") == "cuda" and have and tensor * pipeline * copies > have:
        lines.append(
            "tensor_parallel_size %d × pipeline %d × data %d needs %d GPUs, %s %d"
            % (
                *(tensor, pipeline, copies, tensor * pipeline * copies),
                *("this host has" if nodes == 1 else "%d hosts of this kind have" % nodes, have),
            )
        )
    return lines


def _of_attention(values: Values, facts: Dict[str, Any]) -> List[str]:
    """Attention run data parallel: each rank keeps the KV cache of its own sequences (DeepSeek's MLA)."""
    tensor, data = (values.get(name) or 1 for name in ("tensor_parallel_size", "data_parallel_size"))
    ranks = values.get("attn_dp_size") or 1
    lines = []
    if values.get("enable_dp_attention"):
        if values.get("attn_dp_size"):
            lines.append("enable_dp_attention and attn_dp_size are the old and the new name of one thing; set one")
        elif tensor % data or data == 1:
            lines.append(
                "enable_dp_attention needs a data_parallel_size above 1 that divides the tensor-parallel size %d, "
                "found %d" % (tensor, data)
            )
        elif in_versions(facts["version"], until="0.4.4") and data != tensor:
            lines.append("data_parallel_size: with enable_dp_attention it is the tensor-parallel size in this version")
    if tensor % ranks:
        lines.append("attn_dp_size: %d does not divide the tensor-parallel size %d" % (ranks, tensor))
    return lines


def _of_numbers(values: Values, facts: Dict[str, Any]) -> List[str]:
    """Types of numbers: of the computation, the weights, the KV cache."""
    dtype, quantization = values.get("dtype"), values.get("quantization")
    model = facts.get("model") or {}
    stored = str(model.get("quantization", "")).upper()
    lines = []
    if quantization in _ONLY_FLOAT16 and dtype not in (None, "", "auto", *_HALF):
        lines.append("dtype: %s computes in float16 only, found %s" % (quantization, dtype))
    if quantization and stored in _STORED_AS and quantization not in _STORED_AS[stored]:
        instead = (
            " or use one of %s" % ", ".join(_STORED_AS[stored]) if _STORED_AS[stored] else " SGLang reads it there"
        )
        lines.append(
            "quantization: %s is stored as %s, found %s; leave it unset,%s"
            % (model.get("name"), stored, quantization, instead)
        )
    lines += _of_one_gpu_s_heads(values, facts, stored)
    experts = (model.get("architecture") or {}).get("experts")
    if experts and stored == "AWQ" and quantization == "awq":
        lines.append("quantization: awq serves no experts; use moe_wna16, or awq_marlin")
    return lines


def _of_one_gpu_s_heads(values: Values, facts: Dict[str, Any], stored: str) -> List[str]:
    """R1's 128 heads on one GPU: the kernel that joins its keys there takes bfloat16 and nothing else.

    Seen with 0.5.23 on an H200: "Tensor match failed for Tensor<1, 128, 192>[..., dtype=float16]" after the weights
    were loaded. With fewer heads on a GPU another kernel is taken (deepseek_common, _concat_and_cast_mha_k).
    """
    shape = (facts.get("model") or {}).get("architecture") or {}
    tensor, data = (values.get(name) or 1 for name in ("tensor_parallel_size", "data_parallel_size"))
    ranks = data if values.get("enable_dp_attention") else values.get("attn_dp_size") or 1
    heads = (shape.get("attention_heads") or 0) * ranks // tensor
    if (heads, shape.get("qk_nope_head_dim"), shape.get("qk_rope_head_dim")) != (128, 128, 64):
        return []
    # AWQ's files say float16, and that is what is taken where no type is given.
    half = values.get("dtype") in _HALF or (stored == "AWQ" and values.get("dtype") in (None, "", "auto"))
    # What spreads it is given by the role, where a host has GPUs.
    if not half or not values.get("tensor_parallel_size") or facts.get("profile") != "cuda":
        return []
    if in_versions(facts["version"], until="0.5.23"):
        return []
    return [
        "dtype: with 128 attention heads on one GPU a kernel of SGLang takes bfloat16 only, found %s; set bfloat16, or "
        "spread the heads over more GPUs" % (values.get("dtype") or "none, and AWQ's files say float16")
    ]


def _of_speculation(values: Values, facts: Dict[str, Any], prefix: str) -> List[str]:
    given = [name for name in _SPECULATIVE if values.get(name)]
    lines = []
    if given and not values.get("speculative_algorithm"):
        lines.append("%s needs %s_speculative_algorithm" % (given[0], prefix))
    elif given and len(given) < len(_SPECULATIVE):
        missing = [name for name in _SPECULATIVE if name not in given]
        lines.append("%s: set it too; SGLang takes all three numbers or none" % missing[0])
    if values.get("speculative_algorithm") and in_versions(facts["version"], until="0.4.4"):
        lines.append(
            "speculative_algorithm: SGLang %s needs an sgl-kernel for it that has left the package index"
            % facts["version"]
        )
    return lines


def _of_security(values: Values, prefix: str) -> List[str]:
    lines = []
    if bool(values.get("ssl_keyfile")) != bool(values.get("ssl_certfile")):
        lines.append("ssl_certfile and %s_ssl_keyfile must be set together" % prefix)
    return lines
