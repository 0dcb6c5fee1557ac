#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_model
short_description: A model in Ollama's store, over its HTTP API
version_added: 1.0.0
description:
  - Makes a model out of a GGUF file of the host or of a model that Ollama pulls, with the parameters and texts that a
    Modelfile would hold, and loads it.
  - What the server has decides whether anything is done. The file is read to hash it once only, and sent only where
    the server has no blob of its digest.
  - An upload that is cut is begun again; Ollama's API cannot continue one. Nothing of a cut upload is ever served.
  - Ollama from 0.30 on writes a model's weights anew when it is made. They are then told by the digest of the model
    that this module has noted in O(state_file).
  - Shows its progress while it runs.
author:
  - The dsdeploy developers (@dsdeploy)
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.progress
attributes:
  check_mode:
    support: full
    details:
      - Reads what the server has. Where it does not answer yet, or a file is not hashed yet, it says so.
  diff_mode:
    support: full
    details:
      - Shows the model before and after, as lines of a Modelfile.
  idempotent:
    support: full
    details:
      - Loading a model is no change.
options:
  name:
    description: Name of the model in Ollama, with or without a tag.
    type: str
    required: true
  state:
    description: Whether the model is there.
    type: str
    choices: [present, absent]
    default: present
  url:
    description: Base URL of the server.
    type: str
    default: http://127.0.0.1:11434
  path:
    description: GGUF file on the host, one that is not split.
    type: path
  sha256:
    description:
      - The sha256 of O(path), where it is known. Else it is taken from the model store's manifest or O(state_file), as
        long as the file is unchanged since, and computed where neither knows it.
    type: str
  pull:
    description: Model to pull from Ollama's registry, to be served as it is or to make O(name) from.
    type: str
  parameters:
    description:
      - Parameters of the Modelfile, such as V(num_ctx), V(num_gpu), V(temperature), V(stop).
      - A name that Ollama does not know is refused, since Ollama would ignore it.
    type: dict
    default: {}
  template:
    description: Prompt template, in Go's template language. Without it Ollama takes the one that the file has.
    type: str
  system:
    description: System message.
    type: str
  license:
    description: Texts of the licence.
    type: list
    elements: str
  state_file:
    description: File in which digests of files and models are noted. Its directory must exist.
    type: path
    default: /var/lib/dsdeploy/ollama-models.json
  load:
    description: Load the model into memory.
    type: bool
    default: false
  load_timeout:
    description: Seconds that loading, or one step of making the model, may take.
    type: int
    default: 3600
  cpu_share:
    description:
      - The share (0 to 1) of the model that may lie in the host's memory, as RV(dsdeploy.llm.model_fit#module:fit)
        predicts it. More is a failure, which says why. Negative is not checked. Needs O(load).
    type: float
    default: -1
  layers:
    description: Layers of the model with its output layer, for the reason of such a failure. V(0) is unknown.
    type: int
    default: 0
  context:
    description: Tokens of context that were planned, for the reason of such a failure. V(0) is unknown.
    type: int
    default: 0
  probe:
    description:
      - Change nothing. Answers C(complete=false) where something is to be done.
      - The action plugin asks so first, because a run with nothing to do needs no job in the background.
    type: bool
    default: false
seealso:
  - module: dsdeploy.llm.gguf_merge
  - module: dsdeploy.llm.model_fit
"""

EXAMPLES = r"""
- name: Serve DeepSeek R1 with all its layers on the GPUs
  dsdeploy.llm.ollama_model:
    name: DeepSeek-R1-Q4_K_M
    path: /data/models/DeepSeek-R1-Q4_K_M.gguf
    parameters:
      num_gpu: 62
      num_ctx: 8192
      temperature: 0.6
    template: "<｜User｜>{{ '{{ .System }} {{ .Prompt }}' }}<｜Assistant｜>"
    load: true
    cpu_share: 0

- name: Pull one
  dsdeploy.llm.ollama_model:
    name: deepseek-r1:7b
    pull: deepseek-r1:7b

- name: Remove it
  dsdeploy.llm.ollama_model:
    name: deepseek-r1:7b
    state: absent
"""

RETURN = r"""
digest:
  description: Digest of the model in Ollama. Null where it is not there, or not yet.
  returned: success
  type: str
differences:
  description: What was not as wanted, or is not in check mode.
  returned: success
  type: list
  elements: str
  sample: [parameter num_gpu]
hashed_bytes:
  description: Bytes of O(path) that were read to hash it.
  returned: success
  type: int
uploaded_bytes:
  description: Bytes that were sent to the server.
  returned: success
  type: int
