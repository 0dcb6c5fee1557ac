# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine's parameters as data: checked, compared with what the installed engine knows, rendered. Pure.

A table maps the name of a parameter (of the role's variable, without the role's prefix) to what it is:

- ``flag``: of the command line; ``--the-name`` where it is not given. An empty one: the value stands alone.
- ``type``: str (the default), int, float, flag, json or list. A ``flag`` is given when true; when false its
  ``negative`` is, if it has one. ``json`` takes any data and is passed as JSON; ``list`` as several words.
- ``known``: the values that the releases of the role's own locks take, for a parameter to which another release or a
  plugin may add some.
- ``choices``, ``min``, ``max``: what values are possible. ``many: true`` with choices allows several.
- ``since``, ``until``: the first version that knows it, and the first that does not any more.
- ``replaced_by``: what to use instead, in words.

- ``default``: what is given where neither the user nor the recipe sets it, also an empty value.

A parameter whose value is None or empty ("", [], {}) is the recipe's, and where that has none the engine's own. False
is a value: of a flag with a ``negative`` that is given; any other parameter is then not given, whatever the recipe
says.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.guards import GUARDS, flag_of_word, word_problems
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.words import did_you_mean

Table = Dict[str, Dict[str, Any]]
Values = Dict[str, Any]

_KINDS = {"int": "a whole number", "float": "a number", "flag": "true or false", "list": "a list", "str": "text"}


class Known(NamedTuple):
    """What an engine's help says of one flag."""

    choices: Tuple[str, ...]  # empty: any value


def version_key(version: str) -> Tuple[int, ...]:
    """`0.10.1.post2` as (0, 10, 1): releases compare by their numbers alone."""
    numbers = re.match(r"v?(\d+(?:\.\d+)*)", str(version))
    if not numbers:
        raise ValueError("%r is not a version" % version)
    return tuple(int(part) for part in numbers.group(1).split("."))


def in_versions(version: str, since: Optional[str] = None, until: Optional[str] = None) -> bool:
    """Whether `since` <= version < `until`; a bound that is not given does not bound."""
    key = version_key(version)
    return not (since and key < version_key(since)) and not (until and key >= version_key(until))


def flag_of(name: str, row: Dict[str, Any]) -> str:
    return row.get("flag", "--" + name.replace("_", "-"))


# --- values ---------------------------------------------------------------------------------------


def _is_kind(kind: str, value: Any) -> bool:
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "flag":
        return isinstance(value, bool)
    if kind == "list":
        return isinstance(value, list)
    return kind == "json" or isinstance(value, str)


def _value_problem(row: Dict[str, Any], value: Any, own_lock: bool) -> Optional[str]:
    kind = row.get("type", "str")
    if not _is_kind(kind, value):
        return "expected %s, found %r" % (_KINDS[kind], value)
    if kind == "json" and isinstance(value, str):
        try:
            foreign.loads(value)
        except ValueError as error:
            return "expected JSON, found %s (%s)" % (foreign.one_line(ascii(value)), error)
    low, high = row.get("min"), row.get("max")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = "at least %s" % low if high is None else "from %s to %s" % (low, high)
        return "expected a value %s, found %s" % (bounds, value)
    choices = row.get("choices") or (None if own_lock else row.get("known"))
    wrong = [item for item in (value if kind == "list" else [value]) if choices and item not in choices]
    if wrong:
        return "expected one of %s, found %r%s" % (
            ", ".join(str(choice) for choice in choices),
            wrong[0],
            did_you_mean(wrong[0], [str(choice) for choice in choices]),
        )
    return None


def check_values(table: Table, values: Values, prefix: str, own_lock: bool = False) -> List[str]:
    """What is wrong with the values by themselves, one line each: type, range, choice.

    :param prefix: of the role's variables, for the lines.
    :param own_lock: whether the engine is installed from a lock of the user's own, which may hold another release or
        plugins: ``known`` is not checked then.
    """
    problems = []
    for name, value in values.items():
        if value is None:
            continue
        problem = _value_problem(table[name], value, own_lock)
        if problem:
            problems.append("%s_%s: %s" % (prefix, name, problem))
    return problems


