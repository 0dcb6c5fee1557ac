# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of `swarm.Swarm` that takes files in pieces."""

from __future__ import annotations

import random

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import http_client, peer_rules, pieces
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import SEGMENT, WrongFile, finish

POLL = 1.0  # s between two looks at another host
BUSY = 0.5  # s until a host that serves enough others is asked again
TIMEOUT = 15.0  # s without a byte, between hosts of one network
LEAST, WINDOW = 32 * 1024, 60.0  # bytes a second, over so many seconds: a slower host is left
AT_ONCE = 6  # pieces that are taken at the same time
MOST_OPEN = 32  # files that are put together of pieces at the same time
TWICE = 2  # files that were wrong, until none is taken in pieces any more
EARLIER = "an earlier run"  # whoever gave the part of a file that was there at the start


def client(timeout=TIMEOUT):
    """Asks other hosts: by no proxy, once, and at no other address than theirs."""
    return http_client.Client(timeout=timeout, retries=0, proxy="", follow=False)


class Pace:
    """Whether what comes from one host comes too slowly. A limit of this host's own makes it no host's fault."""

    def __init__(self, clock, limit):
        self._clock, self._limit, self._since, self._before = clock, limit, clock(), 0

    def is_slow(self, total):
        """To be asked again and again. `total`: bytes that have come so far."""
        now = self._clock()
        if now - self._since <= WINDOW:
            return False
        slow = total - self._before < LEAST * WINDOW and not self._limit.rate
        self._since, self._before = now, total
        return slow


class ByPieces:
    """A base of `Swarm`, whose files and hosts these are.

    ``_assemblies`` are the files that come so, by their keys, which are in ``_taken``, too; ``_whole`` those that must
    not.
    """

    def _is_cut(self, key):
        """Whether a missing file comes in pieces."""
        remotes = self._missing[key]
        return (
            len(remotes) == 1
            and key not in self._whole
            and len(self._whole) < TWICE
            and remotes[0].sha256 is not None
            and pieces.is_cut(remotes[0].size)
        )

    def _piece(self):
        """Take one piece from another host."""
        with self._lock:
            choice = self._choose()
            if not choice:
                return False
            _rank, number, peer, assembly, key = choice
            bit = 1 << number
            assembly.taken |= bit
            peer.asked += 1
        asks = self._client()
        came = False
        try:
            assembly.fetch(asks, "%s/piece/%s" % (peer.url, key), self.headers, number, self._counter(peer))
            came = True
        except http_client.HttpError as error:
            now = self._clock()
            if error.status == 503:
                peer.pieces_from = now + BUSY / 2
            elif error.status in (404, 410, 416):
                peer.parts = dict(peer.parts, **{key: peer.parts.get(key, 0) & ~bit})
                peer.pieces_from = now + (POLL if key in peer.have else 0)
            elif http_client.is_passing(error):
                peer.pieces_from = now + 4 * BUSY
            else:
                peer.no_pieces = True
        except Failure:
            peer.no_pieces = True
        finally:
            with self._lock:
                peer.asked -= 1
                assembly.taken &= ~bit
                if came:
                    assembly.mine |= bit
                    self._gave.setdefault(key, set()).add(peer.name)
                whole = came and assembly.mine == assembly.full and not assembly.taken
                assembly.over = assembly.over or whole
                gone = not whole and assembly.over and self._let_go(key)
        if whole:
            self._put_together(key, assembly)
        elif not gone:
            assembly.item.hash_on(SEGMENT)
        self._told[key] = (assembly.done_bytes(), [assembly.remote.path]) if not whole else self._told.get(key, (0, []))
        return True

    def _choose(self):
        """``(rank, number, peer, assembly, key)`` of the piece to take next, or None."""
        now, best = self._clock(), None
        open_for = [
            peer for peer in self.peers.values() if not (peer.refused or peer.no_pieces or now < peer.pieces_from)
        ]
        open_for = [peer for peer in open_for if peer_rules.is_there(self._look(peer))]
        for key in self._missing:
            assembly = self._assemblies.get(key)
            if not self._is_cut(key) or (assembly is None and key in self._taken):
                continue
            bad = self._not_from.get(key, frozenset())
            gives = [
                peer_rules.Gives(peer.name, -1 if key in peer.have else peer.parts.get(key, 0), peer.load + peer.asked)
                for peer in open_for
                if peer.name not in bad and (key in peer.have or peer.parts.get(key))
            ]
            if not gives:
                continue
            if assembly is None:
                if len(self._assemblies) >= MOST_OPEN:
                    continue
                assembly = self._begin(key)
            found = peer_rules.piece(assembly.wanted(), assembly.own, gives, random.randrange(assembly.count))
            if found and (best is None or found[0] < best[0]):
                best = (*found[:2], self.peers[found[2]], assembly, key)
        return best

    def _begin(self, key):
        remote = self._missing[key][0]
        self._taken.add(key)
        place, hosts = self.order.index(self.here), len(self.order)
        assembly = self._assemblies[key] = pieces.Assembly(remote, self.directory, place, hosts)
        self._gave[key] = {EARLIER} if assembly.mine else set()
        self._offered.grow(key, assembly.part)
        return assembly

    def _let_go(self, key):
        """Whether a file that came in pieces can be had otherwise now; it can not while pieces are under way."""
        assembly = self._assemblies[key]
        assembly.over = True
        if assembly.taken or assembly.mine == assembly.full:
            return False  # whoever brought the last piece puts it together
        del self._assemblies[key]
        self._taken.discard(key)
        self._offered.withdraw(key)
        assembly.close()
        return True

    def _put_together(self, key, assembly):
        """Verify a file whose last piece came."""
        here = False
        try:
            finish(assembly.item, self.publish)
            here = True
        except WrongFile as error:
            gave = self._gave.pop(key, set())
            self._whole.add(key)
            if len(gave) == 1 and all(key in self.peers[name].have for name in gave if name in self.peers):
                self._blame(self.peers[next(iter(gave))], key, assembly.remote, gave, error)
            else:
                self.warn(
                    "%s, put together of pieces from %s, is wrong: it is taken whole"
                    % (assembly.remote.path, ", ".join(sorted(gave)))
                )
        finally:
            with self._lock:
                del self._assemblies[key]
            self._told.pop(key, None)
            self._give_back([key], here)

    def _sync(self):
        with self._lock:
            parts = [assembly.part for assembly in self._assemblies.values()]
        for part in parts:
            try:
                part.sync()
            except OSError:
                pass  # finished and closed meanwhile; a real fault shows where it is finished

    def _client(self):
        """Of this thread: it keeps its connections."""
        if not hasattr(self._local, "client"):
            self._local.client = client()
        return self._local.client

    def _counter(self, peer):
        """What is called with the bytes that come of one piece, and ends it where they come too slowly."""
        pace, total = Pace(self._clock, self.limit), 0

        def came(count):
            nonlocal total
            self.limit.take(count)
            with self._lock:
                self.from_peers += count
                self._moved = self._clock()
            if self._error or self._hub_error:
                raise http_client.HttpError("another part of this run has failed")
            total += count
            if pace.is_slow(total):
                raise http_client.HttpError("host %s gives too slowly" % peer.name, 0)

        return came
