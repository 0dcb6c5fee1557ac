# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a chat server streams, turned into one answer. Pure: bytes and times in, a dict out.

Formats: OpenAI's chat completion chunks as server-sent events, and the newline-delimited JSON of Ollama's /api/chat.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.thinking import split_thinking
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import error_text, loads, one_line

# One event holds a token or a few; a line this long is some other protocol and must not fill the memory.
MAX_LINE = 1024 * 1024
MAX_ANSWER = 16 * 1024 * 1024  # characters; no engine's context holds as much
# Why an engine may stop without the answer being one (vLLM, SGLang; other servers).
BROKEN_OFF = ("abort", "aborted", "error", "cancelled", "canceled", "timeout", "insufficient_system_resource")

_LINE_END = re.compile(rb"\r\n|\n|\r")


class StreamError(Failure):
    """The stream is not what the API promises, or the engine reported an error inside it. The text is one line."""


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a byte stream whose chunks end anywhere, also inside a character.

    A byte order mark at the start is dropped. A last line without its newline was cut off and is dropped, too: the
    reader then sees a stream without its end.
    """
    rest, first = b"", True
    for chunk in chunks:
        rest += chunk
        # A CR at the end may be the first half of CR LF.
        held = b"\r" if rest.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(rest[: len(rest) - len(held)])
        rest += held
        for line in lines:
            text = line.decode("utf-8", "replace")
            yield text[1:] if first and text.startswith("\ufeff") else text
            first = False
        if len(rest) > MAX_LINE:
            raise StreamError(f"malformed stream: a line of more than {MAX_LINE} bytes")
    if rest.endswith(b"\r"):
        yield rest[:-1].decode("utf-8", "replace")


def sse_data(lines: Iterable[str]) -> Iterator[str]:
    """The data of each server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    Comments and events named ``ping`` are skipped, and so is empty data: servers keep a connection alive with them.
    The last event may lack its empty line. Raises StreamError for an event that is the engine's error report.
    """
    data: List[str] = []
    name, size = "", 0
    for line in lines:
        field, _colon, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if not line:
            yield from _event(name, data)
            data, name, size = [], "", 0
        elif field == "data":
            data.append(value)
            size += len(value)
            if size > MAX_LINE:
                raise StreamError(f"malformed stream: an event of more than {MAX_LINE} characters")
        elif field == "event":
            name = value
        elif field == "error":
            # How llama.cpp servers before b6500 or so reported a failure inside the stream; no field of the standard.
            raise _reported(value)
        elif line[0] in "<{":
            # A page or an object of something in between, which no field of an event begins with.
            raise (
                _reported(line)
                if line[0] == "{"
                else StreamError(f"malformed stream: not server-sent events: {one_line(line, 120)}")
            )
    yield from _event(name, data)


def _event(name: str, data: List[str]) -> Iterator[str]:
    text = "\n".join(data)
    if name == "error":
        raise _reported(text)
    if text.strip() and name != "ping":
        yield text


def _reported(text: str) -> StreamError:
    try:
        said = error_text(loads(text))
    except ValueError:
        said = one_line(text)
    return StreamError(f"the engine reports: {said or 'an error without a message'}")


def parse_object(text: str) -> Dict[str, Any]:
    """One JSON object of the stream; `StreamError` when it is none, or when it is the engine's error report."""
    try:
        value = loads(text)
    except ValueError as exc:
        what = "" if str(exc).startswith("not JSON") else f" ({exc})"
        raise StreamError(f"malformed stream: not JSON{what}: {one_line(text, 120)}") from None
    if not isinstance(value, dict):
        raise StreamError(f"malformed stream: not a JSON object: {one_line(text, 120)}")
    if value.get("error") or value.get("object") == "error" or _is_bare_error(value):
        raise StreamError(f"the engine reports: {error_text(value)}")
    return value


def _is_bare_error(value: Dict[str, Any]) -> bool:
    """An error body without its envelope: llama.cpp's ``{code, message, type}``, FastAPI's ``{detail}``."""
    if "choices" in value or "done" in value:
        return False
    return isinstance(value.get("message"), str) and ("code" in value or "type" in value) or bool(value.get("detail"))


def _number(value: Any) -> Optional[float]:
    """A number that is one, above 0 and not beyond measure, else None."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and 1e-9 < value < 1e18
    return value if known else None


def _count(value: Any) -> Optional[int]:
    """A whole number from 0 to 10^18, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10**18 else None


def _counts(usage: Any) -> Optional[Dict[str, Any]]:
    """The token counts of an answer, what is no count left out; None where there is none."""
    if not isinstance(usage, dict):
        return None
    nested = {key: value for key, value in usage.items() if isinstance(value, dict)}
    counts = {key: value for key, value in usage.items() if value is None or _count(value) is not None}
    return dict(counts, **nested) or None


