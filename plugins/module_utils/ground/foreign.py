# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON that somebody else wrote: a hub's answer, an engine's, a file that a crash or a person may have changed.

Nothing of its shape is taken for granted. `parse` gives a `Foreign`, whose methods return a value of the asked type,
or raise a `Failure` of one line that names the URL or file, the place in it, what was expected and what was found.
``null`` counts as missing everywhere: servers write it for what they leave out.

Memory is bounded: a document is refused by its bytes and by the number of its values before it is parsed. NaN,
infinities and numbers beyond the range of a float become ``null``; they are no JSON, and not known.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Tuple, Union

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

MOST_BYTES = 32 * 1024 * 1024
MOST_VALUES = 1000 * 1000  # some 100 MB of Python objects at worst
MOST_DEPTH = 64
MOST_DIGITS = 30  # of a whole number; Python before 3.11 takes minutes for a million of them

_REQUIRED: Any = object()


class _TooLong(ValueError):
    pass


def one_line(text: Any, limit: int = 300) -> str:
    """Any text as one line of at most `limit` characters, without those that steer a terminal or cannot be seen."""
    line = " ".join("".join(char if char.isprintable() else " " for char in str(text)[: 16 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def is_whole(value: Any) -> bool:
    """Whether it is a whole number; `true` is none, though Python calls it one."""
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise _TooLong("a number of %d digits" % len(text))
    return int(text)


def _real(text: str) -> Optional[float]:
    number = float(text)
    return number if math.isfinite(number) else None


def loads(text: Union[str, bytes], most_bytes: int = MOST_BYTES) -> Any:
    """A JSON text as Python values. Raises ValueError with a few words of what is wrong, and nothing else.

    A byte order mark at its start is dropped. Bytes are UTF-8; half a character at the end is an error.
    """
    if len(text) > most_bytes:
        raise ValueError("more than %d bytes" % most_bytes)
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError("not UTF-8 text") from None
    text = text.lstrip("\ufeff")
    if not text.strip():
        raise ValueError("empty")
    if text.count(",") + text.count("[") + text.count("{") > MOST_VALUES:
        raise ValueError("more than %d values" % MOST_VALUES)
    try:
        value = json.loads(text, parse_int=_whole, parse_float=_real, parse_constant=lambda _name: None)
    except _TooLong as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise ValueError("not JSON: it starts with %s" % one_line(ascii(text[:40]), 60)) from None
    if text.count("[") + text.count("{") > MOST_DEPTH and _depth(value) > MOST_DEPTH:
        raise ValueError("nested too deeply")
    return value


def _depth(value: Any) -> int:
    """How deeply lists and mappings are nested, counted as far as one more than `MOST_DEPTH`."""
    level, depth = [value], 0
    while level and depth <= MOST_DEPTH:
        below: List[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        depth += 1
        level = [item for item in below if isinstance(item, (dict, list))]
    return depth


def parse(text: Union[str, bytes], what: str, most_bytes: int = MOST_BYTES) -> Foreign:
    """The value in a JSON text; `what` names where it came from, in messages."""
    try:
        return Foreign(loads(text, most_bytes), what)
    except ValueError as error:
        raise Failure("%s: %s" % (what, error)) from None


def read(path: str, most_bytes: int = MOST_BYTES) -> Foreign:
    """The value in a JSON file. Raises OSError where there is none to read, Failure where it is none."""
    try:
        return parse(read_bytes(path, most_bytes), path, most_bytes)
    except ValueError as error:
        raise Failure("%s: %s" % (path, error)) from None


def read_bytes(path: str, most_bytes: int = MOST_BYTES, uid: Optional[int] = None) -> bytes:
    """All of a small file. Raises OSError, also for what is no file; ValueError, a few words, for one that is long.

    Nothing is waited for, as a pipe would have it, and no more is read than that.

    :param uid: of the user whose file it must be, as it lies where that user may put a link: root would read for him,
        and tell of, what he may not read.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if uid is None else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "not a file", path)
        if uid is not None and state.st_uid != uid:
            raise OSError(errno.EPERM, "somebody else's file", path)
        with os.fdopen(os.dup(descriptor), "rb") as handle:
            found = handle.read(most_bytes + 1)
    finally:
        os.close(descriptor)
    if len(found) > most_bytes:
        raise ValueError("more than %d bytes" % most_bytes)
    return found


def read_text(path: str, most_bytes: int = MOST_BYTES, uid: Optional[int] = None) -> str:
    """As `read_bytes`, of UTF-8 text."""
    try:
        return read_bytes(path, most_bytes, uid).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None


class Foreign:
    """A value of another's JSON, with where it came from. Keys may be a path: ``"service.name"``.

    :ivar value: the bare value.
    """

    def __init__(self, value: Any, what: str, where: str = "") -> None:
        self.value = value
        self.what = what
        self.where = where

    def wrong(self, expected: str, value: Any = _REQUIRED) -> NoReturn:
        """Raise the Failure that says what was expected here, and what was found."""
        found = self.value if value is _REQUIRED else value
        shown = "nothing" if found is None else one_line(ascii_start(found), 80)
        raise Failure("%s: %s%s, found %s" % (self.what, self.where + ": " if self.where else "", expected, shown))

    def _at(self, key: str) -> Foreign:
        if not key:
            return self
        here = self
        for step in key.split("."):
            if not isinstance(here.value, dict):
                here.wrong("a mapping expected")
            here = Foreign(here.value.get(step), self.what, (here.where + "." + step).lstrip("."))
            if here.value is None:
                return Foreign(None, self.what, (self.where + "." + key).lstrip("."))
        return here

    def _typed(self, key: str, kinds: Any, expected: str, default: Any) -> Any:
        found = self._at(key)
        if found.value is None and default is not _REQUIRED:
            return default
        # A bool is a whole number for Python, and none here.
        if not isinstance(found.value, kinds) or (isinstance(found.value, bool) and kinds is not bool):
            found.wrong("%s expected" % expected)
        return found.value

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self._at(key).value is not None

    def text(self, key: str, default: Any = _REQUIRED, most: int = 4096, pattern: Optional[str] = None) -> Any:
        """A text; with `pattern`, one that matches it as a whole."""
        found = self._typed(key, str, "a text", default)
        if isinstance(found, str) and found is not default:
            if len(found) > most:
                self._at(key).wrong("a text of at most %d characters expected" % most)
            if pattern is not None and not re.fullmatch(pattern, found):
                self._at(key).wrong("a text like %s expected" % pattern)
        return found

    def count(self, key: str, default: Any = _REQUIRED, most: int = 2**63) -> Any:
        """A whole number from 0 to `most`."""
        found = self._typed(key, int, "a whole number", default)
        if found is not default and not 0 <= found <= most:
            self._at(key).wrong("a whole number from 0 to %d expected" % most)
        return found

    def number(self, key: str, default: Any = _REQUIRED) -> Any:
        """A number, whole or not."""
        return self._typed(key, (int, float), "a number", default)

    def flag(self, key: str, default: Any = _REQUIRED) -> Any:
        return self._typed(key, bool, "true or false", default)

    def mapping(self, key: str, default: Any = _REQUIRED) -> Any:
        """A mapping, as a `Foreign`."""
        found = self._typed(key, dict, "a mapping", default)
        return found if found is default else Foreign(found, self.what, self._at(key).where)

    def entries(self) -> Iterator[Tuple[str, Foreign]]:
        """Key and value of each entry of this mapping; a key may hold anything, a dot among it."""
        for key, value in self.mapping("").value.items():
            yield key, Foreign(value, self.what, (self.where + "." + one_line(key, 60)).lstrip("."))

    def values(self, key: str = "", default: Any = _REQUIRED, most: int = MOST_VALUES) -> Iterator[Foreign]:
        """The items of a list, each as a `Foreign`; key "": of this value itself."""
        found = self._typed(key, list, "a list", default)
        if len(found) > most:
            self._at(key).wrong("a list of at most %d items expected" % most)
        where = (self.where + "." + key).strip(".")
        return iter([Foreign(item, self.what, "%s[%d]" % (where, number)) for number, item in enumerate(found)])

    def items(self, key: str = "", default: Any = _REQUIRED, most: int = MOST_VALUES) -> Iterator[Foreign]:
        """The items of a list of mappings, each as a `Foreign`."""
        for item in self.values(key, default, most):
            if not isinstance(item.value, dict):
                item.wrong("a mapping expected")
            yield item

    def texts(self, key: str, default: Any = _REQUIRED, most: int = 4096) -> List[str]:
        """A list of texts."""
        return [item.text("") for item in self.values(key, default, most)]


def ascii_start(value: Any, limit: int = 60) -> str:
    """The start of a value for a message: its kind where it is large."""
    if isinstance(value, dict):
        return "a mapping with %s" % (", ".join(sorted(ascii(key)[:20] for key in list(value)[:4])) or "no keys")
    if isinstance(value, list):
        return "a list of %d" % len(value)
    return ascii(value[:limit] if isinstance(value, str) else value)


def error_text(value: Any) -> str:
    """The message of an error body as servers write it, one line: OpenAI, llama.cpp, vLLM, FastAPI, Ollama, hubs."""
    for _level in range(8):
        if not isinstance(value, dict):
            break
        keys: Dict[str, Any] = {str(key).lower(): item for key, item in value.items()}
        inner = next((keys[key] for key in ("error", "message", "detail", "msg", "errors") if keys.get(key)), None)
        if inner is None:
            break
        value = inner
    if isinstance(value, list) and value and isinstance(value[0], dict) and isinstance(value[0].get("msg"), str):
        value = "; ".join(str(item.get("msg")) for item in value[:3] if isinstance(item, dict))  # FastAPI's 422
    if isinstance(value, str):
        return one_line(value)
    try:
        return one_line(json.dumps(value, ensure_ascii=False))
    except (RecursionError, ValueError, TypeError):
        return "an error that cannot be shown"