def check_version(table: Table, values: Values, prefix: str, engine: str, version: str) -> List[str]:
    """Which of the values that are set this version no longer or not yet knows, by the table alone; one line each."""
    problems = []
    for name, value in values.items():
        if render({name: table[name]}, {name: value}) and is_outside(table, name, version):
            problems.append(_gone(prefix, name, table[name], engine, version))
    return problems


def is_outside(table: Table, name: str, version: str) -> bool:
    """Whether the table says that this version does not know the parameter."""
    return not in_versions(version, table[name].get("since"), table[name].get("until"))


def _gone(prefix: str, name: str, row: Dict[str, Any], engine: str, version: str) -> str:
    since = row.get("since")
    line = "%s_%s: %s %s does not know %s" % (prefix, name, engine, version, flag_of(name, row))
    if since and version_key(version) < version_key(since):
        return line + " yet, it came with %s" % since
    return line + (" any more: %s" % row["replaced_by"] if row.get("replaced_by") else "")


# --- the engine's own help ------------------------------------------------------------------------

_OPTION_LINE = re.compile(r"^  ?(?=-)")
_FLAG = re.compile(r"(?<![\w-])(--[A-Za-z0-9][\w.-]*)")
_CHOICES = re.compile(r"\{([^{}]*)\}")


def parse_help(text: str) -> Dict[str, Known]:
    """The flags that argparse's help lists, with their choices.

    An option's line starts with two spaces and its flags, such as
    ``  --tensor-parallel-size TENSOR_PARALLEL_SIZE, -tp TENSOR_PARALLEL_SIZE``; its description follows after at
    least two more spaces, or on lines that are indented further.
    """
    found: Dict[str, Known] = {}
    for line in text.splitlines():
        if not _OPTION_LINE.match(line):
            continue
        invocation = re.split(r"\s{2,}", line.strip())[0]
        braces = _CHOICES.search(invocation)
        # "{a,b} or name registered in --some-plugin" is open.
        closed = braces and " or " not in invocation
        choices = tuple(word.strip() for word in braces.group(1).split(",")) if closed else ()
        for flag in _FLAG.findall(_CHOICES.sub("", invocation)):
            found[flag] = Known(choices)
    return found


def check_help(
    table: Table, values: Values, prefix: str, engine: str, version: str, known: Dict[str, Known]
) -> List[str]:
    """Which of the values that are set the installed engine does not take, by its own help; one line each."""
    problems = []
    for name, value in values.items():
        row = table[name]
        if value is None or not render({name: row}, {name: value}):
            continue
        flag = render({name: row}, {name: value})[0]
        if not flag_of(name, row):
            continue
        if flag not in known:
            problems.append(_gone(prefix, name, row, engine, version))
            continue
        # An ellipsis is argparse's own cut; `None` is how a choice of "not at all" is printed.
        choices = [choice for choice in known[flag].choices if choice not in ("...", "None")]
        words = [str(item) for item in (value if isinstance(value, list) else [value])]
        wrong = [word for word in words if choices and word not in choices]
        if wrong and row.get("type", "str") not in ("flag", "json"):
            problems.append(
                "%s_%s: %s %s does not know %s %s%s; it knows %s"
                % (prefix, name, engine, version, flag, wrong[0], did_you_mean(wrong[0], choices), ", ".join(choices))
            )
    return problems


def check_extra_args(extra: List[str], prefix: str, engine: str, version: str, known: Dict[str, Known]) -> List[str]:
    """Flags among the user's own words that the installed engine does not know; one line each.

    ``--flag=value`` and vLLM's ``--config.key`` are understood, and underscores for hyphens.
    """
    problems = []
    for word in extra:
        if not word.startswith("--") or word == "--":
            continue
        flag = "--" + word[2:].partition("=")[0].partition(".")[0].replace("_", "-")
        if flag not in known and word not in known:
            problems.append(
                "%s_extra_args: %s %s does not know %s%s" % (prefix, engine, version, flag, did_you_mean(flag, known))
            )
    return problems


