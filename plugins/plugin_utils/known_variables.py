# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that nothing reads, such as misspelt ones. Pure functions."""

from __future__ import annotations

import re
from typing import Any, Callable, Collection, Dict, Iterable, List

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.words import did_you_mean, nearest
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.value_rules import no_list

# The variables of the role that all others depend on are those of the product.
# Names of variables whose values are secrets; a file that holds one is none itself. The command `dsdeploy` refuses the
# same names.
SECRET = re.compile(r"(^|_)(api_key|password|passwd|pass|passphrase|secret|token|private_key)$|^model_tokens$")
_PREFIXES = {"_common": "dsdeploy"}

# What roles and playbooks themselves note of a host (set_fact, register) under a role's name: nobody has written those.
NOTED = frozenset(("dsdeploy_found", "nvidia_driver_reboot_reasons"))


def secrets_typed(arguments: Iterable[str]) -> List[str]:
    """Names of secrets whose values stand in the command line: `arguments` are what `-e` was given."""
    found = set()
    for given in arguments:
        if not given.lstrip().startswith("@"):
            found.update(name for name in re.findall(r"""([A-Za-z_]\w*)["']?\s*[=:]""", given) if SECRET.search(name))
    return sorted(found)


def documented(specs: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """What a role's meta/argument_specs.yml says of its variables, as their ``type``, over all its entry points."""
    found: Dict[str, Dict[str, Any]] = {}
    for entry in (specs.get("argument_specs") or {}).values():
        found.update(entry.get("options") or {})
    return found


# The types of Ansible's argument specs that a value can miss, in words.
TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "dict": "a mapping", "list": "a list"}


def type_problems(
    values: Dict[str, Any], known: Dict[str, Dict[str, Any]], checkers: Dict[str, Callable[[Any], Any]]
) -> List[str]:
    """What is wrong with values that are no templates, by what the roles document of them, a line each.

    :param checkers: by the name of a type what takes a value of it, and raises TypeError or ValueError for another.
    """
    problems = []
    for name, value in sorted(values.items()):
        spec = known.get(name) or {}
        wanted = spec.get("type", "str")
        if value is None or value == "" or _templated(value):
            continue
        if wanted == "list" and isinstance(value, str) and not SECRET.search(name):
            problems.append(no_list(name, value))
        elif wanted in TYPES:
            try:
                checkers[wanted](value)
            except (TypeError, ValueError):
                shown = "" if SECRET.search(name) else " %r" % (value,)
                problems.append("%s is not %s:%s" % (name, TYPES[wanted], shown or " the value is withheld"))
        elif isinstance(value, str) and spec.get("choices") and value not in spec["choices"]:
            # In the words that Ansible's own check of a role's arguments is told in (failures.py of the command).
            choices = [str(choice) for choice in spec["choices"]]
            near = nearest(value, choices)
            meant = "did you mean %s? " % near if near else ""
            problems.append("%s: unknown value %r (%schoices: %s)" % (name, str(value), meant, ", ".join(choices)))
    return problems


def _templated(value: Any) -> bool:
    """Whether a value is not known as it stands: a template, or what a vault holds."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    return not isinstance(value, (int, float, bool, list, dict))


def unknown(names: Iterable[str], roles: Iterable[str], known: Collection[str]) -> List[str]:
    """Those of `names` that begin like a variable of one of the roles, and are none, sorted."""
    prefixes = tuple(_PREFIXES.get(role, role) + "_" for role in roles)
    # Ansible keeps a name with hyphens, by which nothing can read it.
    return sorted(name for name in set(names) if name.replace("-", "_").startswith(prefixes) and name not in known)


# What Go's template language has and Jinja has not.
_GO = re.compile(r"\{\{-?\s*([.$]|(range|if|with|template|block)\s+[.$]|(end|else)\s*-?\}\})")


def go_templates(templates: Dict[str, Any]) -> List[str]:
    """Names of those values that Ansible would read as Jinja, and that are templates of Go's, sorted."""
    return sorted(name for name, value in templates.items() if isinstance(value, str) and _GO.search(value))


def problem(name: str, known: Collection[str]) -> str:
    """What is to be said of an unknown variable, in one line."""
    return "%s is not a variable of dsdeploy%s" % (name, did_you_mean(name, known))
