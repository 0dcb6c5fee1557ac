#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gguf_merge
short_description: Merge the shards of a GGUF model into one file
version_added: 1.0.0
description:
  - Writes what C(llama-gguf-split --merge) writes, byte for byte, and checks what it does not check. Every shard
    must be whole, in its place and of the same set, or nothing is written.
  - The bytes are copied inside the kernel and made durable; only then does the file take its name. O(dest) exists
    whole or not at all.
  - A run that was stopped, killed or out of space is taken up by the next one from the last range that is on the
    disk. It keeps two hidden files beside O(dest) for that, C(.NAME.merge-part) and C(.NAME.merge-journal), and
    nothing is left of them at the end.
  - While a merge to the same O(dest) runs already, the module waits for it.
  - Shows its progress while it runs. When the play is stopped meanwhile (Ctrl-C), the merge goes on on the host to its
    end; running the play again waits for it.
author:
  - The dsdeploy developers (@dsdeploy)
extends_documentation_fragment:
  - ansible.builtin.files
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.progress
attributes:
  check_mode:
    support: full
    details:
      - Reads and checks all shards, and says what would be written and the space that it needs, or fails as the real
        run would. Where the shards or the directory of O(dest) are still to come, it says only that.
  diff_mode:
    support: full
    details:
      - Shows the files before and after, with their bytes.
  idempotent:
    support: full
    details:
      - O(dest) is known as the merge of these shards by a record in its extended attributes, which holds as long as
        none of the files is written to. Without that record it is compared with the shards byte by byte.
      - After O(consume) the shards are gone. Then the record counts, and without one that O(dest) is a whole merged
        model.
options:
  src:
    description: The first shard (C(NAME-00001-of-00009.gguf)), or the directory that holds one set of shards.
    type: path
    required: true
  dest:
    description: The file to write. Its directory must exist.
    type: path
    required: true
  consume:
    description:
      - Remove each shard as soon as its bytes are on the disk in the merged file, so that the merge needs the space
        of one shard and not that of a second copy. Safe at every step, but the shards do not come back.
      - Shards that were merged before are removed too.
      - Where they are a model of the model store and O(dest) lies beside them, the merged file takes their place in the
        store's manifest. It is read once more for that, for its sha256.
    type: bool
    default: false
  force:
    description: Replace O(dest) where it exists and is not the merge of these shards.
    type: bool
    default: false
seealso:
  - module: dsdeploy.llm.gguf_info
"""

EXAMPLES = r"""
- name: Merge DeepSeek-R1 for Ollama, which takes one file
  dsdeploy.llm.gguf_merge:
    src: /data/models/DeepSeek-R1-Q4_K_M-00001-of-00009.gguf
    dest: /data/models/DeepSeek-R1-Q4_K_M.gguf

- name: Merge where a second copy of 404 GB does not fit
  dsdeploy.llm.gguf_merge:
    src: /data/models/DeepSeek-R1-Q4_K_M
    dest: /data/models/DeepSeek-R1-Q4_K_M.gguf
    consume: true
"""

RETURN = r"""
dest:
  description: The merged file.
  returned: success
  type: str
bytes:
  description: Its size in bytes. Null in check mode where it cannot be known yet.
  returned: success
  type: int
shards:
  description: Number of shards. Null where they are gone.
  returned: success
  type: int
resumed_bytes:
  description: Bytes that an earlier run had merged.
  returned: success
  type: int
removed:
  description: Number of shards that were removed, in check mode that would be.
  returned: success
  type: int
verified:
  description: How a O(dest) that was complete already was recognised, V(record), V(bytes) or V(structure).
  returned: success
  type: str
method:
  description: How the bytes were copied, V(copy_file_range), V(sendfile) or V(read/write).
  returned: success
  type: str
seconds:
  description: How long it took until everything was durable.
  returned: success
  type: float
need_bytes:
  description: Bytes that must be free at the worst moment.
  returned: in check mode
  type: int
free_bytes:
  description: Bytes that are free for it.
  returned: in check mode
  type: int
