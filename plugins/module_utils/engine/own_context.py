# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a context an engine takes of a model, with what the user has it read instead of the model's own. Pure.

Sources: vLLM config/model.py (_get_and_verify_max_len, VLLM_ALLOW_LONG_MAX_MODEL_LEN), SGLang
srt/configs/model_config.py (SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN, --json-model-override-args).
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import config_facts, rope
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign

_ALLOWED = {"vllm": "VLLM_ALLOW_LONG_MAX_MODEL_LEN", "sglang": "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"}
_SET = ("1", "true", "yes", "y", "on")


def entry_for(entry: Dict[str, Any], engine: str, settings: Dict[str, Any]) -> Dict[str, Any]:
    """The catalog's entry with the context that the engine takes; without one where any length is allowed.

    :param settings: of the engine, without the prefix of its role: ``hf_overrides``, ``json_model_override_args``,
        ``environment``.
    """
    facts = entry.get("architecture")
    if engine not in _ALLOWED or not isinstance(facts, dict) or not facts.get("context"):
        return entry
    longest = limit(facts, engine, settings)
    if longest == facts["context"]:
        return entry
    facts = {key: value for key, value in facts.items() if key != "context"}
    return dict(entry, architecture=dict(facts, context=longest) if longest else facts)


def longest(values: Dict[str, Any], facts: Dict[str, Any], engine: str) -> Optional[int]:
    """Tokens of the longest context that the engine takes of the model; None where that is not known, or any.

    :param values: the engine's parameters. `facts`: as of its rules, ``model`` and ``environment`` of them.
    """
    given = dict(values, environment=facts.get("environment"))
    model = entry_for(facts.get("model") or {}, engine, given)
    return (model.get("architecture") or {}).get("context")


def limit(facts: Dict[str, Any], engine: str, settings: Dict[str, Any]) -> int:
    """Tokens; 0: any number."""
    environment = settings.get("environment")
    allowed = (environment if isinstance(environment, dict) else {}).get(_ALLOWED[engine])
    return 0 if str(allowed).strip().lower() in _SET else usual(facts, engine, settings)


def usual(facts: Dict[str, Any], engine: str, settings: Dict[str, Any]) -> int:
    """Tokens that the engine takes where none are asked for; 0: not known."""
    given = _overrides(engine, settings)
    own = facts.get("context") or 0
    plain = given.get("max_position_embeddings") or own
    if isinstance(plain, bool) or not isinstance(plain, int) or not plain:
        return own
    if "rope_scaling" not in given and "rope_parameters" not in given and plain == own:
        return (engine == "vllm" and facts.get("scaled_context")) or plain
    shared, longer = rope.contexts(dict(given, model_type=facts.get("name")), plain)
    return longer if engine == "vllm" and longer else shared


def _overrides(engine: str, settings: Dict[str, Any]) -> Dict[str, Any]:
    """What the engine is to read instead of the model's config.json, of its language model's part."""
    found = settings.get({"vllm": "hf_overrides", "sglang": "json_model_override_args"}[engine])
    if isinstance(found, str):
        try:
            found = foreign.loads(found)
        except ValueError:
            return {}
    if not isinstance(found, dict):
        return {}
    for name in config_facts.INNER:
        if isinstance(found.get(name), dict):
            found = dict(found, **found[name])
    return found
