# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who fetches what from whom, where several hosts need the same files. Pure.

Each file comes from the hub to one host, its owner, and goes on from host to host. A file is known by its hash, and
is offered once it was verified. The rules see the other hosts as they last told of themselves.
"""

from __future__ import annotations

from typing import Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

GRACE = 20.0  # s after the start until a host that was never heard of counts as away
LOST = 10.0  # s without a word until another takes over what a host was to fetch
LINGER = 30.0  # s without a word until nobody waits for a host at the end


class Look(NamedTuple):
    """Another host, as it is now."""

    name: str
    have: FrozenSet[str] = frozenset()  # hashes of the files that it offers
    heard: Optional[float] = None  # s since its last word; None: never
    age: float = 0.0  # s since the start of this host's own part
    seed: bool = False  # it has the model and fetches nothing
    fetches: bool = True  # its hub answers
    refused: bool = False  # it gave what is not the file: nothing more is taken from it
    over: bool = False  # it has ended
    load: int = 0  # files that it sends now
    busy: bool = False  # it has just said that it sends as many as it can


def is_there(look: Look) -> bool:
    """Whether a host is counted on."""
    if look.over:
        return False
    return look.age < GRACE if look.heard is None else look.heard < LOST


def is_awaited(look: Look, done: bool) -> bool:
    """Whether a host that has all it needs stays for this one. `done`: this one has all, and was told the same."""
    if done or look.over:
        return False
    return look.age < 2 * LINGER if look.heard is None else look.heard < LINGER


# By file, the hosts that it is not taken from: what they gave of it was wrong, or nothing came.
NotFrom = Dict[str, FrozenSet[str]]


def holders(key: str, looks: Sequence[Look], not_from: NotFrom) -> List[Look]:
    """The hosts that a file can be had from."""
    bad = not_from.get(key, frozenset())
    return [look for look in looks if key in look.have and not look.refused and look.name not in bad and is_there(look)]


def owner(number: int, order: Sequence[str], able: Sequence[str]) -> Optional[str]:
    """The host that takes file `number` from the hub: each has its share; of one that is away the next one takes it."""
    for step in range(len(order)):
        name = order[(number + step) % len(order)]
        if name in able:
            return name
    return None


def from_hub(
    here: str,
    order: Sequence[str],
    keys: Sequence[str],
    missing: Sequence[str],
    looks: Sequence[Look],
    not_from: NotFrom,
    whole: bool,
) -> List[str]:
    """The files that this host is to take from the hub now, in order.

    :param keys: all files of the model, in an order that is the same on all hosts.
    :param whole: the hub gives all of them at once, so that one host takes all.
    """
    # A host that has the model, but has not said so yet, is waited for: what it has need not come from the hub.
    if any(look.seed and look.heard is None and is_there(look) for look in looks):
        return []
    able = [look for look in looks if is_there(look) and look.fetches and not look.seed and not look.refused]
    wanted, chosen = set(missing), []
    for number, key in enumerate(keys):
        if key in wanted and not holders(key, looks, not_from):
            names = [here] + [look.name for look in able if key not in look.have]
            if owner(0 if whole else number, order, names) == here:
                chosen.append(key)
    return chosen


def from_peer(
    here: str, order: Sequence[str], missing: Sequence[str], looks: Sequence[Look], not_from: NotFrom
) -> Optional[Tuple[str, str]]:
    """``(file, host)`` to take next: the file that the fewest have, from the host that sends the fewest; or None."""
    place = order.index(here)
    best: Optional[Tuple[Tuple[int, int], str, str]] = None
    for number, key in enumerate(sorted(missing)):
        every = holders(key, looks, not_from)
        ready = [look for look in every if not look.busy]
        # Hosts that begin at different files have something to give to each other soon.
        rank = (len(every), (number + place) % len(missing))
        if ready and (best is None or rank < best[0]):
            chosen = min(ready, key=lambda look: (look.load, (order.index(look.name) - place) % len(order)))
            best = (rank, key, chosen.name)
    return best and (best[1], best[2])


class Gives(NamedTuple):
    """What a host gives of one file: `pieces` as bits; `load`: answers that it sends now."""

    name: str
    pieces: int
    load: int


IDLE = 2  # answers; a host that sends fewer has room


def piece(wanted: int, own: int, gives: Sequence[Gives], chance: int) -> Optional[Tuple[int, int, str]]:
    """``(rank, piece, host)`` to take next of one file, or None; of several files, that with the least rank.

    A piece that one host alone has goes to each of the others from another one: so that host sends each about once,
    and the rest comes from those who have it from there.

    :param wanted: pieces that are missing and not under way, as bits. `own`: those that this host is to pass on first.
    :param chance: any number; hosts with different ones begin at different pieces.
    """
    once = several = 0
    for one in gives:
        several |= once & one.pieces
        once |= one.pieces
    rare = once & ~several
    for rank, pieces in enumerate((rare & own, several, rare)):
        for one in sorted(gives, key=lambda one: one.load):
            found = wanted & pieces & one.pieces
            if found and (rank < 2 or one.load < IDLE):
                return rank, _some_bit(found, chance), one.name
    return None


def _some_bit(bits: int, chance: int) -> int:
    """The number of a bit that is set."""
    start = chance % bits.bit_length()
    later = bits >> start
    return start + (later & -later).bit_length() - 1


def is_hopeless(missing: Sequence[str], looks: Sequence[Look], not_from: NotFrom) -> bool:
    """Whether no host has, or will fetch, what this one misses and cannot fetch itself."""
    for look in looks:
        if is_there(look) and not look.refused and (look.heard is None if look.seed else look.fetches):
            return False
    return not all(holders(key, looks, not_from) for key in missing)
