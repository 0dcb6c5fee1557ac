# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model thought, apart from what it answered, by the model's own tags. Pure.

An engine with the right reasoning parser separates the two; without one the tags stand in the answer's text. An
expectation must never match the thinking.
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Tuple


class Marks(NamedTuple):
    """What opens and what closes the thinking, as regular expressions without groups that catch."""

    opening: str
    closing: str
    hint: str  # in small letters, a part of both, or of what opens where nothing else begins it
    # Whether the chat template may have opened it already, so that a closing mark alone ends the thinking.
    alone: bool = True


# Name of the catalog's key `reasoning_tags` → its marks. Sources: the chat templates, and the reasoning parsers of vLLM
# 0.32 and SGLang 0.5.
PAIRS: Dict[str, Marks] = {
    # DeepSeek R1, Qwen3, GLM, EXAONE 4 and most others; Hunyuan 3 and later with a suffix.
    "think": Marks(r"<think(?::[^\s<>]{1,40})?>", r"</think(?::[^\s<>]{1,40})?>", "think"),
    "magistral": Marks(r"\[THINK\]", r"\[/THINK\]", "think]"),  # Mistral
    "thinking": Marks(r"<thinking>", r"</thinking>", "thinking>"),
    "thought": Marks(r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>", "_of_thought|>"),  # OpenThinker, Sky-T1
    "seed": Marks(r"<seed:think>", r"</seed:think>", "seed:think>"),  # Seed-OSS
    "kimi": Marks(r"◁think▷", r"◁/think▷", "think▷"),  # Kimi-VL
    "kimi_k3": Marks(r"<\|open\|>\s{0,9}think\s{0,9}<\|sep\|>", r"<\|close\|>\s{0,9}think\s{0,9}<\|sep\|>", "<|sep|>"),
    "cohere": Marks(r"<\|START_THINKING\|>", r"<\|END_THINKING\|>", "_thinking|>"),  # Command A
    "exaone": Marks(r"<thought>", r"</thought>", "thought>"),  # EXAONE Deep, Marco-o1
    "gemma": Marks(r"<\|channel>(?:thought\b)?", r"<channel\|>", "channel"),  # Gemma 4
    "minimax": Marks(r"<mm:think>", r"</mm:think>", "mm:think>"),  # MiniMax-M3
    "k2": Marks(r"<ifm\|think(?:_fast|_faster)?>", r"</ifm\|think(?:_fast|_faster)?>", "ifm|think"),  # K2 Horizon
    "apertus": Marks(r"<\|inner_prefix\|>", r"<\|inner_suffix\|>", "<|inner_"),
    "plamo": Marks(r"<\|plamo:begin_think:plamo\|>", r"<\|plamo:end_think:plamo\|>", "_think:plamo|>"),
    "reka": Marks(r"<reasoning>", r"</reasoning>", "reasoning>"),
    "inkling": Marks(r"<\|content_thinking\|>", r"<\|end_message\|>", "<|content_thinking|>", False),
    "muse": Marks(r"(?:<\|start\|>assistant)?\s{0,9}to=self<\|message\|>", r"<\|eom\|>", "to=self<|message|>", False),
    "solar": Marks(r"<\|think\|>", r"<\|end\|>", "<|think|>", False),
    "granite": Marks(
        r"\A\s{0,9}Here(?:'s| is) my thought process:", r"Here(?:'s| is) my response:", "my thought process:", False
    ),
}
_MARK = {
    name: re.compile("(?P<opening>%s)|(?P<closing>%s)" % (marks.opening, marks.closing), re.I)
    for name, marks in PAIRS.items()
}
# auto: whichever of them is there; none: the text is the answer.
TAGS = ("auto", "none", "harmony", *PAIRS)

# What stands around an answer whose thinking is marked: special tokens, and the words of Hunyuan, ERNIE and Marco-o1.
_AROUND = re.compile(
    r"<\|(?:START|END)_(?:RESPONSE|TEXT)\|>|<\|(?:open|close)\|>\s{0,9}(?:response|message)\s{0,9}<\|sep\|>|<turn\|>|"
    r"<\|message_model\|>|<\|content_text\|>|<\|end_message\|>|<\|content_model_end_sampling\|>|<\|eot\|>|"
    r"<\|start\|>assistant(?:\s{1,9}to=\w{1,40})?<\|message\|>|<\|begin\|>assistant|<\|content\|>"
)
_WRAPPED = re.compile(r"\s*<(answer|response|output)>(.*?)(?:</\1>\s*)?\Z", re.S | re.I)
# Gemma 4 where the server leaves special tokens out: where the thought ends nobody can tell.
_BARE_GEMMA = re.compile(r"\s*thought\n")

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
    and closed, or with which the content begins, is taken out of it. What stands before a closing tag too many, as of
    thinking inside of thinking, counts as thinking.

    :param tags: one of `TAGS`.
    """
    separated = reasoning.strip()
    thoughts: List[str] = [separated] if separated else []
    if tags == "none":
        return content.strip(), separated
    if tags == "harmony" or tags == "auto" and ("<|channel|>" in content or content.startswith("analysis")):
        content = _harmony(content, thoughts, tags == "harmony")
    small = content.lower()
    for name, marks in PAIRS.items():
        if tags in ("auto", name) and marks.hint in small:
            content = _pair(content, name, bool(separated), thoughts)
    if tags in ("auto", "gemma") and not separated and _BARE_GEMMA.match(content):
        thoughts.append(content.strip())
        content = ""
    if thoughts:
        content = _AROUND.sub("", content)
        wrapped = _WRAPPED.match(content)
        content = wrapped.group(2) if wrapped else content
    return content.strip(), "\n".join(thought for thought in thoughts if thought)


def _pair(content: str, name: str, separated: bool, thoughts: List[str]) -> str:
    """The content without what is between the marks, which is added to `thoughts`. One pass, whatever is in it."""
    answer: List[str] = []
    found, begun, at = False, None, 0
    for mark in _MARK[name].finditer(content):
        if mark.lastgroup == "opening":
            if begun is None:  # one inside of another opens nothing
                answer.append(content[at : mark.start()])
                begun, at = mark, mark.end()
        elif begun is not None:
            thoughts.append(content[at : mark.start()].strip())
            found, begun, at = True, None, mark.end()
        elif PAIRS[name].alone and (found or not separated):
            thoughts.append("".join([*answer, content[at : mark.start()]]).strip())
            answer, found, at = [], True, mark.end()
    if begun is None:
        answer.append(content[at:])
    elif separated and "".join(answer).strip():
        answer.append(content[begun.start() :])
    else:
        thoughts.append(content[at:].strip())
    return "".join(answer)


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