def check_own_flags(table: Table, extra: List[str], prefix: str, known: Iterable[str] = ()) -> List[str]:
    """Flags among the user's own words that belong to a variable, which is checked, or that `guards` refuses; one line
    each.

    :param known: flags that the installed engine has.
    """
    guarded = GUARDS[prefix].flags if prefix in GUARDS else {}
    owners = {}
    for name, row in table.items():
        for flag in filter(None, (flag_of(name, row), row.get("negative"))):
            owners[flag] = "set %s_%s instead" % (prefix, name)
    problems = word_problems(prefix, extra, list(known)) if prefix in GUARDS else []
    for flag in (flag_of_word(word) for word in extra):
        if flag in owners and flag not in guarded:
            problems.append("%s_extra_args: %s: %s" % (prefix, flag, owners[flag]))
    return problems


# --- the command line -----------------------------------------------------------------------------


def render(table: Table, values: Values) -> List[str]:
    """The words of the command line, in the table's order. Values must have been checked."""
    words: List[str] = []
    for name, row in table.items():
        value = values.get(name)
        if value is None or (value is False and not row.get("negative")):
            continue
        flag, kind = flag_of(name, row), row.get("type", "str")
        if kind == "flag":
            given = flag if value else row.get("negative")
            words += [given] if given else []
        elif kind == "json":
            words += [flag, value if isinstance(value, str) else json.dumps(value, sort_keys=True)]
        elif kind == "list":
            words += [flag] + [str(item) for item in value] if value else []
        else:
            words += [flag, str(value)] if flag else [str(value)]
    return words


def recipe_of(recipes: List[Dict[str, Any]], version: str, profile: str = "") -> Dict[str, Any]:
    """The first of a model's recipes that is for this version of the engine, else an empty one.

    A recipe is ``{since, until, profile, parameters, environment, started, published}``, see the README of role model.

    :param profile: latency or throughput; a recipe for it goes before one that is for neither. One for the other, or
        for any where none is asked for, is left out.
    """
    fitting = [one for one in recipes if in_versions(version, one.get("since"), one.get("until"))]
    for wanted in dict.fromkeys((profile or "", "")):
        for recipe in fitting:
            if (recipe.get("profile") or "") == wanted:
                return recipe
    return {}


def unproven(recipe: Dict[str, Any], engine: str, version: str, model: str) -> str:
    """What to say of a recipe that was not started on GPUs with this version of the engine; "" of one that was, whole.

    :param recipe: one of the catalog, with ``started``, a list of ``{gpus, engine, ready_s, ...}``, where it was.
    """
    seen = recipe.get("started") or []
    mine = [run["gpus"] for run in seen if run["engine"] == version]
    if not recipe or any(" of its " not in gpus for gpus in mine):
        return ""
    if mine:
        return "the recipe of %s was started with %s %s on a part alone: %s" % (model, engine, version, ", ".join(mine))
    if not seen:
        return "the recipe of %s for %s has not been started on GPUs yet" % (model, engine)
    return "the recipe of %s was started with %s, not with %s %s yet" % (
        model,
        ", ".join("%s %s on %s" % (engine, run["engine"], run["gpus"]) for run in seen),
        engine,
        version,
    )


def filled(table: Table, values: Values, recipe: Dict[str, Any]) -> Values:
    """The values; the recipe's where one is left, the table's default where both leave it, else None: the engine's own.

    :raises ValueError: a parameter that the table does not have, in one line.
    """
    given = recipe.get("parameters") or {}
    for name in [*values, *given]:
        if name not in table:
            raise ValueError("there is no parameter %s%s" % (name, did_you_mean(name, table)))
    found = {}
    for name in [*values, *given]:
        row = table[name]
        value = next(
            (value for value in (values.get(name), given.get(name)) if not _is_left(value)), row.get("default")
        )
        value = _typed(row, value)
        found[name] = None if value is False and row.get("type") != "flag" else value
    return found


def _typed(row: Dict[str, Any], value: Any) -> Any:
    """A value that came as text, as all do from `-e name=value`, as what it says; any other as it is."""
    if not isinstance(value, str):
        return value
    kind, text = row.get("type", "str"), value.strip()
    if text.lower() == "false":
        return False  # of any kind: not given
    if kind == "int" and re.match(r"-?\d+$", text):
        return int(text)
    if kind == "float" and re.match(r"-?\d+(\.\d+)?$", text):
        return float(text)
    if kind == "flag" and text.lower() in ("true", "yes", "on", "false", "no", "off"):
        return text.lower() in ("true", "yes", "on")
    return value


def _is_left(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, dict)) and not value)
