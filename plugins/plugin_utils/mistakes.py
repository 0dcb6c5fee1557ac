# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that cost people days: named, with what they cost and what to do. Pure.

Measured (benchmarks/README.md): five layers of R1's shapes on an H100, vLLM, one request: 376.5 tokens/s with CUDA
graphs, 39.8 with --enforce-eager; 2,428 and 1,335 with 32. Published: R1 in AWQ on 8 × H100 61.5 tokens/s, in eager
mode on 8 × H800 6.2; GGUF with 16 of 62 layers on the GPUs 4.59, as fast as a CPU alone.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import is_loopback

# A model that is smaller is read again in a moment.
LARGE = 20 * 10**9
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def mistake(name: str, what: str, fix: str) -> Dict[str, str]:
    """``name`` is what tools know it by; ``what`` it does and costs; ``fix``: what to set."""
    return {"name": name, "what": what, "fix": fix}


def is_eager(settings: Dict[str, Any]) -> bool:
    """Whether vLLM is told to do without CUDA graphs, by its variable or among its arguments."""
    words = map(str, settings.get("extra_args") or [])
    return boolean(settings.get("enforce_eager"), strict=False) or "--enforce-eager" in words


def find(
    role: str, settings: Dict[str, Any], model_bytes: Optional[int], layers_that_fit: Optional[int] = None
) -> List[Dict[str, str]]:
    """The mistakes in what is set of an engine.

    :param role: of the engine, whose prefix its variables have.
    :param settings: variables without that prefix; what is not set is missing or None. ``has_api_key``: whether there
        is one (never the key itself).
    :param model_bytes: of the model; None where it is not known.
    :param layers_that_fit: layers, the output layer among them, that fit on the GPUs; None: not known, or no GPU.
    """
    found = []
    words = [str(word) for word in settings.get("extra_args") or []]
    if is_eager(settings):
        found.append(_slow(role, "enforce_eager", "eager mode"))
    if boolean(settings.get("disable_cuda_graph"), strict=False) or "--disable-cuda-graph" in words:
        found.append(_slow(role, "disable_cuda_graph", "serving without CUDA graphs"))
    layers = (settings.get("parameters") or {}).get("num_gpu", settings.get("gpu_layers"))
    if layers_that_fit is not None and re.match(r"\d{1,6}\Z", str(layers)) and 0 < int(str(layers)) < layers_that_fit:
        found.append(
            mistake(
                "few_layers",
                "%s layers on the GPUs where %d fit: the others are computed by the CPU, whose speed is then that of "
                "all of it (R1 with 16 of 62: 4.6 tokens/s, as on a CPU alone)" % (layers, layers_that_fit),
                "set %s_gpu_layers to auto" % role,
            )
        )
    host = str((settings.get("environment") or {}).get("OLLAMA_HOST") or settings.get("host") or "127.0.0.1")
    host = re.sub(r":\d+\Z", "", host) if host.count(":") == 1 else host
    if not is_loopback(host.strip("[]")) and not settings.get("has_api_key") and not settings.get("firewall_networks"):
        found.append(
            mistake(
                "open",
                "it listens on %s without an API key: whoever reaches the port uses it" % host,
                "keep %s_host at 127.0.0.1%s"
                % (role, "" if role == "ollama" else ", or set dsdeploy_api_key and a certificate"),
            )
        )
    if role == "ollama":
        found += _unloads(settings, model_bytes)
    return found


def _slow(role: str, name: str, what: str) -> Dict[str, str]:
    return mistake(
        "eager",
        "%s: 9.5 times slower for one request, 1.8 times for 32 (measured: R1's shapes, vLLM on an H100)" % what,
        "leave %s_%s out" % (role, name),
    )


def seconds(text: Any) -> Optional[float]:
    """Ollama's keep-alive in s: ``10m``, ``1h30m``, ``600``; negative means for ever; None for what is none."""
    text = str(text).strip()
    if re.match(r"-?\d+\Z", text):
        return float(text)
    if not re.match(r"-?(\d+(\.\d+)?(ms|s|m|h))+\Z", text):
        return None
    total = sum(float(value) * _UNITS[unit] for value, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text))
    return -total if text.startswith("-") else total


def _unloads(settings: Dict[str, Any], model_bytes: Optional[int]) -> List[Dict[str, str]]:
    given = (settings.get("environment") or {}).get("OLLAMA_KEEP_ALIVE") or settings.get("keep_alive")
    after = seconds(given) if given not in (None, "") else None
    if after is None or after < 0 or not model_bytes or model_bytes < LARGE:
        return []
    return [
        mistake(
            "unloads",
            "OLLAMA_KEEP_ALIVE %s unloads %s after %g s without a request; to read it again takes %.0f min at 1 GB/s"
            % (given, mib(model_bytes), after, model_bytes / 1e9 / 60),
            'set ollama_keep_alive to "-1"',
        )
    ]
