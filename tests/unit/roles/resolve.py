# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role's own variables come to on a host with given facts, by Ansible's own templating and without a host."""

from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19

    def trust_as_template(value):
        return value


ROLES = Path(__file__).resolve().parents[3] / "roles"
# What the shared role gathers of a host, for each distribution that the roles know.
HOSTS = {
    "Ubuntu 22.04": ("Ubuntu", "Debian", "22.04", "jammy"),
    "Ubuntu 24.04": ("Ubuntu", "Debian", "24.04", "noble"),
    "Debian 12": ("Debian", "Debian", "12.12", "bookworm"),
    "Debian 13": ("Debian", "Debian", "13.2", "trixie"),
    "RHEL 8": ("RedHat", "RedHat", "8.10", "Ootpa"),
    "RHEL 9": ("RedHat", "RedHat", "9.6", "Plow"),
    "Rocky 9": ("Rocky", "RedHat", "9.6", "Blue Onyx"),
    "SLES 15": ("SLES", "Suse", "15.6", ""),
}


def facts(host: str, **more: Any) -> dict[str, Any]:
    distribution, family, version, release = HOSTS[host]
    return {
        "distribution": distribution,
        "os_family": family,
        "distribution_version": version,
        "distribution_major_version": version.split(".")[0],
        "distribution_release": release,
        "architecture": "x86_64",
        "nvidia_smi": {"status": "not_installed", "driver_version": None, "gpus": []},
        **more,
    }


def _trusted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value


def resolve(role: str, host: str, name: str, host_facts: dict[str, Any] | None = None, **inventory: Any) -> Any:
    """Variable ``name`` of a role on ``host``; ``inventory`` stands between the role's defaults and its vars."""
    known: dict[str, Any] = {}
    for folder, owners in (("defaults", ("_common", role)), ("", ()), ("vars", ("_common", role))):
        if not folder:
            known.update(inventory)
        for owner in owners:
            for path in sorted((ROLES / owner / folder).glob("**/*.yml")):
                known.update(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    known["ansible_facts"] = facts(host, **(host_facts or {}))
    templar = Templar(loader=DataLoader(), variables=_trusted(known))
    return templar.template(trust_as_template("{{ " + name + " }}"))
