# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas: the same model on several hosts, each with a gateway, which stands before all of them. Pure.

They are changed one after the other: who is to change gets no more requests, and the next waits until it answers again.
"""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import trust
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

WITHOUT = "Mend it and run the same command again, or go on without it: --limit '!HOST'."


def group_of(name: str, hosts: Sequence[str], values: Any) -> List[str]:
    """The replicas of one name, in the order of `hosts`.

    :param values: variables by host, each with `get` (`other_hosts.OtherHosts`, or dicts).
    """
    return [host for host in hosts if str(values[host].get("dsdeploy_replicas") or "") == name]


def gateways_of(group: Sequence[str], values: Any) -> List[str]:
    """Those of the replicas that have a gateway which others reach."""

    return [host for host in group if boolean(values[host].get("dsdeploy_expose"), strict=False)]


def behind(here: str, group: Sequence[str], values: Any, engine: str, port: int) -> List[Dict[str, Any]]:
    """The other replicas, as variable `gateway_replicas` of the gateway on host `here` has them: each is reached
    through its own gateway, with TLS, and known by its certificate.

    :param port: of a gateway, where a host says nothing else.
    """
    return [
        {
            "name": host,
            "engine": engine,
            "host": str(values[host].get("dsdeploy_replica_address") or values[host].get("ansible_host") or host),
            "port": int(values[host].get("gateway_port") or port),
            "tls": True,
            "server_name": trust.server_name(host),
            "ca_file": trust.known_file(host),
        }
        for host in group
        if host != here
    ]


def certificates_of(here: str, group: Sequence[str], told: Dict[str, Dict[str, Any]]) -> Dict[str, str]:
    """The certificates of the other replicas of this run, by their names.

    :param told: what module `replica_certificate` has said on each host.
    """
    found = {host: str((told.get(host) or {}).get("certificate") or "") for host in group if host != here}
    return {host: text for host, text in found.items() if text}


def server_name(gateway: str, host: str, engine: str) -> str:
    """What the gateway on host `gateway` calls the replica on `host`."""
    return engine if gateway == host else host


def turn_problems(here: str, group: Sequence[str], come: Sequence[str], done: Sequence[str]) -> List[str]:
    """Why host `here` must not be changed now; one line each.

    :param group: the replicas of this run, in the order of their turns. `come`: those that have come as far as the
        first turn. `done`: those whose turn is over and that answer.
    """
    before = [host for host in group[: group.index(here)] if host not in done]
    if before:
        return ["the roll stopped at %s: nothing was changed on %s" % (before[0], here)]
    missing = [host for host in group if host not in come]
    if missing:
        return ["%s cannot be reached, or was refused before: nothing was changed on %s" % (", ".join(missing), here)]
    return []


def like(here: str, group: Sequence[str], looks: Dict[str, Dict[str, Any]], done: Sequence[str]) -> str:
    """A replica before host `here` that answers and is its like; "" where there is none.

    :param looks: by host what module `compiled_cache` has said in its turn.
    """
    own = (looks.get(here) or {}).get("key")
    before = [host for host in group[: group.index(here)] if host in done]
    return next((host for host in before if own and (looks.get(host) or {}).get("key") == own), "")


def unreached(gateway: str, name: str, state: str, why: str) -> str:
    """What it means that the host of a gateway cannot be reached: it goes on as it did.

    :param name: of the replica there. `state`: what the gateway was to be told of it, as of module `gateway_replica`.
    """
    goes_on = "goes on sending requests to" if state == "drained" else "may go on sending nothing to"
    return "%s cannot be reached, and its gateway, if it runs, %s %s: %s" % (
        gateway, goes_on, name, foreign.one_line(why, 200)
    )  # fmt: skip


def require_gateways(group: Sequence[str], gateways: Sequence[str], has_key: bool) -> None:
    """Failure where replicas cannot reach each other: each has a gateway, and all of them one API key."""
    lines = []
    without = [host for host in group if host not in gateways]
    if without:
        lines.append(
            "%s %s no gateway, through which the other replicas reach it"
            % (", ".join(without), "has" if len(without) == 1 else "have")
        )
    if not has_key:
        lines.append("replicas know each other by the engine's API key, and none is set")
    if lines:
        raise Failure(
            lines,
            hint="Set dsdeploy_expose, gateway_networks and dsdeploy_api_key for all of them (docs/several-hosts.md).",
            error_kind="usage",
        )
