# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a chat server streams, turned into one answer. Pure: bytes and times in, a dict out.

Formats: OpenAI's chat completion chunks as server-sent events, and the newline-delimited JSON of Ollama's /api/chat.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

# One event holds a token or a few; a line this long is some other protocol and must not fill the memory.
MAX_LINE = 1024 * 1024


class StreamError(Exception):
    """The stream is not what the API promises, or the engine reported an error inside it. The text is one line."""


def one_line(text: Any, limit: int = 300) -> str:
    """Any text as one line of at most `limit` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a byte stream whose chunks end anywhere, also inside a character.

    A last line without its newline was cut off and is dropped: the reader then sees a stream without its end.
    """
    rest = b""
    for chunk in chunks:
        rest += chunk
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r").decode("utf-8", "replace")
        if len(rest) > MAX_LINE:
            raise StreamError(f"malformed stream: a line of more than {MAX_LINE} bytes")


def sse_data(lines: Iterable[str]) -> Iterator[str]:
    """The data of each server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    Comments (`: ping`) and other fields are skipped. The last event may lack its empty line.
    """
    data: List[str] = []
    for line in lines:
        field, _colon, value = line.partition(":")
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif field in ("data", "error"):
            # `error:` is how older llama.cpp servers reported a failure inside the stream.
            data.append(value[1:] if value.startswith(" ") else value)
    if data:
        yield "\n".join(data)


def parse_object(text: str) -> Dict[str, Any]:
    """One JSON object of the stream; `StreamError` when it is none, or when it is the engine's error report."""
    try:
        value = json.loads(text)
    except ValueError:
        raise StreamError(f"malformed stream: not JSON: {one_line(text, 120)}") from None
    if not isinstance(value, dict):
        raise StreamError(f"malformed stream: not a JSON object: {one_line(text, 120)}")
    if value.get("error") or value.get("object") == "error":
        raise StreamError(f"the engine reports: {error_text(value)}")
    return value


def error_text(value: Any) -> str:
    """The message of an error body as the engines write it: OpenAI, llama.cpp, vLLM, FastAPI, Ollama."""
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(key):
            return error_text(value[key])
    return one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


class Answer:
    """Collects a streamed answer. Feed it with `openai` or `ollama`; read the text and `result` afterwards."""

    def __init__(self, started: float) -> None:
        """`started`: when the question was sent, in seconds of the clock that the events are stamped with."""
        self.started = started
        self.first: Optional[float] = None
        self.last = started
        self.content = ""
        self.reasoning = ""
        self.model: Optional[str] = None
        self.finish_reason: Optional[str] = None
        self.usage: Optional[Dict[str, Any]] = None
        self.engine_speed: Optional[Tuple[float, str]] = None
        self.done = False

    def _text(self, content: Any, reasoning: Any, now: float) -> None:
        if not content and not reasoning:
            return  # the first chunk carries only the role
        if not isinstance(content or "", str) or not isinstance(reasoning or "", str):
            raise StreamError(f"malformed stream: the text is not a string: {one_line(content or reasoning, 120)}")
        self.content += content or ""
        self.reasoning += reasoning or ""
        self.first = now if self.first is None else self.first
        self.last = now

    def openai(self, data: str, now: float) -> None:
        """One event of /v1/chat/completions. Reasoning: `reasoning_content` (DeepSeek, llama.cpp, SGLang, vLLM to
        0.10) or `reasoning` (newer vLLM)."""
        if data == "[DONE]":
            self.done = True
            return
        chunk = parse_object(data)
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise StreamError(f"malformed stream: an event without choices: {one_line(data, 120)}")
        for choice in choices:
            delta = choice.get("delta")
            if not isinstance(delta, dict):
                raise StreamError(f"malformed stream: a choice without a delta: {one_line(data, 120)}")
            self._text(delta.get("content"), delta.get("reasoning_content") or delta.get("reasoning"), now)
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        self.model = chunk.get("model") or self.model
        self.usage = chunk.get("usage") or self.usage
        timings = chunk.get("timings")
        if isinstance(timings, dict) and (timings.get("predicted_n") or 0) > 1 and timings.get("predicted_ms"):
            self.engine_speed = (timings["predicted_n"] * 1e3 / timings["predicted_ms"], "timings")

    def ollama(self, data: str, now: float) -> None:
        """One line of Ollama's /api/chat (https://github.com/ollama/ollama/blob/main/docs/api.md); durations in ns."""
        chunk = parse_object(data)
        message = chunk.get("message")
        if not isinstance(message, dict):
            raise StreamError(f"malformed stream: a line without a message: {one_line(data, 120)}")
        self._text(message.get("content"), message.get("thinking"), now)
        self.model = chunk.get("model") or self.model
        if not chunk.get("done"):
            return
        self.done = True
        self.finish_reason = chunk.get("done_reason")
        prompt, completion = chunk.get("prompt_eval_count"), chunk.get("eval_count")
        if completion is not None:
            # Ollama leaves prompt_eval_count out when the whole prompt was in its cache.
            total = (prompt or 0) + completion
            self.usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
            if completion > 1 and chunk.get("eval_duration"):
                self.engine_speed = (completion * 1e9 / chunk["eval_duration"], "eval_duration")

    def check_complete(self) -> None:
        """`StreamError` when the stream ended before the engine said that the answer is complete."""
        if not self.done and not self.finish_reason:
            raise StreamError(f"the stream was cut after {len(self.content + self.reasoning)} characters")

    def result(self) -> Dict[str, Any]:
        """`{answer, reasoning, model, finish_reason, usage, ttft_s, tokens_per_s, tokens_per_s_source}`.

        `ttft_s` is in seconds; `tokens_per_s_source` says who measured: `timings` (llama.cpp), `eval_duration`
        (Ollama), or `usage`: the counted tokens over our own clock. Nobody could: both are None.
        """
        answer, reasoning = split_thinking(self.content, self.reasoning)
        speed, source = self.engine_speed or self._own_speed()
        return {
            "answer": answer,
            "reasoning": reasoning,
            "model": self.model,
            "finish_reason": self.finish_reason,
            "usage": self.usage,
            "ttft_s": None if self.first is None else round(self.first - self.started, 3),
            "tokens_per_s": None if speed is None else round(speed, 2),
            "tokens_per_s_source": source,
        }

    def _own_speed(self) -> Tuple[Optional[float], Optional[str]]:
        tokens = (self.usage or {}).get("completion_tokens") or 0
        if self.first is None or tokens < 2 or self.last <= self.first:
            return None, None
        # Between the first and the last token lie one fewer intervals than tokens.
        return (tokens - 1) / (self.last - self.first), "usage"


def split_thinking(content: str, reasoning: str = "") -> Tuple[str, str]:
    """(answer, reasoning), both stripped, of a content that may still hold `<think>…</think>`.

    Where the engine has separated the reasoning already, the content is the answer. The opening tag is missing where
    the chat template put it into the prompt (DeepSeek R1); the closing tag where the answer was cut while thinking.
    """
    if reasoning.strip():
        return content.strip(), reasoning.strip()
    if "</think>" in content and "<think>" not in content.partition("</think>")[0]:
        content = "<think>" + content
    thoughts = re.findall(r"<think>(.*?)(?:</think>|\Z)", content, flags=re.S)
    answer = re.sub(r"<think>.*?(?:</think>|\Z)", "", content, flags=re.S)
    return answer.strip(), "\n".join(thoughts).strip()
