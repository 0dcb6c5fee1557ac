# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bytes as people read them: one form for files, disks and transfers. Powers of 1024, as memory is counted, too."""

from __future__ import annotations


def mib(number):
    """Bytes for people: MiB below 1 GiB, else GiB, one decimal."""
    if number < 1024**3:
        return "%.1f MiB" % (number / 1024**2)
    return "%.1f GiB" % (number / 1024**3)
