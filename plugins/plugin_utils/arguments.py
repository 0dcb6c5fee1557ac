# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments of an action, checked."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail


def checked(action, spec, tables=()):
    """The arguments of an action plugin by its argument spec, with the defaults.

    `tables`: names of options that are dicts of our own data and are not looked into: Ansible's check copies all that
    it is given, which of the catalog of models takes longer than everything else that the action does.
    """
    given = action._task.args
    large = {name: given[name] for name in tables if name in given}
    for name, value in large.items():
        if not isinstance(value, dict):
            raise AnsibleActionFail("%s: expected a dict, found %r" % (name, value))
    action._task.args = dict(
        {name: value for name, value in given.items() if name not in large}, **dict.fromkeys(large, {})
    )
    try:
        _result, args = action.validate_argument_spec(argument_spec=spec)
    finally:
        action._task.args = given
    return dict(args, **large)
