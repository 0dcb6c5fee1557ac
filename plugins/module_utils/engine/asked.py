# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What module engine_parameters is asked: the parameters of an engine, judged as a whole. Pure.

The module looks on the host, where the engine's help is; its action plugin on the controller, before there is one.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import parameters, sglang_rules, vllm_rules
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

# Both serve what the hubs have, one file or several.
FORMAT = "safetensors"
RULES = {"sglang": sglang_rules.check, "vllm": vllm_rules.check}
OPTIONS: Dict[str, Dict[str, Any]] = {
    "table": {"type": "dict", "required": True},
    "values": {"type": "dict", "required": True},
    "recipes": {"type": "list", "elements": "dict", "default": []},
    "profile": {"type": "str", "default": ""},
    "prefix": {"type": "str", "required": True},
    "engine": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "extra_args": {"type": "list", "elements": "str", "default": []},
    "own_lock": {"type": "bool", "default": False},
    "rules": {"type": "str", "choices": ["", "sglang", "vllm"], "default": ""},
    "facts": {"type": "dict", "default": {}},
    "help_file": {"type": "path"},
    "model_files": {"type": "dict", "default": {}},
}


def look(p: Dict[str, Any], help_text: Optional[str] = None) -> Dict[str, Any]:
    """The module's result: argv, values, environment, compared, problems, warnings.

    `p`: the module's parameters, as OPTIONS has them. `help_text`: what the installed engine prints for --help; None
    where it is not installed. Raises Failure with all that is wrong.
    """
    table, engine, version = p["table"], p["engine"], p["version"]
    about = {"prefix": p["prefix"], "engine": engine, "version": version}
    try:
        parameters.version_key(version)
    except ValueError as error:
        hint = "Give its numbers, such as 0.32.0."
        raise Failure("%s_version: %s" % (p["prefix"], error), hint=hint, error_kind="usage") from None
    known = None if help_text is None else parameters.parse_help(help_text)
    warnings = []
    try:
        recipe = parameters.recipe_of(p["recipes"], version, p["profile"])
        values = parameters.filled(table, p["values"], recipe)
        problems = parameters.check_values(table, values, p["prefix"], p["own_lock"])
        problems += parameters.check_own_flags(table, p["extra_args"], p["prefix"], known or ())
        if not problems:
            problems += parameters.check_version(table, values, **about)
            if known is not None:
                gone = {
                    name: value for name, value in values.items() if not parameters.is_outside(table, name, version)
                }
                problems += parameters.check_help(table, gone, known=known, **about)
                problems += parameters.check_extra_args(p["extra_args"], known=known, **about)
            if p["rules"]:
                wrong, warnings = RULES[p["rules"]](values, p["facts"], p["prefix"])
                problems += wrong
                if p["facts"].get("profile") == "cuda":
                    model = str((p["facts"].get("model") or {}).get("name") or "the model")
                    warnings.append(parameters.unproven(recipe, engine, version, model))
    except ValueError as error:
        raise Failure(str(error), hint="Correct it.", error_kind="usage") from None
    files = p["model_files"]
    if files.get("format", FORMAT) != FORMAT:
        msg = "%s is %s; %s serves %s" % (files.get("name", "the model"), files["format"], engine, FORMAT)
        raise Failure(msg, hint="Choose another model, or another engine.", error_kind="usage")
    if problems:
        hint = "Correct these variables (null leaves a parameter to the model's recipe, false to the engine)."
        raise Failure(problems, hint=hint, error_kind="usage")
    return {
        "argv": parameters.render(table, values) + p["extra_args"],
        "values": values,
        "environment": recipe.get("environment") or {},
        "compared": known is not None,
        "problems": problems,
        # Told in preflight, before there is any help to compare with.
        "warnings": [line for line in warnings if line and not p["help_file"]],
    }