loaded:
  description: The model's entry in C(/api/ps). Null where it was not to be loaded.
  returned: success
  type: dict
complete:
  description: Whether nothing was to be done.
  returned: with O(probe)
  type: bool
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(usage), V(preflight), or V(verify) for a model that was loaded elsewhere than predicted.
  returned: failure
  type: str
"""

import json
import os
import time
from typing import Any, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import ollama
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama_api import Api, OllamaError
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import sha256_of, write_durably
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store

UPLOAD_TRIES = 3
UPLOAD_PAUSE_S = 2.0


class Notes:
    """What is known of files and models from earlier runs: `files` by path, `models` by URL and name."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with open(path, encoding="utf-8") as handle:
                found = json.load(handle)
            self.files, self.models = dict(found["files"]), dict(found["models"])
        except (OSError, ValueError, KeyError, TypeError):
            self.files, self.models = {}, {}

    def write(self) -> None:
        text = json.dumps({"files": self.files, "models": self.models}, indent=1, sort_keys=True)
        write_durably(self.path, text + "\n")

    def sha256(self, path: str) -> Optional[str]:
        note = self.files.get(path)
        return note["sha256"] if note and [note["bytes"], note["mtime_ns"], note["inode"]] == identity(path) else None

    def note_file(self, path: str, sha256: str) -> None:
        size, mtime_ns, inode = identity(path)
        self.files[path] = {"bytes": size, "mtime_ns": mtime_ns, "inode": inode, "sha256": sha256}
        self.write()


def identity(path: str) -> List[int]:
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def store_sha256(path: str) -> Optional[str]:
    """The sha256 of an unchanged file of the model store, from its manifest."""
    directory, manifest = model_store.find_manifest(path)
    for item in manifest["files"] if manifest else []:
        if os.path.join(directory, item["path"]) == path and [item["bytes"], item["mtime_ns"]] == identity(path)[:2]:
            return item["sha256"]
    return None


