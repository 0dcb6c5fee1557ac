# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How llama.cpp is installed, and what its own arguments say of its KV cache. Pure."""

from __future__ import annotations

from typing import Any, Dict, Sequence

# Bytes of one number of the cache: blocks of 32 with their scales (ggml/src/ggml-common.h).
CACHE_TYPES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 1.0625, "q5_1": 0.75, "q5_0": 0.6875, "q4_1": 0.625, "q4_0": 0.5625,
    "iq4_nl": 0.5625,
}  # fmt: skip
_CACHE_FLAGS = (
    ("-ctk", "--cache-type-k", "LLAMA_ARG_CACHE_TYPE_K"),
    ("-ctv", "--cache-type-v", "LLAMA_ARG_CACHE_TYPE_V"),
)


def kv_bytes(settings: Dict[str, Any]) -> float:
    """Bytes of one number of the KV cache, of the larger of keys and values.

    :param settings: ``extra_args`` and ``environment`` of the role; an argument wins (common/arg.cpp).
    """
    words = [str(word) for word in settings.get("extra_args") or []]
    environment = settings.get("environment")
    environment = environment if isinstance(environment, dict) else {}
    return max(CACHE_TYPES.get(_last(words, flags) or str(environment.get(name)), 2.0) for *flags, name in _CACHE_FLAGS)


# What guesses tokens ahead: a model of its own, or the model's own layers for it (--spec-type draft-mtp).
_DRAFT_FLAGS = (
    ("-md", "--model-draft", "--spec-draft-model", "LLAMA_ARG_MODEL_DRAFT"),
    ("-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf", "LLAMA_ARG_HFD_REPO"),
)
_DRAFT_TYPE = ("--spec-type", "LLAMA_ARG_SPEC_TYPE")


def drafts(settings: Dict[str, Any]) -> bool:
    """Whether something besides the model takes memory to guess tokens ahead; n-grams do not.

    :param settings: as for `kv_bytes`.
    """
    words = [str(word) for word in settings.get("extra_args") or []]
    environment = settings.get("environment")
    environment = environment if isinstance(environment, dict) else {}

    def said(flags: Sequence[str]) -> str:
        return _last(words, flags[:-1]) or str(environment.get(flags[-1]) or "")

    return any(map(said, _DRAFT_FLAGS)) or "draft" in said(_DRAFT_TYPE)


def _last(words: Sequence[str], flags: Sequence[str]) -> str:
    """The value of a flag: the last one counts; the wheel's command takes it with an equals sign, too."""
    found = ""
    for number, word in enumerate(words):
        name, equal, value = word.partition("=")
        if name in flags:
            found = value if equal else "".join(words[number + 1 : number + 2])
    return found


def install_method(wanted: str, gpus_used: bool, packages: Sequence[str], wheel: bool, tls: bool) -> str:
    """``package``, ``wheel`` or ``source``.

    :param wanted: what the user asked for; ``auto`` leaves the choice to this rule.
    :param gpus_used: whether layers are to be on GPUs: package and wheel compute on the CPU only.
    :param packages: the distribution's packages of llama.cpp.
    :param wheel: whether there is one for the host's architecture and Python; it is built without TLS.
    """
    if wanted != "auto":
        return wanted
    if gpus_used:
        return "source"
    if packages:
        return "package"
    return "wheel" if wheel and not tls else "source"
