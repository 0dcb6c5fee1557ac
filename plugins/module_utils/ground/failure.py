# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one exception of the rules: what a person reads, and what the command line makes an exit code of."""

from __future__ import annotations


class Failure(Exception):
    """Something is wrong, and can be told in one line a problem.

    :ivar problems: one-line messages, at least one; ``str()`` joins them.
    :ivar hint: what to do next, one line, or "".
    :ivar error_kind: ``usage``, ``preflight``, ``service``, ``verify``, ``reboot``, ``interrupted``, or ""
        (CONTRIBUTING.md, Failures).
    :ivar log_tail: the last lines of the log that shows it.
    """

    def __init__(self, problems, hint="", error_kind="preflight", log_tail=()):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems))
        self.hint = hint
        self.error_kind = error_kind
        self.log_tail = list(log_tail)

    def fields(self):
        """The fields of a failed result: ``msg``, and those of hint, error_kind and log_tail that say something."""
        fields = {"msg": str(self)}
        for name in ("hint", "error_kind", "log_tail"):
            if getattr(self, name):
                fields[name] = getattr(self, name)
        return fields
