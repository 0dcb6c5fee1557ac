# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a context is once its positions are scaled (``rope_scaling`` of a config.json). Pure; tokens.

Sources: vLLM config/model.py, _get_and_verify_max_len; SGLang srt/utils/hf_transformers_utils.py, get_context_length.
"""

from __future__ import annotations

LONGEST = 2**30
# What their length counts already, for both engines; "su" is the old name of longrope.
_COUNTED = ("default", "su", "longrope", "llama3")


def contexts(config, plain):
    """``(tokens for every engine, tokens for vLLM where it takes more, else None)``.

    By a factor that is not counted in max_position_embeddings both engines multiply. YaRN starts from the length that
    the model was trained with, and vLLM alone takes the product; to SGLang the file's length is the limit.

    :param plain: max_position_embeddings, or its like.
    """
    # vLLM leaves Gemma 3's out: the length of its file is that with them.
    found = [] if str(config.get("model_type")).startswith("gemma3") else _scalings(config)
    longest = plain
    for kind, factor, original in found:
        if kind == "yarn":
            longest = max(longest, int((original or plain) * factor))
        elif not original and kind not in _COUNTED:
            plain, longest = int(plain * factor), max(longest, int(plain * factor))
    plain, longest = min(plain, LONGEST), min(longest, LONGEST)
    return plain, longest if longest > plain else None


def _scalings(config):
    """``(kind, factor above 1, length trained with or None)`` of each; transformers 5 has one a kind of layer."""
    for key in ("rope_scaling", "rope_parameters"):
        value = config.get(key)
        if isinstance(value, dict):
            kinds = [value] if "rope_type" in value or "type" in value else list(value.values())
            found = [_scaling(one) for one in kinds if isinstance(one, dict)]
            return [one for one in found if one]
    return []


def _scaling(value):
    factor, original = value.get("factor"), value.get("original_max_position_embeddings")
    kind = value.get("rope_type") or value.get("type")
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 1 < factor <= 4096:
        return None
    whole = isinstance(original, int) and not isinstance(original, bool) and 0 < original <= LONGEST
    return str(kind), float(factor), original if whole else None
