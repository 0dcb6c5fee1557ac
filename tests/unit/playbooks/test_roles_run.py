# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every role is run by a scenario on a host: by one of its own name, or as a part of a role that has one."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
SCENARIOS = [path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")]


def parts(role: str) -> set[str]:
    """The roles that a role includes or imports, and those that it depends on."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "roles" / role).glob("*/*.yml")]
    return set(re.findall(r"(?:name|role): dsdeploy\.llm\.(\w+)", "\n".join(texts))) & set(ROLES)


def test_every_role_is_run_by_a_scenario() -> None:
    found: set[str] = set()
    pending = {role for role in ROLES if any(name == role or name.startswith(role + "_") for name in SCENARIOS)}
    assert {"llama_cpp", "vllm_venv", "sglang", "ollama", "gateway", "model", "nvidia_driver"} <= pending
    while pending:
        role = pending.pop()
        found.add(role)
        pending |= parts(role) - found
    assert set(ROLES) - found == set()