def _text_of(parts: List[str]) -> str:
    """The parts as one text that can be printed: halves of a character that came in two parts are put together, half
    a character alone is replaced."""
    return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Answer:
    """Collects a streamed answer. Feed it with `openai` or `ollama`; read the text and `result` afterwards."""

    def __init__(self, started: float, tags: str = "auto") -> None:
        """
        :param started: when the question was sent, in seconds of the clock that the events are stamped with.
        :param tags: how the model marks its thinking where the engine does not separate it (`thinking.TAGS`).
        """
        self.started = started
        self.tags = tags
        self.first: Optional[float] = None
        self.last = started
        self._content: List[str] = []
        self._reasoning: List[str] = []
        self._size = 0
        self.model: Optional[str] = None
        self.finish_reason: Optional[str] = None
        self.usage: Optional[Dict[str, Any]] = None
        self.engine_speed: Optional[Tuple[float, str]] = None
        self.done = False

    @property
    def content(self) -> str:
        return _text_of(self._content)

    @property
    def reasoning(self) -> str:
        return _text_of(self._reasoning)

    def _text(self, content: Any, reasoning: Any, now: float) -> None:
        content, reasoning = ("" if text is None else text for text in (content, reasoning))
        if not isinstance(content, str) or not isinstance(reasoning, str):
            raise StreamError(f"malformed stream: the text is not a string: {one_line(content or reasoning, 120)}")
        if not content and not reasoning:
            return  # the first chunk carries only the role
        self._content.append(content)
        self._reasoning.append(reasoning)
        self._size += len(content) + len(reasoning)
        if self._size > MAX_ANSWER:
            raise StreamError(f"the answer does not end: more than {MAX_ANSWER} characters")
        self.first = now if self.first is None else self.first
        self.last = now

    def _finish(self, reason: Any) -> None:
        """Note why the engine stopped. StreamError where it broke the answer off."""
        said = ""
        if isinstance(reason, dict):  # SGLang's own form: {"type": "abort", "message": "..."}
            said, reason = error_text(reason) if reason.get("message") else "", reason.get("type")
        if reason is None or reason == "":
            return
        if not isinstance(reason, str):
            raise StreamError(f"malformed stream: finish_reason is not a string: {one_line(reason, 120)}")
        self.finish_reason = one_line(reason, 40)
        if self.finish_reason.lower() in BROKEN_OFF:
            raise StreamError(
                f"the engine aborted the answer ({self.finish_reason}) after {self._size} characters"
                + (f": {said}" if said else "")
            )

    def _named(self, model: Any) -> None:
        self.model = one_line(model, 400) if isinstance(model, str) and model else self.model

    def openai(self, data: str, now: float) -> None:
        """One event of /v1/chat/completions. Reasoning: `reasoning_content` (DeepSeek, llama.cpp, SGLang, vLLM to
        0.10) or `reasoning` (newer vLLM). What is null is not there."""
        if data.strip() == "[DONE]":
            self.done = True
            return
        chunk = parse_object(data)
        choices = chunk.get("choices")
        if choices is None and "usage" in chunk:
            choices = []  # the last event, with the counts alone
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise StreamError(f"malformed stream: an event without choices: {one_line(data, 120)}")
        self._named(chunk.get("model"))
        self.usage = _counts(chunk.get("usage")) or self.usage
        timings = chunk.get("timings")
        if isinstance(timings, dict):
            tokens, ms = _number(timings.get("predicted_n")), _number(timings.get("predicted_ms"))
            if tokens and tokens > 1 and ms:
                self.engine_speed = (tokens * 1e3 / ms, "timings")
        for choice in choices:
            if choice.get("index") not in (None, 0):  # of several answers the first is read
                continue
            delta = choice.get("delta")
            if delta is None and "delta" in choice:
                delta = {}
            if not isinstance(delta, dict):
                raise StreamError(f"malformed stream: a choice without a delta: {one_line(data, 120)}")
            reasoning = delta.get("reasoning_content")
            reasoning = delta.get("reasoning") if reasoning is None or reasoning == "" else reasoning
            self._text(delta.get("content"), reasoning, now)
            self._finish(choice.get("finish_reason"))

    def ollama(self, data: str, now: float) -> None:
        """One line of Ollama's /api/chat (https://github.com/ollama/ollama/blob/main/docs/api.md); durations in ns."""
        chunk = parse_object(data)
        message = chunk.get("message")
        if message is None and chunk.get("done") is True and "message" in chunk:
            message = {}
        if not isinstance(message, dict):
            raise StreamError(f"malformed stream: a line without a message: {one_line(data, 120)}")
        self._text(message.get("content"), message.get("thinking"), now)
        self._named(chunk.get("model"))
        if chunk.get("done") is not True:
            return
        self.done = True
        self._finish(chunk.get("done_reason"))
        prompt, completion = (_count(chunk.get(key)) for key in ("prompt_eval_count", "eval_count"))
        if completion is not None:
            # Ollama leaves prompt_eval_count out when the whole prompt was in its cache.
            total = (prompt or 0) + completion
            self.usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
            duration = _number(chunk.get("eval_duration"))
            if completion > 1 and duration:
                self.engine_speed = (completion * 1e9 / duration, "eval_duration")

    def check_complete(self) -> None:
        """`StreamError` when the stream ended before the engine said that the answer is complete."""
        if not self.done and not self.finish_reason:
            raise StreamError(f"the stream was cut after {self._size} characters")

    def result(self) -> Dict[str, Any]:
        """`{answer, reasoning, model, finish_reason, usage, ttft_s, tokens_per_s, tokens_per_s_source}`.

        `ttft_s` is in seconds; `tokens_per_s_source` says who measured: `timings` (llama.cpp), `eval_duration`
        (Ollama), or `usage`: the counted tokens over our own clock. Nobody could: both are None.
        """
        answer, reasoning = split_thinking(self.content, self.reasoning, self.tags)
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
        tokens = _number((self.usage or {}).get("completion_tokens")) or 0
        if self.first is None or tokens < 2 or self.last <= self.first:
            return None, None
        # Between the first and the last token lie one fewer intervals than tokens.
        return (tokens - 1) / (self.last - self.first), "usage"
