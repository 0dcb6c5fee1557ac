# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that nothing reads, such as misspelt ones. Pure functions."""

from __future__ import annotations

import re
from typing import Any, Collection, Dict, Iterable, List, Set

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.words import did_you_mean

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


def documented(specs: Dict[str, Any]) -> Set[str]:
    """The variables that a role's meta/argument_specs.yml names, over all its entry points."""
    entries = (specs.get("argument_specs") or {}).values()
    return {name for entry in entries for name in entry.get("options") or {}}


def unknown(names: Iterable[str], roles: Iterable[str], known: Collection[str]) -> List[str]:
    """Those of `names` that begin like a variable of one of the roles, and are none, sorted."""
    prefixes = tuple(_PREFIXES.get(role, role) + "_" for role in roles)
    return sorted(name for name in set(names) if name.startswith(prefixes) and name not in known)


# What Go's template language has and Jinja has not.
_GO = re.compile(r"\{\{-?\s*([.$]|(range|if|with|template|block)\s+[.$]|(end|else)\s*-?\}\})")


def go_templates(templates: Dict[str, Any]) -> List[str]:
    """Names of those values that Ansible would read as Jinja, and that are templates of Go's, sorted."""
    return sorted(name for name, value in templates.items() if isinstance(value, str) and _GO.search(value))


def problem(name: str, known: Collection[str]) -> str:
    """What is to be said of an unknown variable, in one line."""
    return "%s is not a variable of dsdeploy%s" % (name, did_you_mean(name, known))
