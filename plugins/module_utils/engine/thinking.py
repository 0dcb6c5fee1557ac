# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model thought, apart from what it answered, by the model's own tags. Pure.

An engine with the right reasoning parser separates the two; without one the tags stand in the answer's text. An
expectation must never match the thinking.
"""

from __future__ import annotations

import re
from typing import Dict, List, Tuple

# Name of the catalog's key `reasoning_tags` → what opens and what closes the thinking.
PAIRS: Dict[str, Tuple[str, str]] = {
    "think": ("<think>", "</think>"),  # DeepSeek R1, Qwen3, GLM, and most others
    "magistral": ("[THINK]", "[/THINK]"),  # Mistral
    "thinking": ("<thinking>", "</thinking>"),
    "thought": ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker, Sky-T1
    "seed": ("<seed:think>", "</seed:think>"),  # Seed-OSS
    "kimi": ("◁think▷", "◁/think▷"),  # Kimi-VL
}
# auto: whichever of them is there; none: the text is the answer.
TAGS = ("auto", "none", "harmony", *PAIRS)

# OpenAI's harmony: channels analysis (thinking), commentary (tools) and final.
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start)\|>(?:\w*(?=<\|channel\|>))?")
# The same when the server leaves special tokens out of the text.
_BARE = re.compile(r"analysis(?P<thought>.*?)(?:assistantfinal(?P<answer>.*))?\Z", re.S)
# An answer may begin with that word; the channel's name stands before the thought without anything between them.
_BARE_CUT = re.compile(r"analysis(?![a-z])\w")


def split_thinking(content: str, reasoning: str = "", tags: str = "auto") -> Tuple[str, str]:
    """(answer, reasoning), both stripped, of a content that may still hold the model's thinking.

    The opening tag is missing where the chat template put it into the prompt (DeepSeek R1); the closing tag where the
    answer was cut while thinking. Where the engine has separated reasoning already, only thinking that is both opened
    and closed is taken out of the content.

    :param tags: one of `TAGS`.
    """
    separated = reasoning.strip()
    thoughts: List[str] = [separated] if separated else []
    if tags == "harmony" or tags == "auto" and ("<|channel|>" in content or content.startswith("analysis")):
        content = _harmony(content, thoughts, tags == "harmony")
    for name, (opening, closing) in PAIRS.items():
        if tags in ("auto", name):
            content = _pair(content, opening, closing, bool(separated), thoughts)
    return content.strip(), "\n".join(thought for thought in thoughts if thought)


def _pair(content: str, opening: str, closing: str, closed_only: bool, thoughts: List[str]) -> str:
    if not closed_only and closing in content and opening not in content.partition(closing)[0]:
        content = opening + content
    end = re.escape(closing) if closed_only else r"(?:%s|\Z)" % re.escape(closing)
    pattern = re.compile(re.escape(opening) + "(.*?)" + end, re.S)
    thoughts += [found.strip() for found in pattern.findall(content)]
    return pattern.sub("", content)


def _harmony(content: str, thoughts: List[str], sure: bool) -> str:
    """The final channel's text; that of the others is added to `thoughts`."""
    parts = list(_CHANNEL.finditer(content))
    if not parts:
        bare = _BARE.match(content) if sure or "assistantfinal" in content or _BARE_CUT.match(content) else None
        if bare is None:
            return content
        thoughts.append(bare.group("thought").strip())
        return bare.group("answer") or ""
    # What stands before the first channel belongs to one that the chat template opened.
    before = _CHANNEL_END.split(content[: parts[0].start()])[0]
    thoughts.append(before.strip())
    answer = []
    for number, part in enumerate(parts):
        end = parts[number + 1].start() if number + 1 < len(parts) else len(content)
        text = _CHANNEL_END.split(content[part.end() : end])[0]
        if part.group(1) == "final":
            answer.append(text)
        else:
            thoughts.append(text.strip())
    return "".join(answer)
