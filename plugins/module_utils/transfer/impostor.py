# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is saved as a file when a download goes wrong."""

from __future__ import annotations

# What gets saved as "weights" when a download goes wrong. First bytes, lower case, and its name.
_IMPOSTORS = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself"),
    (b"<!doctype html", "an HTML page, not the file itself"),
    (b"<html", "an HTML page, not the file itself"),
)


def impostor(head):
    """What a file that starts with ``head`` is, when it is a well-known kind of wrong; else ``None``."""
    if not head:
        return "an empty file"
    start = head.lstrip().lower()
    return next((name for magic, name in _IMPOSTORS if start.startswith(magic)), None)