shard:
  description: The file at fault.
  returned: failure because of a file
  type: str
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(preflight).
  returned: failure
  type: str
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import GGUFError
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.merge import (
    merge,
    predict,
    stop_on_signals,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.plan import any_shard, find_shards
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import sha256_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store


def listing(paths):
    """The files that exist, one on a line with its bytes: what the diff shows."""
    return "".join("%s  %d\n" % (path, os.path.getsize(path)) for path in paths if os.path.exists(path))


def shard_paths(src):
    """The shards' paths; [] where `src` tells none."""
    try:
        return find_shards(src)
    except GGUFError:
        return []


def forecast(module, src, dest, consume, force, progress):
    """What check mode can tell."""
    waits_for = [what for what, there in (
        ("the shards of %s" % src, any_shard(src) or os.path.exists(dest)),
        ("the directory of %s" % dest, os.path.isdir(os.path.dirname(os.path.realpath(dest)))),
    ) if not there]  # fmt: skip
    if waits_for:
        return dict(
            changed=True,
            bytes=None,
            shards=None,
            removed=0,
            msg="%s are not here yet: what the merge will do is not known" % " and ".join(waits_for),
        )
    if consume:
        store_of(src, dest)
    found = predict(src, dest, consume, force, progress)
    paths = shard_paths(src)
    after = [path for path in paths if path not in found.removes]
    return dict(
        changed=found.changed,
        bytes=found.size,
        shards=len(found.plan.shards) if found.plan else None,
        resumed_bytes=found.durable,
        removed=len(found.removes),
        verified=found.verified,
        need_bytes=found.need,
        free_bytes=found.free,
        diff=dict(before=listing(paths + [dest]), after=listing(after) + "%s  %d\n" % (dest, found.size)),
    )


def store_of(src, dest):
    """(directory, manifest) of the model store that both lie in, else Nones.

    Failure where the shards alone do: the store would miss them, and fetch them again.
    """
    directory, manifest = model_store.find_manifest(dest)
    within = directory and os.path.realpath(src).startswith(directory + os.sep)
    if within:
        return directory, manifest
    shards = model_store.find_manifest((shard_paths(src) or [src])[0])[0]
    if shards:
        raise Failure(
            "the shards are files of the model store, %s: it would fetch them again once they are removed" % shards,
            "give a dest in that directory, or merge without consume",
            "usage",
        )
    return None, None


def into_store(directory, manifest, dest, progress):
    """Let the merged file take the shards' place in the manifest."""
    progress.begin("hash %s" % os.path.basename(dest), os.path.getsize(dest))
    done = [0]

    def report(count):
        done[0] += count
        progress.update(done[0])

    sha256 = sha256_of(dest, report)
    model_store.end_merge(directory, manifest, dest, sha256)


def perform(module, src, dest, consume, force, progress):
    paths = shard_paths(src)
    before = listing(paths + [dest])
    started = time.time()
    directory, manifest = store_of(src, dest) if consume else (None, None)
    if directory:
        model_store.begin_merge(directory)

    def prepare(part):
        module.set_fs_attributes_if_different(dict(module.load_file_common_arguments(module.params, path=part)), False)

    with stop_on_signals():
        try:
            done = merge(src, dest, consume, force, progress, prepare)
        except BaseException:
            if directory and model_store.compare(directory, manifest) == ([], []):
                model_store.cancel_merge(directory)
            raise
        if directory:
            into_store(directory, manifest, os.path.realpath(dest), progress)
    changed = module.set_fs_attributes_if_different(
        module.load_file_common_arguments(module.params, path=dest), done.changed
    )
    return dict(
        changed=changed,
        bytes=done.size,
        shards=done.shard_count,
        resumed_bytes=done.resumed_at,
        removed=done.removed,
        verified=done.verified,
        method=done.method,
        seconds=round(time.time() - started, 3),
        diff=dict(before=before, after=listing(paths + [dest])),
    )


def main():
    module = AnsibleModule(
        argument_spec=dict(
            src=dict(type="path", required=True),
            dest=dict(type="path", required=True),
            consume=dict(type="bool", default=False),
            force=dict(type="bool", default=False),
        ),
        add_file_common_args=True,
        supports_check_mode=True,
    )
    given = [module.params[name] for name in ("src", "dest", "consume", "force")]
    try:
        with Progress("merge") as progress:
            result = (forecast if module.check_mode else perform)(module, *given, progress)
    except GGUFError as error:
        module.fail_json(
            msg=str(error), shard=error.path, hint="nothing was written; replace it by a complete one",
            error_kind="preflight",
        )  # fmt: skip
    except Failure as error:
        module.fail_json(**error.fields())
    except OSError as error:
        module.fail_json(
            msg="cannot merge to %s: %s" % (given[1], error),
            hint="what is merged is kept: fix that and run it again",
        )
    module.exit_json(dest=given[1], **result)


if __name__ == "__main__":
    main()
