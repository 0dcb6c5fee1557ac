# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One host's part in a copy over several: it takes its share from the hub and the rest from the others, and gives what
it has verified. Who fetches what is in `peer_rules`; nobody leads.

Nothing that another host says is believed: a file counts once its own hash is the one that the catalog or the hub told
this host. Whoever gave another file is refused for the rest of the run, by name.

Large files go on in pieces, while they still come from the hub to one of the hosts (`pieces`). Where such a file is
wrong in the end it is taken whole, from a host that has verified it; so are all others, once that has happened twice.
"""

from __future__ import annotations

import os
import socket
import threading
import time

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import (
    host_port,
    is_loopback,
    is_private,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import http_client, peer_rules, pieces, swarm_pieces
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import SYNC_EVERY, Downloader, WrongFile
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.peer_server import NAME, Offered, PeerServer
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.swarm_pieces import BUSY, EARLIER, POLL

PULLS = 2  # files that are taken from other hosts at the same time
CONNECTIONS = 2  # of each of them
MOST_PARTS = 256 * 1024  # characters of what a host says that it has of one file
STALL = 600.0  # s without any byte until what others have is taken from elsewhere
SMALL = 16 * 1024 * 1024  # bytes of files that are taken from the hub in one go


def key_of(remote):
    """What a file is known by between the hosts; None for one without a hash, which only the hub can give."""
    return remote.sha256 or remote.git_sha1


def _thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def _own_address(name):
    """The address that a name of this host means here; OSError for one at which others should not, or cannot, ask."""
    try:
        address = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0]
    except UnicodeError:  # a label is empty, or too long
        raise OSError(0, "it is neither an address nor a name") from None
    if address != name and is_loopback(address):
        raise OSError(0, "it means %s on this host" % address)
    if not is_private(address) and not is_loopback(address):
        raise OSError(0, "%s is not an address of a network of your own" % address)
    return address


class _Peer:
    def __init__(self, told):
        self.name, self.address, self.port = told["name"], told["address"], told["port"]
        self.seed = bool(told.get("seed"))
        self.url = "http://%s" % host_port(self.address, self.port)
        self.have, self.parts = frozenset(), {}
        self.asked, self.no_pieces, self.pieces_from = 0, False, 0.0
        self.heard = None  # when
        self.listed = False  # it has told what it has
        self.away = ""  # why it could not be asked, where it never could
        self.fetches, self.refused, self.over, self.done = True, False, False, False
        self.told_done = False  # it was told that this host has all
        self.load, self.busy_until = 0, 0.0


class Swarm(swarm_pieces.ByPieces):
    """A context manager: the server runs, and the others are looked at, until its end.

    :param told: ``name`` (of this host), ``token``, ``members`` (of all hosts, in an order that all have in common:
        ``{name, address, port, seed}``).
    :param directory: where files are made.
    :param publish: as `Downloader` calls it; puts a verified file in its place.
    :param place_of: path of a file's place.
    :param warn: called with one line.
    :param limit: a `RateLimit`, over all that comes.
    """

    def __init__(self, told, directory, publish, place_of, warn, limit, report=None, clock=time.monotonic):
        self.here, self.directory = told["name"], directory
        self.members = told["members"]
        self.order = [item["name"] for item in self.members]
        self.own = next(item for item in told["members"] if item["name"] == self.here)
        self.peers = {item["name"]: _Peer(item) for item in told["members"] if item["name"] != self.here}
        self.headers = {"Authorization": "Bearer %s" % told["token"], NAME: self.here}
        self.publish, self.place_of, self.warn, self.limit, self.report = publish, place_of, warn, limit, report
        self.from_peers = 0  # bytes
        self.state, self.fetches = "busy", True
        self.sharers = 1  # hosts that take large files from the hub at the same time
        self._clock, self._since = clock, clock()
        self._offered = Offered()
        self._lock = threading.Condition()
        self._missing, self._taken, self._not_from, self._gave = {}, set(), {}, {}
        self._assemblies, self._whole = {}, set()
        self._error, self._hub_error = None, None
        self._told, self._total, self._moved = {}, 0, clock()
        self._ends = threading.Event()
        self._server = None
        self._token = told["token"]
        self._local = threading.local()

    # --- its life ---

    def __enter__(self):
        try:
            address = _own_address(self.own["address"])
            self._server = PeerServer(address, self.own["port"], self._token, self._offered, self._status, self._heard)
            self._server.start()
        except OSError as error:
            self.warn(
                "nothing is given to other hosts: %s port %d: %s (model_peer_address, model_peer_port)"
                % (self.own["address"], self.own["port"], error.strerror or error)
            )
        for peer in self.peers.values():
            _thread(self._follow, peer)
        return self

    def __exit__(self, *_error):
        self._ends.set()
        # Nobody needs to wait for this host any more, whether it has all or failed.
        farewells = [_thread(self._ask, peer, "over", 2.0) for peer in self.peers.values()]
        for thread in farewells:
            thread.join(4.0)
        if self._server:
            self._server.stop()

    def stay(self):
        """All is here: give it to the others until they have all, too, or are gone."""
        self.state = "done"
        while any(self._awaits(peer) for peer in self.peers.values()):
            time.sleep(0.1)
        # Else nobody would know why the hub gave the model so many times.
        for peer in self.peers.values():
            if peer.away and not peer.listed and not peer.over:
                self.warn(
                    "host %s was not reached, and nothing was shared with it: %s (a firewall? model_peer_address, "
                    "model_peer_port)" % (peer.name, peer.away)
                )

    def _awaits(self, peer):
        return peer_rules.is_awaited(self._look(peer), peer.done and peer.told_done)

    # --- what the hosts tell each other ---

    def _status(self):
        # Its state before what it has: one that says that it is through has to say all that it got, or the others fetch
        # that again, or give up.
        state, fetches = self.state, self.fetches
        parts = {key: "%x" % bits for key, bits in self._offered.growing(pieces.unit_of).items()}
        return {
            "have": sorted(self._offered.files),
            "parts": parts,
            "fetches": fetches and state == "busy",
            "done": state == "done",
            "load": self._offered.load(),
        }

    def _heard(self, name, state):
        peer = self.peers.get(name)
        if peer:
            peer.heard = self._clock()
            peer.over = peer.over or state == "over"
            peer.done = state == "done"
            peer.told_done = peer.told_done or self.state == "done"

    def _follow(self, peer):
        client = swarm_pieces.client(5)
        while not self._ends.is_set() and not peer.over:
            self._ask(peer, self.state, client=client)
            self._ends.wait(POLL)

    def _ask(self, peer, state, timeout=5.0, client=None):
        client = client or swarm_pieces.client(timeout)
        url = "%s/status" % peer.url
        try:
            body, _headers, _url = client.read("%s?state=%s" % (url, state), self.headers, 1024 * 1024)
            found = foreign.parse(body, url)
            have = frozenset(found.texts("have"))
            told = found.mapping("parts", None)
            parts = {
                key: int(value.text("", most=MOST_PARTS, pattern="[0-9a-f]+"), 16)
                for key, value in (told.entries() if told else ())
            }
            fetches, done, load = found.flag("fetches"), found.flag("done"), found.count("load")
        except http_client.HttpError as error:
            peer.away = str(error)  # or not there yet
            return
        except Failure as error:
            self._refuse(peer, "answers as none: %s" % error)
            return
        peer.parts = parts
        peer.have, peer.fetches, peer.done, peer.load = have, fetches, done, load
        peer.listed = True
        peer.heard = self._clock()
        peer.told_done = peer.told_done or state == "done"
        with self._lock:
            self._lock.notify_all()

    def _refuse(self, peer, why):
        with self._lock:
            if peer.refused:
                return
            peer.refused = True
        self.warn("host %s %s: nothing more is taken from it" % (peer.name, why))

    def _look(self, peer):
        now = self._clock()
        # What it has and whether it fetches it tells together, when it is asked. Its own questions tell only that it is
        # there, and may come before: one that has the model, or is done with it, would seem to have nothing.
        heard = None if peer.seed and not peer.listed else peer.heard
        return peer_rules.Look(
            peer.name, peer.have, None if heard is None else now - heard, now - self._since, peer.seed,
            peer.fetches, peer.refused, peer.over, peer.load, now < peer.busy_until,
        )  # fmt: skip

    def _looks(self):
        return [self._look(peer) for peer in self.peers.values()]

    # --- files ---

    def offer(self, key, path):
        """Give a file that lies in its place, verified."""
        self._offered.offer(key, path, os.path.getsize(path))

    def growing(self, remote, part):
        """Give what is there of a file that the hub gives."""
        if key_of(remote) and pieces.is_cut(remote.size):
            self._offered.grow(key_of(remote), part)

    def bring(self, files, missing, fetch, whole=False):
        """Bring all of ``missing``; raises the hub's error as soon as there is one.

        :param files: all `Remote` files of the model.
        :param fetch: brings a list of files from the hub and publishes them, with a `report` as `Downloader` calls it;
            None: there is no hub, and what others have or bring is taken.
        :param whole: the hub gives all files at once.
        """
        lacking = set(remote.path for remote in missing)
        known = sorted((remote for remote in files if key_of(remote)), key=lambda remote: remote.path)
        for remote in known:
            if remote.path not in lacking:
                self.offer(key_of(remote), self.place_of(remote))
        large = len([remote for remote in known if pieces.is_cut(remote.size)])
        self.sharers = max(1, min(large, len([item for item in self.members if not item.get("seed")])))
        self._keys = list(dict.fromkeys(key_of(remote) for remote in known))
        self._total = sum(remote.size for remote in missing)
        self._told, self._error, self._hub_error = {}, None, None
        self._moved = self._clock()
        self.fetches = fetch is not None
        unknown = [remote for remote in missing if not key_of(remote)]
        if unknown and fetch:
            fetch(unknown, self._teller(""))
        # Two names of the same content: each is fetched for itself.
        self._missing = {}
        self._whole = set()
        for remote in missing:
            if key_of(remote):
                self._missing.setdefault(key_of(remote), []).append(remote)
        steps = (
            [self._pull] * PULLS
            + [self._piece] * swarm_pieces.AT_ONCE
            + ([lambda: self._from_hub(fetch, whole)] if fetch else [])
        )
        threads = [_thread(self._work, step) for step in steps]
        synced = self._clock()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)
                self._tell()
                if self._clock() - synced > SYNC_EVERY:
                    self._sync()
                    synced = self._clock()
        for key in list(self._assemblies):
            self._let_go(key)
        error = self._error or self._hub_error
        if error:
            raise error
        if self._missing or (unknown and not fetch):
            raise Failure(
                "no other host has, or is about to fetch, %d of its files" % (len(self._missing) + len(unknown)),
                "see why the hub did not answer",
            )

    def _tell(self):
        if self.report:
            told = list(self._told.values())
            self.report(
                sum(here for here, _paths in told), self._total, [path for _here, paths in told for path in paths]
            )

    def _teller(self, key):
        """A report of what came of some files; "" is of those from the hub."""
        seen = [-1]

        def report(here, _total, paths):
            if here != seen[0]:
                seen[0], self._moved = here, self._clock()
            self._told[key] = (here, paths)

        return report

    def _work(self, step):
        try:
            while not self._over():
                if not step():
                    with self._lock:
                        self._lock.wait(0.2)
        except Exception as error:  # whatever it is, the other threads must not wait for this one's file
            self._error = self._error or error

    def _over(self):
        if self._error or self._hub_error or not self._missing:
            return True
        return not self.fetches and peer_rules.is_hopeless(list(self._missing), self._looks(), self._not_from)

    def _take(self, keys):
        """The files of ``keys`` that no other thread has taken meanwhile, as lists of `Remote`."""
        taken = [key for key in keys if key in self._missing and key not in self._taken]
        self._taken.update(taken)
        return taken

    def _give_back(self, keys, here):
        with self._lock:
            self._taken.difference_update(keys)
            for key in keys if not here else ():
                self._offered.withdraw(key)
            for key in keys if here else ():
                remotes = self._missing.pop(key)
                self.offer(key, self.place_of(remotes[0]))
                self._told[key] = (sum(remote.size for remote in remotes), [])
            self._lock.notify_all()

    def _free(self):
        return [key for key in self._missing if key not in self._taken]

    def _from_hub(self, fetch, whole):
        """Take a share from the hub: one large file at a time, so that others have it soon."""
        with self._lock:
            # One that comes in pieces is this host's to fetch where its owner has gone.
            free = self._free() + list(self._assemblies)
            keys = peer_rules.from_hub(self.here, self.order, self._keys, free, self._looks(), self._not_from, whole)
            keys = [key for key in keys if key not in self._assemblies or self._let_go(key)]
            if whole and len(self._free()) < len(self._missing):
                keys = []  # until what others give is here: the hub gives all at once
            batch, size = [], 0
            for key in keys:
                size += sum(remote.size for remote in self._missing[key])
                if batch and size > SMALL and not whole:
                    break
                batch.append(key)
            batch = self._take(batch)
        if not batch:
            return False
        here = False
        try:
            fetch([remote for key in batch for remote in self._missing[key]], self._teller(""))
            here = True
        except Failure as error:
            self.fetches = False
            self._hub_error = error
        finally:
            self._told.pop("", None)
            self._give_back(batch, here)
        return True

    def _pull(self):
        """Take one file from another host."""
        if self._clock() - self._moved > STALL:
            self._whole.update(self._missing)
            for key in self._free():
                self._avoid(key, frozenset(look.name for look in peer_rules.holders(key, self._looks(), {})))
        with self._lock:
            free = [key for key in self._free() if not self._is_cut(key)]
            choice = peer_rules.from_peer(self.here, self.order, free, self._looks(), self._not_from)
            taken = self._take([choice[0]]) if choice else []
        if not taken:
            return False
        key, peer = choice[0], self.peers[choice[1]]
        here = False
        try:
            brought = [self._bring_from(peer, key, remote) for remote in self._missing[key]]
            here = all(brought)
        finally:
            self._give_back([key], here)
        return True

    def _bring_from(self, peer, key, remote):
        """Whether the peer gave the file. What it gave so far is kept for the next one, unless it was wrong."""
        gave = self._gave.setdefault(key, set())
        if not gave and os.path.exists(os.path.join(self.directory, remote.path)):
            gave.add(EARLIER)
        broken = []

        def publish(*verified):
            try:
                self.publish(*verified)
            except Exception as error:  # not the peer's fault
                broken.append(error)
                raise

        client = swarm_pieces.client()
        tell, pace = self._teller(key), swarm_pieces.Pace(self._clock, self.limit)

        def report(here, total, paths):
            tell(here, total, paths)
            if pace.is_slow(downloader.transferred):
                slow = "host %s gives %s too slowly" % (peer.name, remote.path)
                downloader.stop(http_client.HttpError(slow, 404))

        downloader = Downloader(
            client, self.directory, publish, connections=CONNECTIONS, files_at_once=1, limit=self.limit, report=report
        )
        try:
            downloader.run([remote._replace(url="%s/file/%s" % (peer.url, key), headers=self.headers)])
            return True
        except WrongFile as error:
            if downloader.transferred:
                gave.add(peer.name)
            self._told.pop(key, None)
            self._blame(peer, key, remote, gave, error)
            self._gave[key] = set()
        except http_client.HttpError as error:
            if error.status == 503:
                peer.busy_until = self._clock() + BUSY
            elif http_client.is_passing(error):
                peer.busy_until = self._clock() + 4 * BUSY
            elif error.status in (404, 410):
                self._avoid(key, frozenset([peer.name]))
            else:
                self._refuse(peer, "does not give %s: %s" % (remote.path, error))
        except Failure as error:
            if broken:
                raise
            self._refuse(peer, "does not give %s: %s" % (remote.path, error))
        finally:
            self.from_peers += downloader.transferred
            if downloader.transferred:
                gave.add(peer.name)
        return False

    def _avoid(self, key, names):
        self._not_from[key] = self._not_from.get(key, frozenset()) | names

    def _blame(self, peer, key, remote, gave, error):
        """A file is not what it should be. Who gave all of it is refused; of several, none gives that file again."""
        if gave == {peer.name}:
            self._refuse(peer, "gave another file: %s" % error)
            return
        self._avoid(key, frozenset(gave - {EARLIER}))
        self.warn("%s, which %s gave in parts, is wrong: it is fetched again from others" % (
            remote.path, " and ".join(sorted(gave))))  # fmt: skip
