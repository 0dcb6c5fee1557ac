# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an engine is reached, past the gateway and through it. Pure."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


def with_gateway(record: Dict[str, Any], gateway: Dict[str, Any], via: str) -> Dict[str, Any]:
    """An engine's record with where others reach it through the gateway, and where this host asks it (`ask`).

    :param gateway: its record; empty where there is none. `via`: as the option.
    :raises Failure: it is to be asked through the gateway, and that does not stand before it.
    """
    if record["api"] == "gateway":
        return record
    path = (gateway.get("engines") or {}).get(record["engine"])
    public = gateway.get("public_endpoint") if path is not None else None
    if via == "gateway" and path is None:
        raise Failure(
            "there is no gateway before %s on this host" % record["engine"],
            hint="`dsdeploy up -e dsdeploy_gateway=true` makes one.",
        )
    keys = ("endpoint", "health_path", "api_key_file", "metrics_path", "service")
    ask = {key: record.get(key) for key in keys}
    if path is not None and (via == "gateway" or (via == "auto" and public)):
        ask = dict(
            endpoint=gateway["endpoint"] + path,
            health_path="/health",
            api_key_file=gateway.get("probe_key_file"),
            metrics_path=None,
            service=gateway["service"],
        )
    found = {"public_endpoint": public + path if public else None, "ask": ask}
    return dict(record, fingerprint=gateway.get("fingerprint") if public else None, **found)