class Job:
    """One run of the module."""

    def __init__(self, module: AnsibleModule, api: Api, wanted: ollama.Modelfile, progress: Progress) -> None:
        self.module, self.api, self.wanted, self.progress = module, api, wanted, progress
        self.params = module.params
        self.name = self.params["name"]
        self.dry = module.check_mode or self.params["probe"]
        self.notes = Notes(self.params["state_file"])
        self.key = "%s %s" % (api.endpoint.url, ollama.qualified(self.name))
        self.hashed = self.uploaded = 0

    def absent(self) -> Dict[str, Any]:
        show = self._reach(lambda: self.api.show(self.name))
        if show and not self.dry:
            self.api.delete(self.name)
        if self.notes.models.pop(self.key, None) and not self.dry:
            self.notes.write()
        return self._result(["model"] if show else [], self._shown(show), "", None)

    def present(self) -> Dict[str, Any]:
        show = self._reach(lambda: self.api.show(self.name))
        digest = self._digest() if show else None
        weights = self._weights()
        wrong = self._wrong(show, digest, weights)
        before = self._shown(show)
        if wrong and not self.dry:
            self._make(weights)
            show, digest = self.api.show(self.name), self._digest()
            self._confirm(show, digest, weights)
        if not wrong and not self.dry and self.notes.models.get(self.key) != self._note(digest, weights):
            self.notes.models[self.key] = self._note(digest, weights)
            self.notes.write()
        loaded = None if wrong and self.dry else self._load(show)
        after = self._shown_wanted(weights) if wrong and self.dry else self._shown(show)
        return self._result(wrong, before, after, digest, loaded)

    # --- what there is, and what there should be ---

    def _reach(self, ask: Any) -> Any:
        """What `ask` returns; None in check mode on a bare host, or one whose server is stopped."""
        try:
            return ask()
        except OllamaError as error:
            if self.module.check_mode and error.passing:
                self.module.warn("%s; what it has is not known" % error)
                return None
            raise

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
            if self.module.check_mode:
                self.module.warn("%s is not here yet" % path)
                return None
            raise OllamaError("%s does not exist on this host" % path, "Give the path of a GGUF file.")
        wrong = model_store.wrong_weights(path)
        if wrong:
            raise OllamaError(wrong, "Give the path of a GGUF file.")
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
        return {"digest": digest, "weights": weights, "request": self.wanted.request()}

    def _wrong(self, show: Optional[Dict[str, Any]], digest: Optional[str], weights: Optional[str]) -> List[str]:
        """What is not as wanted. A model that is the very one made by an earlier run is known by its digest."""
        if show is None:
            return ["model"]
        note = self.notes.models.get(self.key)
        if not note or note["digest"] != digest:
            # An own file that nobody has hashed yet could be any.
            unknown = ["weights"] if weights is None and self.params["path"] else []
            return unknown + ollama.differences(show, weights, self.wanted)
        if note == self._note(digest, weights):
            return []
        found = ollama.differences(show, None, self.wanted)
        if note["weights"] != weights:
            found.insert(0, "weights")
        # What is no longer asked for cannot be seen in what is there.
        return found or ["Modelfile"]

    # --- what is done ---

    def _make(self, weights: Optional[str]) -> None:
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
                self.progress.begin("upload %s" % os.path.basename(path), size)
                self.api.upload(path, digest, self.progress.update, self.params["load_timeout"])
                self.uploaded += size
                return
            except OllamaError as error:
                if not error.passing or attempt == UPLOAD_TRIES:
                    error.hint = error.hint or "Run it again: the file need not be hashed again."
                    raise
                self.module.warn("%s; it is sent again" % error)
                time.sleep(UPLOAD_PAUSE_S * attempt)

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
            raise OllamaError(
                "Ollama says that %s was made, but it has another %s" % (self.name, ", ".join(left)),
                "Compare with `ollama show %s`." % self.name,
            )
        if weights is None and show:
            weights = ollama.weights_digest(show.get("modelfile") or "")
        self.notes.models[self.key] = self._note(digest, weights)
        self.notes.write()

    def _load(self, show: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
        if not self.params["load"]:
            return None
        entry = ollama.find(self.api.ps(), self.name)
        if entry is None and self.dry:
            return None
        if entry is None:
            self.progress.begin("load %s" % self.name)
            self.api.load(self.name, self.params["load_timeout"])
            entry = ollama.find(self.api.ps(), self.name)
        if entry is None:
            raise OllamaError("%s was loaded, and unloaded again at once" % self.name, "Raise OLLAMA_KEEP_ALIVE.")
        if self.params["cpu_share"] >= 0:
            parameters = ollama.parse_parameters((show or {}).get("parameters") or "")
            problem = ollama.placement_problem(
                entry, self.params["cpu_share"], parameters, self.params["layers"], self.params["context"]
            )
            if problem:
                self.module.fail_json(msg=problem[0], hint=problem[1], error_kind="verify", loaded=entry)
        return entry

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

    def _result(
        self, wrong: List[str], before: str, after: str, digest: Optional[str], loaded: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        waits_for_load = self.params["state"] == "present" and self.params["load"] and loaded is None
        return dict(
            changed=bool(wrong) and not self.params["probe"],
            complete=not wrong and not waits_for_load,
            digest=digest,
            differences=wrong,
            hashed_bytes=self.hashed,
            uploaded_bytes=self.uploaded,
            loaded=loaded,
            diff=dict(before=before, after=after),
        )


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            name=dict(type="str", required=True),
            state=dict(type="str", choices=["present", "absent"], default="present"),
            url=dict(type="str", default="http://127.0.0.1:11434"),
            path=dict(type="path"),
            sha256=dict(type="str"),
            pull=dict(type="str"),
            parameters=dict(type="dict", default={}),
            template=dict(type="str"),
            system=dict(type="str"),
            license=dict(type="list", elements="str"),
            state_file=dict(type="path", default="/var/lib/dsdeploy/ollama-models.json"),
            load=dict(type="bool", default=False),
            load_timeout=dict(type="int", default=3600),
            cpu_share=dict(type="float", default=-1),
            layers=dict(type="int", default=0),
            context=dict(type="int", default=0),
            probe=dict(type="bool", default=False),
        ),
        mutually_exclusive=[("path", "pull")],
        required_if=[("state", "present", ("path", "pull"), True)],
        supports_check_mode=True,
    )
    params = module.params
    try:
        ollama.check_name(params["name"])
        parameters = ollama.typed_parameters(params["parameters"])
        wanted = ollama.Modelfile(parameters, params["template"], params["system"], params["license"])
        api = Api(params["url"])
    except ValueError as error:
        module.fail_json(msg=str(error), hint="Correct it and run this again.", error_kind="usage")
    try:
        with Progress("model %s" % params["name"]) as progress:
            job = Job(module, api, wanted, progress)
            result = job.present() if params["state"] == "present" else job.absent()
    except OllamaError as error:
        module.fail_json(msg=str(error), hint=error.hint or "Ollama's log says more.", error_kind="preflight")
    except OSError as error:
        module.fail_json(
            msg="ollama_model: %s" % error, hint="Check the path and its permissions.", error_kind="preflight"
        )
    if not params["probe"]:
        del result["complete"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
