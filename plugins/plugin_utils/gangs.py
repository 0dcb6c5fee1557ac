# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gangs: the processes of one model over several hosts, which start, fail and stop together. Pure.

Who belongs together, which rank each host has, where they meet, what their engine is told, and what they must have in
common. One place for vLLM and SGLang. Sources: vLLM 0.32.0 (engine/arg_utils.py, config/parallel.py), SGLang 0.5.23
(srt/server_args.py).
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.gang import compare
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import host_port
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.other_hosts import OtherHosts

NOTHING = "nothing was started"


class Gang(NamedTuple):
    """`name`: what the inventory calls it, "" where it does not. `hosts`: by rank; the first is the head, which
    answers."""

    name: str
    hosts: Tuple[str, ...]

    @property
    def head(self) -> str:
        return self.hosts[0]

    def __str__(self) -> str:
        return "the gang %sof %s" % (self.name + " " if self.name else "", ", ".join(self.hosts))


def gang_of(
    here: str,
    play: Sequence[str],
    inventory: Sequence[str],
    names: Dict[str, str],
    ranks: Dict[str, Optional[int]],
    nnodes: int,
    limited: bool = False,
) -> Gang:
    """The gang of host `here`.

    :param play: hosts of the play, in its order. `inventory`: all that there are.
    :param names: `dsdeploy_gang` by host, "" or missing where it is not set.
    :param ranks: rank by host, where the user gives it.
    :param limited: whether the run is about a part of the inventory (`--limit`).
    :raises Failure: where it cannot be told who belongs together; `usage`.
    """
    name = names.get(here) or ""
    if name:
        hosts = [host for host in inventory if names.get(host) == name]
        missing = [host for host in hosts if host not in play]
        if missing:
            raise Failure(
                "%s of the gang %s %s not part of this run, and a gang starts as one: %s"
                % (", ".join(missing), name, "is" if len(missing) == 1 else "are", NOTHING),
                hint="Name all of its hosts: %s." % ", ".join(hosts),
                error_kind="usage",
            )
        if len(hosts) != nnodes:
            raise Failure(
                "the gang %s has %d hosts in the inventory (%s), the model is to be served by %d"
                % (name, len(hosts), ", ".join(hosts), nnodes),
                hint="Give dsdeploy_gang to as many hosts as nnodes says, or change that.",
                error_kind="usage",
            )
    else:
        hosts = _cut(here, [host for host in play if not names.get(host)], nnodes, limited)
    return Gang(name, _by_rank(hosts, ranks))


def of_play(here: str, task_vars: Dict[str, Any], name: str, role: str, size: int) -> Gang:
    """The gang of host `here` as the variables of all hosts have it; Failure as of `gang_of`.

    :param name: `dsdeploy_gang` of this host. `role`: of the engine, whose variable gives ranks. `size`: its nnodes.
    """
    play, inventory = task_vars["ansible_play_hosts_all"], task_vars["groups"]["all"]
    values = OtherHosts(task_vars["hostvars"])
    names = {host: str(values[host].get("dsdeploy_gang") or "") for host in inventory}
    names[here] = name
    ranks = {host: values[host].get(role + "_node_rank") for host in play}
    given = {host: int(value) if value not in (None, "") else None for host, value in ranks.items()}
    return gang_of(here, play, inventory, names, given, size, bool(task_vars.get("ansible_limit")))


def _cut(here: str, free: Sequence[str], nnodes: int, limited: bool) -> List[str]:
    """The hosts without a gang's name, cut into gangs in the order of the inventory."""
    if len(free) % nnodes:
        raise Failure(
            "the model is served by %d hosts, this run is about %d (%s): %s"
            % (nnodes, len(free), ", ".join(free), NOTHING),
            hint="Name as many hosts, or say with dsdeploy_gang which belong together.",
            error_kind="usage",
        )
    if limited and len(free) > nnodes:
        raise Failure(
            "which of these %d hosts belong together is told by their order in the whole inventory, and this run is "
            "about a part of it (--limit): %s" % (len(free), NOTHING),
            hint="Give the hosts of each gang a name in common: dsdeploy_gang.",
            error_kind="usage",
        )
    first = free.index(here) // nnodes * nnodes
    return list(free[first : first + nnodes])


