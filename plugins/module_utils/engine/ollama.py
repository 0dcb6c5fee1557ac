# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model in Ollama's store is, what it should be, and where it was loaded. Pure functions.

Shapes are those of Ollama's API (docs/api.md and api/types.go of github.com/ollama/ollama, 0.17 to 0.32).
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.words import did_you_mean

# The fields of api.Options, which a Modelfile's PARAMETER sets. Of an unknown one the server only writes to its log.
PARAMETERS: Dict[str, type] = {
    **dict.fromkeys(("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "seed"), int),
    **dict.fromkeys(("num_predict", "top_k", "repeat_last_n", "draft_num_predict"), int),
    **dict.fromkeys(("temperature", "top_p", "min_p", "typical_p"), float),
    **dict.fromkeys(("repeat_penalty", "presence_penalty", "frequency_penalty"), float),
    "use_mmap": bool,
    "stop": list,
}
# Host, namespace, model and tag, of which only the model must be there (types/model/name.go).
_NAME = re.compile(
    r"(?:[A-Za-z0-9_][\w.:-]*/)?(?:[A-Za-z0-9_][\w-]*/)?[A-Za-z0-9_][\w.-]{0,79}(?::[A-Za-z0-9_][\w.-]{0,79})?\Z"
)
# Parameters that came with a version; an earlier server only writes to its log that it does not know them.
SINCE = {"draft_num_predict": "0.30.0"}
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Modelfile(NamedTuple):
    """What is asked for beside the weights; None: not asked for, whatever the server has is right."""

    parameters: Dict[str, Any]
    template: Optional[str] = None
    system: Optional[str] = None
    licence: Optional[List[str]] = None

    def request(self) -> Dict[str, Any]:
        """The fields of /api/create."""
        fields = {
            "parameters": self.parameters,
            "template": self.template,
            "system": self.system,
            "license": self.licence,
        }
        return {name: value for name, value in fields.items() if value}


def check_name(name: str) -> str:
    """`name` itself. Raises ValueError, one line, for what the server would refuse."""
    if not _NAME.match(name):
        raise ValueError("name: '%s' is not a model's name, such as deepseek-r1 or deepseek-r1:671b" % name)
    return name


def qualified(name: str) -> str:
    """The name as /api/tags and /api/ps give it: with its tag."""
    return name if ":" in name.rpartition("/")[2] else name + ":latest"


def find(models: List[Dict[str, Any]], name: str) -> Optional[Dict[str, Any]]:
    """The entry of `name` in a list of /api/tags or /api/ps; case does not matter to the server."""
    wanted = qualified(name).lower()
    return next((entry for entry in models if qualified(entry.get("name") or "").lower() == wanted), None)


_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)\Z")


def seconds_left(entry: Dict[str, Any], now: float) -> Optional[float]:
    """s until the model of an entry of /api/ps is unloaded, by its `expires_at` without the fraction of a second; below
    0 where that is over, None where it is not told.

    :param now: seconds since 1970, of the server's host.
    """
    match = _INSTANT.match(str(entry.get("expires_at")))
    if not match:
        return None
    zone = "+00:00" if match.group(2) == "Z" else match.group(2)
    try:
        ends = datetime.datetime.fromisoformat(match.group(1) + zone)
        return (ends - datetime.datetime.fromtimestamp(now, datetime.timezone.utc)).total_seconds()
    except (ValueError, OverflowError):
        return None


def is_over(entry: Dict[str, Any], now: float) -> bool:
    """Whether an entry of /api/ps is of a model that is not kept. `now` as for `seconds_left`."""
    left = seconds_left(entry, now)
    return left is not None and left <= 0


def typed_parameters(given: Dict[str, Any]) -> Dict[str, Any]:
    """Parameters in the types that the server wants. Raises ValueError, one line."""
    if not isinstance(given, dict):
        raise ValueError("parameters: '%s' is not a dictionary, such as {temperature: 0.6}" % (given,))
    return {name: _typed(name, value) for name, value in given.items()}


def too_new(given: Dict[str, Any], version: str) -> Optional[str]:
    """What of the parameters a server of this version would ignore, in one line; None: nothing, or it is not known."""
    numbers = _version(version)
    for name in sorted(given):
        if numbers and name in SINCE and numbers < _version(SINCE[name]):
            return "parameters: Ollama %s ignores %s, which came with %s" % (version, name, SINCE[name])
    return None


def _version(text: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", text.partition("-")[0])[:3])


def _typed(name: str, value: Any) -> Any:
    kind = PARAMETERS.get(name)
    if kind is None:
        raise ValueError("parameters: Ollama has no parameter %s%s" % (name, did_you_mean(name, PARAMETERS)))
    if kind is list:
        return [str(item) for item in (value if isinstance(value, list) else [value])]
    try:
        if kind is bool:
            return value if isinstance(value, bool) else _BOOLEANS[str(value).lower()]
        if isinstance(value, bool) or kind(value) != float(value):
            raise ValueError
        return kind(value)
    except (KeyError, TypeError, ValueError):
        words = {int: "a whole number", float: "a number", bool: "true or false"}
        raise ValueError("parameters: %s is '%s', not %s" % (name, value, words[kind])) from None


# --- what the server has -------------------------------------------------------------------------------------------


def parse_parameters(text: str) -> Dict[str, List[Any]]:
    """`parameters` of /api/show: a line for each value, the name padded with spaces and the value as Go prints it."""
    found: Dict[str, List[Any]] = {}
    for line in text.splitlines():
        name, _space, value = line.strip().partition(" ")
        if name:
            found.setdefault(name, []).append(_go_value(value.strip()))
    return found


_GO_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))")
_GO_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def _go_value(text: str) -> Any:
    """A value as `%#v` of Go prints it: strings as strconv.Quote writes them, which is not quite JSON."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        return _GO_ESCAPE.sub(_go_escape, text[1:-1])
    try:
        return foreign.loads(text)
    except ValueError:
        return text


def _go_escape(found: Any) -> str:
    code = found.group(1) or found.group(2) or found.group(3)
    if not code:
        return _GO_LETTERS.get(found.group(4), found.group(4))
    return chr(int(code, 16)) if int(code, 16) <= sys.maxunicode else "\ufffd"


def weights_digest(modelfile: str) -> Optional[str]:
    """Digest of the weights, from `modelfile` of /api/show, whose FROM names their blob."""
    blob = re.search(r"^FROM .*sha256[-:]([0-9a-f]{64})\s*$", modelfile, re.M)
    return "sha256:" + blob.group(1) if blob else None


def as_listed(value: Any) -> List[Any]:
    """A wanted parameter as `parse_parameters` gives it."""
    return value if isinstance(value, list) else [value]


def differences(show: Dict[str, Any], digest: Optional[str], wanted: Modelfile) -> List[str]:
    """What of a served model is not as wanted, by name; what was not asked for is not compared.

    :param digest: of the weights; None: any.
    """
    parameters = parse_parameters(show.get("parameters") or "")
    wrong = [
        "parameter %s" % name for name, value in wanted.parameters.items() if parameters.get(name) != as_listed(value)
    ]
    licence = None if wanted.licence is None else "\n".join(wanted.licence)
    for name, want in (("template", wanted.template), ("system", wanted.system), ("license", licence)):
        if want is not None and (show.get(name) or "") != want:
            wrong.append(name)
    if digest is not None and weights_digest(show.get("modelfile") or "") != digest:
        wrong.insert(0, "weights")
    return wrong


def shown(digest: Optional[str], parameters: Dict[str, Any], texts: Dict[str, Optional[str]]) -> str:
    """A model as lines, for diffs. `texts` are template, system and license."""
    lines = ["FROM %s" % (digest or "weights whose digest is not known yet")]
    for name in sorted(parameters):
        lines += ["PARAMETER %s %s" % (name, json.dumps(value)) for value in as_listed(parameters[name])]
    lines += ["%s %s" % (name.upper(), json.dumps(text, ensure_ascii=False)) for name, text in texts.items() if text]
    return "".join(line + "\n" for line in lines)


def expected_context(show: Dict[str, Any]) -> Optional[int]:
    """Tokens of context that a model is loaded with, where its parameters say so: no more than it was trained with."""
    asked = (parse_parameters(show.get("parameters") or "").get("num_ctx") or [None])[0]
    if not isinstance(asked, (int, float)):
        return None
    info = show.get("model_info") or {}
    trained = info.get("%s.context_length" % info.get("general.architecture"))
    return min(int(asked), trained) if isinstance(trained, int) and trained > 0 else int(asked)


# --- where it was loaded -------------------------------------------------------------------------------------------

WHOLE = 0.01  # share of the model in host memory that counts as none
SPLIT = 0.10  # by which a predicted split may be missed: Ollama and the memory fit count buffers differently


def cpu_share(entry: Dict[str, Any]) -> Optional[float]:
    """Share of a loaded model in the host's memory, 0 to 1, from its entry in /api/ps; None where it is not told."""
    size = entry.get("size") or 0
    return 1 - (entry.get("size_vram") or 0) / float(size) if size > 0 else None


