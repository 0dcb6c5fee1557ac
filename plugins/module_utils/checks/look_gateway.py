# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the gateway of this host sees the replicas on others. Section `replicas` of look.py."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway.runtime import Runtime, lacking, others_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import read_records


def replicas(place: Place) -> Optional[Dict[str, Any]]:
    """`{names, lacking}`: the replicas on other hosts, and why which of them get no requests; None without a gateway.

    :raises Failure: the gateway does not say.
    """
    records = read_records(place.records or places.RECORDS)[0]
    record = next((found for found in records if found["engine"] == "gateway"), None)
    if record is None:
        return None
    servers = Runtime(str(record.get("state_dir"))).servers()
    return {"names": others_of(servers), "lacking": lacking(servers)}