def _by_rank(hosts: Sequence[str], ranks: Dict[str, Optional[int]]) -> Tuple[str, ...]:
    given = {host: ranks[host] for host in hosts if ranks.get(host) is not None}
    if not given:
        return tuple(hosts)
    if sorted(given.values()) != list(range(len(hosts))):  # type: ignore[type-var]
        raise Failure(
            "the ranks of %s are %s, and must be each of 0 to %d once"
            % (", ".join(hosts), ", ".join(str(given.get(host, "unset")) for host in hosts), len(hosts) - 1),
            hint="Leave node_rank out: it is the host's place in the inventory.",
            error_kind="usage",
        )
    return tuple(sorted(hosts, key=lambda host: given[host]))  # type: ignore[arg-type,return-value]


# --- what is compared -----------------------------------------------------------------------------


def missing(gang: Gang, looks: Dict[str, Any], active: Sequence[str]) -> List[str]:
    """Hosts that are not there any more: unreachable, or refused before. One line each.

    :param looks: what each host has told (`common_problems`). `active`: hosts that the play still works on.
    """
    return [
        "%s of %s cannot be reached, or was refused before: %s" % (host, gang, NOTHING)
        for host in gang.hosts
        if host not in active or host not in looks
    ]


def common_problems(gang: Gang, looks: Dict[str, Dict[str, Any]]) -> List[str]:
    """What the hosts of a gang must have in common and have not, one line each.

    :param looks: by host ``{common: {what: value}, clock: {offset, error}, address, interface, mtu, problem,
        resolved: {host: [address]}}``. `common` is compared as it is; `clock` in seconds against the controller's.
    """
    lines = ["%s: %s" % (host, looks[host]["problem"]) for host in gang.hosts if looks[host].get("problem")]
    lines += compare.same({host: looks[host].get("place") for host in gang.hosts})
    for what in looks[gang.head]["common"]:
        lines += compare.different(what, gang.hosts, {host: looks[host]["common"].get(what) for host in gang.hosts})
    lines += compare.clocks(gang.hosts, looks)
    lines += compare.names(gang.hosts, looks)
    return lines + compare.mtus(gang.hosts, looks)


def broken_up(gang: Gang, engine: str, records: Dict[str, Sequence[Dict[str, Any]]]) -> List[str]:
    """Gangs that this one would tear apart, by the deployment records of its hosts; one line each."""
    lines = []
    for host in gang.hosts:
        for record in records.get(host, []):
            before = (record.get("gang") or {}).get("hosts") or []
            if record["engine"] == engine and set(before) - set(gang.hosts):
                lines.append(
                    "%s serves in a gang of %s now: take that down first (dsdeploy down --limit %s)"
                    % (host, ", ".join(before), ",".join(before))
                )
    return lines


def meeting_problems(gang: Gang, met: Dict[str, Dict[str, str]]) -> List[str]:
    """Who could not reach whom, one line each.

    :param met: by host, what it found of each peer: "" where it was reached, else why not (module `gang_meet`).
    """
    return [
        "%s cannot reach %s: %s" % (host, peer, why)
        for host in gang.hosts
        for peer, why in sorted(met.get(host, {}).items())
        if why
    ]


def of_record(record: Dict[str, Any], play: Sequence[str], partly: bool) -> List[str]:
    """What is wrong with doing something to the hosts of `play` alone, in one line; [] where it is the whole gang.

    :param record: `gang` of a deployment record.
    :param partly: it may be done, as a stop may: what becomes of the others is said then.
    """
    hosts = [str(host) for host in record.get("hosts") or []]
    others = [host for host in hosts if host not in play]
    if not others:
        return []
    whole = "one gang on %s" % ", ".join(hosts)
    if partly:
        return ["it is %s: %s will stop, and wait for its other hosts" % (whole, ", ".join(others))]
    return ["it is %s, and is changed as a whole or not at all: without %s" % (whole, ", ".join(others))]


# --- what an engine is told -----------------------------------------------------------------------


def require_answer(gang: Gang, asked: Dict[str, Any]) -> None:
    """The other hosts of a gang have no API: what its first host heard (`asked`, of chat_probe) counts for all."""
    if not asked or asked.get("failed") or asked.get("skipped"):
        raise Failure(
            "%s does not answer: %s" % (gang, asked.get("msg") or "its first host was not asked"),
            hint=asked.get("hint") or "",
            error_kind="verify",
        )


