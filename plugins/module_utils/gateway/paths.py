# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What passes the gateway, by engine: method and exact path. Data.

Everything that is not listed is 404, so what an engine adds tomorrow is closed. What loads, changes or describes a
server (its slots, its metrics, its stored models) is in neither list.
"""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

Path = Tuple[str, str]

_OPENAI: Tuple[Path, ...] = (
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("GET", "/v1/models"),
)
# On wish (gateway_extra_paths): each does no more than answer.
_OPENAI_MORE: Tuple[Path, ...] = (
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
)
ALLOWED: Dict[str, Tuple[Path, ...]] = {
    "llama_cpp": _OPENAI,
    "vllm": _OPENAI,
    "sglang": _OPENAI,
    "ollama": (
        *_OPENAI,
        ("POST", "/api/chat"),
        ("POST", "/api/generate"),
        ("POST", "/api/embed"),
        ("GET", "/api/tags"),
        ("GET", "/api/version"),
    ),
}
MORE: Dict[str, Tuple[Path, ...]] = {
    "llama_cpp": (*_OPENAI_MORE, ("POST", "/v1/rerank")),
    "vllm": (*_OPENAI_MORE, ("POST", "/v1/rerank")),
    "sglang": (*_OPENAI_MORE, ("POST", "/v1/rerank")),
    # A model's description holds its system prompt.
    "ollama": (*_OPENAI_MORE, ("POST", "/api/embeddings"), ("POST", "/api/show"), ("GET", "/api/ps")),
}
HEALTH = "/health"  # for probes: answered by the gateway itself, without a key


def allowed(engine: str, extra: Sequence[str]) -> List[Path]:
    """What passes to this engine, with those of `extra` ("POST /v1/embeddings") that it has."""
    wanted = [tuple(item.split(" ", 1)) for item in extra]
    return [*ALLOWED[engine], *(item for item in MORE[engine] if item in wanted)]


def check_extra(extra: Sequence[str]) -> None:
    """Failure for what may not be opened."""
    known = sorted({"%s %s" % item for more in MORE.values() for item in more})
    for item in extra:
        if item not in known:
            raise Failure(
                "gateway_extra_paths: '%s' is not among what may be opened" % item,
                hint="It may name: %s." % ", ".join(known),
                error_kind="usage",
            )
