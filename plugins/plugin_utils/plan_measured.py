# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine said of its memory after it had started, beside what is planned for it. Pure."""

from __future__ import annotations

from typing import Any, Dict, List


def beside(records, catalog, engines, machine) -> List[Dict[str, Any]]:
    """A comparison for each deployment whose record holds what its engine measured."""
    return []