def _record_of(gang: Gang, records: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
    return next((one for one in records if (one.get("gang") or {}).get("hosts") == list(gang.hosts)), {})


def outage(gang: Gang, records: Sequence[Dict[str, Any]], limit_s: int = 0) -> str:
    """What a change of a gang means to who asks it, on one line.

    :param records: the deployment records of its first host. `limit_s`: seconds that a start may take, 0: not known.
    """
    record = _record_of(gang, records)
    ready = (record.get("measured") or {}).get("ready_s")
    if ready:
        minutes = "%d min" % -(-ready // 60) if ready > 90 else "%d s" % ready
        known = "about %s, as the last start of %s took %d s" % (minutes, record.get("version") or "it", ready)
    else:
        known = "how long is not known, as no start of it was seen"
    most = "; at most %d min" % -(-limit_s // 60) if limit_s else ""
    return "%s stops and starts as one: there are no answers until it is ready again (%s%s)" % (gang, known, most)


def placement(engine: str, rank: int, size: int, head: str, port: int) -> Dict[str, Any]:
    """The engine's own parameters of one rank.

    :param head: address of the first rank. `port`: where they meet there.
    """
    common = {"nnodes": size, "node_rank": rank}
    if engine == "sglang":
        return dict(common, dist_init_addr=host_port(head, port))
    # Only the first rank has an API; the others do as it says.
    return dict(common, master_addr=head, master_port=port, headless=rank > 0)


def guard(rank: int, size: int, own: str, head: str, port: int) -> List[str]:
    """What the guard of a rank is told (module_utils/gang/guard.py), but for the command."""
    words = {"--rank": rank, "--size": size, "--head": head, "--own": own, "--port": port}
    return [str(word) for pair in words.items() for word in pair]


def environment(
    engine: str, address: str, interface: str, hcas: Sequence[str] = (), gid_index: Optional[int] = None
) -> Dict[str, str]:
    """What tells its processes by which of the host's networks they talk: to the engine, PyTorch, NCCL."""
    found = {
        {"vllm": "VLLM_HOST_IP", "sglang": "SGLANG_HOST_IP"}[engine]: address,
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": interface,
        "TP_SOCKET_IFNAME": interface,
    }
    if hcas:
        # "=": exactly these, not all that begin so.
        found["NCCL_IB_HCA"] = "=" + ",".join(hcas)
    if hcas and gid_index is not None:
        found["NCCL_IB_GID_INDEX"] = str(gid_index)
    return found


def rows(gang: Gang, addresses: Dict[str, str], port: int) -> List[str]:
    """The gang for people, a line a rank."""
    return [
        "rank %d: %s%s%s"
        % (
            rank,
            host,
            " (%s)" % addresses[host] if addresses.get(host) and addresses[host] != host else "",
            ", answers; they meet at port %d" % port if rank == 0 else "",
        )
        for rank, host in enumerate(gang.hosts)
    ]


def shown(
    gang: Gang, looks: Dict[str, Dict[str, Any]], active: Sequence[str], records: Sequence[Dict[str, Any]] = ()
) -> List[str]:
    """The gang as `plan` shows it: a line a rank, what a change would mean to who asks it, and what would keep it from
    starting.

    :param looks: `active`: as of `missing`. `records`: as of `outage`.
    """
    lines = []
    for rank, host in enumerate(gang.hosts):
        look = looks.get(host) or {}
        words = [str(look.get("address") or "address unknown"), str(look.get("interface") or "interface unknown")]
        if look.get("hcas"):
            words.append("RDMA %s" % ", ".join(look["hcas"]))
            words.append("GID %s" % ("unknown" if look.get("gid_index") is None else look["gid_index"]))
        elif look:
            words.append("no RDMA device that works")
        lines.append("rank %d: %s (%s)%s" % (rank, host, ", ".join(words), "" if rank else ", answers"))
    if _record_of(gang, records):
        lines.append("a change of it: %s" % outage(gang, records))
    away = missing(gang, looks, active)
    return lines + ["`up` would refuse: %s" % line for line in away or common_problems(gang, looks)]
