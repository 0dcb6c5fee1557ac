# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One model brought into Ollama's store and memory, or taken out: what module ollama_model does."""

from __future__ import annotations

import os
import re
import time
from typing import Any, Callable, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import ollama, ollama_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import EngineFailure
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama_api import Api
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama_notes import Notes, identity
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.disk import shortage, space
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import sha256_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store

UPLOAD_TRIES = 3
UPLOAD_PAUSE_S = 2.0
UNLOAD_S = 60.0  # that a runner may take to end
GOING_S = 3.0  # that a model may be told of whose time is over
_GOT = re.compile(r'got \\*"(sha256:[0-9a-f]{64})')


def store_sha256(path: str) -> Optional[str]:
    """The sha256 of an unchanged file of the model store, from its manifest."""
    directory, manifest = model_store.find_manifest(path)
    for item in manifest["files"] if manifest else []:
        if os.path.join(directory, item["path"]) == path and [item["bytes"], item["mtime_ns"]] == identity(path)[:2]:
            return item["sha256"]
    return None


class Job:
    """One run of the module. `params`: its options; `warn`: tells a line; `check`: Ansible's check mode."""

    def __init__(
        self,
        params: Dict[str, Any],
        api: Api,
        wanted: ollama.Modelfile,
        progress: Progress,
        warn: Callable[[str], object],
        check: bool,
    ) -> None:
        self.params, self.api, self.wanted, self.progress, self.warn = params, api, wanted, progress, warn
        self.name = params["name"]
        self.check = check
        self.dry = check or params["probe"]
        self.notes = Notes(params["state_file"])
        self.key = "%s %s" % (api.endpoint.url, ollama.qualified(self.name))
        self.hashed = self.uploaded = 0

    def absent(self) -> Dict[str, Any]:
        show = self._reach(lambda: self.api.show(self.name))
        if show and not self.dry:
            # One that is deleted while it is loaded stays in memory.
            self.api.unload(self.name)
            self.api.delete(self.name)
        if self.notes.models.pop(self.key, None) and not self.dry:
            self.notes.write()
        return self._result(["model"] if show else [], self._shown(show), "", None)

    def present(self) -> Dict[str, Any]:
        self._check_version()
        show = self._reach(lambda: self.api.show(self.name))
        digest = self._digest() if show else None
        weights = self._weights()
        wrong = self._wrong(show, digest, weights)
        self._require_ours(show, wrong)
        before = self._shown(show)
        if wrong and not self.dry:
            self._make(weights)
            show, digest = self.api.show(self.name), self._digest()
            self._confirm(show, digest, weights)
        if not wrong and not self.dry and not self._noted(digest, weights):
            self.notes.models[self.key] = self._note(digest, weights)
            self.notes.write()
        loaded = None if wrong and self.dry else self._load(show, digest, bool(wrong))
        after = self._shown_wanted(weights) if wrong and self.dry else self._shown(show)
        return self._result(wrong, before, after, digest, loaded)

    # --- what there is, and what there should be ---

    def _reach(self, ask: Any) -> Any:
        """What `ask` returns; None in check mode on a bare host, or one whose server is stopped."""
        try:
            return ask()
        except EngineFailure as error:
            if self.check and error.retry:
                self.warn("%s; what it has is not known" % error)
                return None
            raise

    def _check_version(self) -> None:
        if any(name in ollama.SINCE for name in self.wanted.parameters):
            wrong = ollama.too_new(self.wanted.parameters, self._reach(self.api.version) or "")
            if wrong:
                raise Failure(wrong, "Leave it out, or deploy a newer version.", "usage")

    def _digest(self) -> Optional[str]:
        entry = ollama.find(self.api.tags(), self.name)
        return entry["digest"] if entry else None

    def _weights(self) -> Optional[str]:
        """Digest of the wanted weights; None where it cannot be known before something is done."""
        path = self.params["path"]
        if not path:
            base = self._reach(lambda: self.api.show(self.params["pull"]))
            return ollama.weights_digest(base.get("modelfile") or "") if base else None
        if not os.path.exists(path):
            if self.check:
                self.warn("%s is not here yet" % path)
                return None
            raise Failure("%s does not exist on this host" % path, "Give the path of a GGUF file.")
        wrong = model_store.wrong_weights(path)
        if wrong:
            raise Failure(wrong, "Give the path of a GGUF file.")
        path = os.path.realpath(path)
        sha256 = self.params["sha256"] or store_sha256(path) or self.notes.sha256(path)
        if sha256 is None and not self.dry:
            sha256 = self._hash(path)
        return "sha256:" + sha256 if sha256 else None

    def _hash(self, path: str) -> str:
        self.progress.begin("hash %s" % os.path.basename(path), os.path.getsize(path))

        def report(count: int) -> None:
            self.hashed += count
            self.progress.update(self.hashed)

        sha256 = sha256_of(path, report)
        self.notes.note_file(path, sha256)
        return sha256

    def _note(self, digest: Optional[str], weights: Optional[str]) -> Dict[str, Any]:
        return {"digest": digest, "weights": weights, "request": self.wanted.request(), "of": self.params["of"]}

    def _noted(self, digest: Optional[str], weights: Optional[str]) -> bool:
        """Whether an earlier run has made exactly this."""
        note = self.notes.models.get(self.key) or {}
        return {name: value for name, value in note.items() if name != "loaded"} == self._note(digest, weights)

    def _wrong(self, show: Optional[Dict[str, Any]], digest: Optional[str], weights: Optional[str]) -> List[str]:
        """What is not as wanted. A model that is the very one made by an earlier run is known by its digest."""
        if show is None:
            return ["model"]
        note = self.notes.models.get(self.key)
        if not note or note.get("digest") != digest:
            # An own file that nobody has hashed yet could be any.
            unknown = ["weights"] if weights is None and self.params["path"] else []
            return unknown + ollama.differences(show, weights, self.wanted)
        if (note.get("weights"), note.get("request")) == (weights, self.wanted.request()):
            return []
        found = ollama.differences(show, None, self.wanted)
        if note.get("weights") != weights:
            found.insert(0, "weights")
        # What is no longer asked for cannot be seen in what is there.
        return found or ["Modelfile"]

    def _require_ours(self, show: Optional[Dict[str, Any]], wrong: List[str]) -> None:
        """Failure where a model of this name would be replaced that somebody else has made, or pulled: the server drops
        what it was made of, too."""
        if show and wrong and ollama.qualified(self.name).lower() not in self.notes.made():
            raise Failure(
                "Ollama has a model %s already, which dsdeploy has not made (it differs in: %s)"
                % (self.name, ", ".join(wrong)),
                "Serve under another name (ollama_served_model_name), or keep it by another name and remove this one: "
                "`ollama cp {0} NAME`, `ollama rm {0}`.".format(self.name),
            )

    # --- what is done ---

    def _make(self, weights: Optional[str]) -> None:
        # Before the first of it is there: a run that is cut has made it all the same.
        self.notes.models.setdefault(self.key, {"of": self.params["of"]})
        self.notes.write()
        request = dict(self.wanted.request(), model=self.name)
        if self.params["path"]:
            self._upload(self.params["path"], weights or "")
            request["files"] = {os.path.basename(self.params["path"]): weights}
        else:
            if weights is None:
                self._follow("pull", self.api.pull(self.params["pull"], self.params["load_timeout"]))
            if ollama.qualified(self.params["pull"]) == ollama.qualified(self.name) and not self.wanted.request():
                return
            request["from"] = self.params["pull"]
        self._follow("create", self.api.create(request, self.params["load_timeout"]))

    def _upload(self, path: str, digest: str) -> None:
        size = os.path.getsize(path)
        for attempt in range(1, UPLOAD_TRIES + 1):
            try:
                if self.api.has_blob(digest):
                    return
                self._make_room(size)
                self.progress.begin("upload %s" % os.path.basename(path), size)
                self.api.upload(path, digest, self.progress.update, self.params["load_timeout"])
                self.uploaded += size
                return
            except EngineFailure as error:
                other = _GOT.search(str(error))
                if other and self.params["models_dir"]:
                    # The server keeps what came, under its own digest.
                    ollama_store.remove_blob(self.params["models_dir"], other.group(1))
                if not error.retry or attempt == UPLOAD_TRIES:
                    error.hint = "Run it again: the file need not be hashed again." if error.retry else error.hint
                    raise
                self.warn("%s; it is sent again" % error)
                time.sleep(UPLOAD_PAUSE_S * attempt)

    def _make_room(self, size: int) -> None:
        """Remove what uploads to a killed server left (Ollama itself does at a start that is an hour later), and look
        whether the upload then fits. Raises Failure."""
        directory = self.params["models_dir"]
        if not directory or not os.path.isdir(directory):
            return
        for path in ollama_store.leftovers(directory):
            freed = ollama_store.remove_file(path)
            self.warn("%s is removed: an interrupted upload left it (%s)" % (path, mib(freed)))
        mount, free = space(directory)
        if free < size:
            held = ["%s (%s)" % (one["name"], mib(one["bytes"])) for one in self._copies()]
            raise Failure(
                shortage(mount, size, free, ["Ollama's copy in " + directory]),
                "Its other models are %s: `down --purge-model NAME` or `ollama rm NAME`." % ", ".join(held)
                if held
                else "Free space there, or set ollama_models_dir.",
            )

    def _follow(self, what: str, states: Any) -> None:
        """Show a stream of states as progress."""
        stage = None
        for state in states:
            if (state.get("status"), state.get("total")) != stage:
                stage = (state.get("status"), state.get("total"))
                self.progress.begin("%s: %s" % (what, state.get("status")), state.get("total"))
            self.progress.update(state.get("completed") or 0)

    def _confirm(self, show: Optional[Dict[str, Any]], digest: Optional[str], weights: Optional[str]) -> None:
        """What the server has now is what it was told to make."""
        left = ["model"] if show is None else ollama.differences(show, None, self.wanted)
        if left:
            raise Failure(
                "Ollama says that %s was made, but it has another %s" % (self.name, ", ".join(left)),
                "Compare with `ollama show %s`." % self.name,
            )
        if weights is None and show:
            weights = ollama.weights_digest(show.get("modelfile") or "")
        self.notes.models[self.key] = self._note(digest, weights)
        self.notes.write()

    # --- in memory ---

    def _load(self, show: Optional[Dict[str, Any]], digest: Optional[str], made: bool) -> Optional[Dict[str, Any]]:
        """The entry of /api/ps. Judged is never a runner that was loaded for another model than the one of now."""
        if not self.params["load"]:
            return None
        entry = ollama.find(self.api.ps(), self.name)
        if made or entry is None or not self._is_current(entry, show or {}, digest):
            if self.dry:
                return None
            entry = self._loaded(digest)
        problem = self._placement(entry, show)
        if problem and not self.dry and entry.get("digest") != digest:
            # A runner that needs no other options stays; one that puts layers elsewhere is not what is wanted.
            self._unload()
            entry = self._loaded(digest)
            problem = self._placement(entry, show)
        if problem:
            raise Failure(problem[0], problem[1], "verify")
        return entry

    def _is_current(self, entry: Dict[str, Any], show: Dict[str, Any], digest: Optional[str]) -> bool:
        """Whether a loaded model is the one that is in the store, in the context that it asks for."""
        note = self.notes.models.get(self.key) or {}
        if entry.get("digest") not in (digest, note.get("loaded")):
            return False
        return ollama.expected_context(show) in (None, entry.get("context_length") or None)

    def _loaded(self, digest: Optional[str]) -> Dict[str, Any]:
        """Load the model; returns its entry."""
        self.progress.begin("load %s" % self.name)
        # Loading one that is loaded already, with the same options, takes no time.
        self.api.load(self.name, self.params["load_timeout"])
        running = self.api.ps()
        entry = ollama.find(running, self.name)
        if entry is None and running:
            # The weights are loaded by another name of theirs, and only that is told.
            self._unload()
            self.api.load(self.name, self.params["load_timeout"])
            entry = ollama.find(self.api.ps(), self.name)
        if entry is not None and ollama.is_over(entry, time.time()):
            # It is told of until the request that loaded it has ended.
            deadline = time.monotonic() + GOING_S
            while entry is not None and time.monotonic() < deadline:
                time.sleep(0.1)
                entry = ollama.find(self.api.ps(), self.name)
        if entry is None:
            raise Failure("%s was loaded, and unloaded again at once" % self.name, "Raise OLLAMA_KEEP_ALIVE.")
        note = self.notes.models.get(self.key)
        if note and note.get("loaded", digest) != entry.get("digest"):
            note["loaded"] = entry.get("digest")
            self.notes.write()
        return entry

    def _unload(self) -> None:
        """Unload the runner of our weights, and wait until it is gone."""
        before = len(self.api.ps())
        self.api.unload(self.name)
        deadline = time.monotonic() + UNLOAD_S
        while before and len(self.api.ps()) >= before and time.monotonic() < deadline:
            time.sleep(0.1)

    def _placement(self, entry: Dict[str, Any], show: Optional[Dict[str, Any]]) -> Any:
        if self.params["cpu_share"] < 0:
            return None
        parameters = ollama.parse_parameters((show or {}).get("parameters") or "")
        return ollama.placement_problem(
            entry, self.params["cpu_share"], parameters, self.params["layers"], self.params["context"]
        )

    # --- the result ---

    def _shown(self, show: Optional[Dict[str, Any]]) -> str:
        if show is None:
            return ""
        texts = {name: show.get(name) for name in ("template", "system", "license")}
        parameters = ollama.parse_parameters(show.get("parameters") or "")
        return ollama.shown(ollama.weights_digest(show.get("modelfile") or ""), parameters, texts)

    def _shown_wanted(self, weights: Optional[str]) -> str:
        licence = "\n".join(self.wanted.licence or [])
        texts = {"template": self.wanted.template, "system": self.wanted.system, "license": licence}
        return ollama.shown(weights, self.wanted.parameters, texts)

    def _copies(self) -> List[Dict[str, Any]]:
        """The other models of the store, each of which is a copy on the disk."""
        if not self.params["models_dir"]:
            return []
        stored = ollama_store.models(self.params["models_dir"])
        ours = ollama_store.ours(stored, self.notes.made())
        own = ollama.qualified(self.name).lower()
        return [
            dict(name=one.name, bytes=one.alone, ours=one.name in ours) for one in stored if one.name.lower() != own
        ]

    def _result(
        self, wrong: List[str], before: str, after: str, digest: Optional[str], loaded: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        waits_for_load = self.params["state"] == "present" and self.params["load"] and loaded is None
        copies = self._copies() if self.params["state"] == "present" else []
        ours = ["%s (%s)" % (one["name"], mib(one["bytes"])) for one in copies if one["ours"]]
        if wrong and ours and not self.params["probe"]:
            self.warn(
                "Ollama's store still holds what dsdeploy made earlier: %s; `down --purge-model NAME` removes it"
                % ", ".join(ours)
            )
        return dict(
            changed=bool(wrong) and not self.params["probe"],
            complete=not wrong and not waits_for_load,
            digest=digest,
            differences=wrong,
            hashed_bytes=self.hashed,
            uploaded_bytes=self.uploaded,
            loaded=loaded,
            copies=copies,
            diff=dict(before=before, after=after),
        )
