# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import yaml
from ansible import context
from ansible.module_utils.common.validation import (
    check_type_bool,
    check_type_dict,
    check_type_float,
    check_type_int,
    check_type_list,
)
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.engines import resolve_engine
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.known_variables import (
    NOTED,
    documented,
    go_templates,
    problem,
    secrets_typed,
    type_problems,
    unknown,
)
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.stages import skipped_problem
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.value_rules import VALUES, value_problems

ROLES = Path(__file__).resolve().parents[2] / "roles"
CHECKERS = {
    "bool": check_type_bool,
    "dict": check_type_dict,
    "float": check_type_float,
    "int": check_type_int,
    "list": check_type_list,
}
# In Python alone it takes ten times as long.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _roles():
    return [path.parts[-3] for path in ROLES.glob("*/meta/argument_specs.yml")]


def _specs():
    """By role of the collection, what it documents of its variables, by name."""
    files = sorted(ROLES.glob("*/meta/argument_specs.yml"))
    return {path.parts[-3]: documented(yaml.load(path.read_bytes(), Loader=LOADER)) for path in files}


def _is_template(value):
    """Whether Ansible would template a value: not what is marked with !unsafe."""
    try:
        from ansible.template import is_trusted_as_template
    except ImportError:  # before ansible-core 2.19
        return not getattr(value, "__UNSAFE__", False)
    return is_trusted_as_template(value)


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec=dict(
                inventory=dict(type="bool", default=True),
                values=VALUES,
                engine=dict(type="str"),
                engines=dict(type="dict", default={}),
                stages=dict(type="list", elements="str", default=[]),
            )
        )
        skipped = skipped_problem(
            args["stages"], task_vars.get("ansible_run_tags", ()), task_vars.get("ansible_skip_tags", ())
        )
        if skipped:
            return dict(result, failed=True, **skipped.fields())
        shown = secrets_typed(context.CLIARGS.get("extra_vars") or ())
        if shown:
            result["warnings"] = [
                "%s: a secret on the command line can be read by every user of this machine (ps); give -e @file"
                % ", ".join(shown)
            ]
        given = load_extra_vars(self._loader)
        go = go_templates({name: value for name, value in given.items() if _is_template(value)})
        if go:
            return dict(
                result,
                failed=True,
                msg="; ".join("%s holds a template of Go's, which Ansible would read as its own" % name for name in go),
                hint='Write it into a file, as in `%s: !unsafe "{{ .Prompt }}"`, and give that file: -e @FILE.' % go[0],
                error_kind="usage",
            )
        problems = value_problems(args["values"])
        if problems:
            return dict(result, failed=True, msg="; ".join(problems), error_kind="usage")
        engine = {}
        if args["engine"] is not None:
            try:
                engine = resolve_engine(args["engines"], args["engine"])
            except Failure as failure:
                return dict(result, failed=True, **failure.fields())
        # Nearly all of its time is reading the specs: not where no name can be one of theirs.
        if not args["inventory"] and not unknown(given, _roles(), ()):
            return dict(result, changed=False, unknown=[], engine=engine)
        specs = _specs()
        known = set().union(*specs.values())
        misspelt = unknown(given, specs, known)
        if misspelt:
            return dict(
                result,
                failed=True,
                msg="; ".join(problem(name, known) for name in misspelt),
                hint="Correct the name (-e). A variable of your own needs another beginning than those of the roles.",
                error_kind="usage",
            )
        # Engines check their own: those of one that is not asked for are nobody's trouble.
        engines = {each["role"] for each in args["engines"].values() if each["role"] != "gateway"}
        checked = {name: spec for role in set(specs) - engines for name, spec in specs[role].items()}
        values = dict(task_vars if args["inventory"] else {}, **given)
        problems = type_problems({name: values[name] for name in checked if name in values}, checked, CHECKERS)
        if problems:
            return dict(result, failed=True, msg="; ".join(problems), error_kind="usage")
        written = unknown(set(task_vars) - NOTED, specs, known) if args["inventory"] else []
        if written:
            result.setdefault("warnings", []).append("; ".join(problem(name, known) for name in written))
        return dict(result, changed=False, unknown=written, engine=engine)
