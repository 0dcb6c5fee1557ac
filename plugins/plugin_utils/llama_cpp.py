# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How llama.cpp is installed. Pure."""

from __future__ import annotations

from typing import Sequence


def install_method(wanted: str, gpus_used: bool, packages: Sequence[str], wheel: bool, tls: bool) -> str:
    """``package``, ``wheel`` or ``source``.

    :param wanted: what the user asked for; ``auto`` leaves the choice to this rule.
    :param gpus_used: whether layers are to be on GPUs: package and wheel compute on the CPU only.
    :param packages: the distribution's packages of llama.cpp.
    :param wheel: whether there is one for the host's architecture and Python; it is built without TLS.
    """
    if wanted != "auto":
        return wanted
    if gpus_used:
        return "source"
    if packages:
        return "package"
    return "wheel" if wheel and not tls else "source"
