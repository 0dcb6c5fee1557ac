# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model that the user keeps in a file or directory of their own: checked, used in place, never written to."""

from __future__ import annotations

import hashlib
import os

from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import header as gguf
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.parts import files_below, files_of, shards_of


def inspect_path(entry, path):
    """Check a model at ``path``; returns the record for engines (see CONTRIBUTING.md).

    :raises Failure: a file is missing, truncated or not what its name says.
    """
    hint = "restore the file, or give the path of a complete model"
    if not os.path.exists(path):
        raise Failure(["model path %s does not exist on this host" % path], hint, "usage")
    if os.path.isdir(path):
        directory, names = path, files_below(path)
        model_format = entry.get("format") or model_store.weights_format(names)
        if model_format is None:
            raise Failure(["%s holds no *.gguf and no *.safetensors file" % path], hint)
    else:
        directory, model_format = os.path.dirname(path), entry.get("format", "gguf")
        names = shards_of(path)
    serve = os.path.basename(path) if os.path.isfile(path) else entry.get("serve")
    several = model_store.gguf_models(names) if model_format == "gguf" and not serve else []
    if len(several) > 1:
        # Which one is meant nobody can guess: one may have four times the bits of another.
        named = ", ".join(several[:4]) + (", and %d more" % (len(several) - 4) if len(several) > 4 else "")
        raise Failure(
            ["%s holds %d models: %s" % (path, len(several), named)],
            "give the path of one of them, such as %s" % os.path.join(path, several[0]),
            "usage",
        )
    known = dict((item["path"], item) for item in entry.get("files", []))
    problems, files = [], []
    for name in sorted(set(names) | set(known)):
        full = os.path.join(directory, name)
        problem = _problem_of(full, known.get(name, {}).get("bytes"))
        if problem:
            problems.append(problem)
        else:
            files.append({"path": name, "bytes": os.path.getsize(full)})
    if problems:
        raise Failure(problems, hint)
    return model_store.record_of(entry["name"], directory, model_format, files, serve)


def digest(path, manifest):
    """What tells whether two hosts have the same files, a sha256: of the manifest, paths and hashes; of a model of the
    user's own, which has none, paths and sizes."""
    lines = ["%s %s" % (item["path"], item["sha256"]) for item in (manifest or {}).get("files", [])]
    if not lines:
        base, paths = files_of(path)
        lines = ["%s %d" % (name, os.path.getsize(os.path.join(base, name))) for name in paths]
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def _problem_of(path, expected):
    if not os.path.isfile(path):
        return "%s is missing%s" % (path, " (expected %d bytes)" % expected if expected else "")
    if not os.access(path, os.R_OK):
        return "%s cannot be read" % path
    if expected and os.path.getsize(path) != expected:
        return "%s has %d bytes, expected %d" % (path, os.path.getsize(path), expected)
    wrong = model_store.wrong_weights(path)
    if wrong is None and path.endswith(".gguf"):
        try:
            gguf.read_header(path)
        except gguf.GGUFError as error:
            return "%s: %s" % (error.path, error.reason)
    return wrong