def placement_problem(
    entry: Dict[str, Any], predicted: float, parameters: Dict[str, List[Any]], layers: int, context: int
) -> Optional[Tuple[str, str]]:
    """(what is wrong, what to do) where more of a loaded model lies in the host's memory than was predicted.

    :param entry: of /api/ps.
    :param predicted: share, 0 to 1.
    :param parameters: of the served model, as `parse_parameters` gives them.
    :param layers: the model's, the output layer included; 0: not known.
    :param context: tokens of one request that were planned; 0: not known. /api/ps, too, tells it of one request.
    """
    share = cpu_share(entry)
    if share is None or share <= predicted + (SPLIT if predicted > 0 else WHOLE):
        return None
    wrong = "%s of %s lies in the host's memory instead of the GPUs', the memory fit says %s" % (
        percent(share),
        entry.get("name"),
        percent(predicted),
    )
    asked = (parameters.get("num_gpu") or [None])[0]
    loaded = entry.get("context_length") or 0
    if isinstance(asked, int) and 0 <= asked < layers:
        reason = "its parameter num_gpu puts %d of %d layers on the GPUs" % (asked, layers)
        hint = "Leave ollama_gpu_layers at auto, and num_gpu out of ollama_parameters."
    elif not entry.get("size_vram"):
        reason = "Ollama uses no GPU"
        hint = "Its log says which GPUs it found when it started; a driver that came later needs a restart of it."
    elif context and loaded > context:
        reason = "it was loaded with a context of %d tokens, planned were %d" % (loaded, context)
        hint = "Lower ollama_context, or num_ctx in ollama_parameters."
    else:
        reason = "Ollama found less free memory on the GPUs than the fit, or plans with more"
        hint = "See what else holds GPU memory (nvidia-smi) and ollama_gpu_overhead; or lower ollama_context."
    return "%s: %s" % (wrong, reason), hint


def percent(share: float) -> str:
    return "%.0f %%" % (100 * share)
