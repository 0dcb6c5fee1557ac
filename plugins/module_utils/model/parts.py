# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files a model at a path consists of: by names alone, nothing is read."""

from __future__ import annotations

import os
import re

SHARD = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")


def shards_of(path):
    """The name of a GGUF file and, when it says that it is one of several shards, those of all of them."""
    shard = SHARD.match(os.path.basename(path))
    if not shard:
        return [os.path.basename(path)]
    count = int(shard.group("count"))
    return ["%s-%05d-of-%05d.gguf" % (shard.group("stem"), number, count) for number in range(1, count + 1)]


def files_below(directory):
    """Paths below a directory of all files that are not hidden."""
    names = []
    for base, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if not name.startswith(".")]
        names.extend(os.path.relpath(os.path.join(base, name), directory) for name in files if not name.startswith("."))
    return sorted(names)


def files_of(path):
    """``(directory, paths below it)`` of a model at ``path``: a directory, or a GGUF file and its further shards."""
    if os.path.isdir(path):
        return path, files_below(path)
    return os.path.dirname(path), [
        name for name in shards_of(path) if os.path.exists(os.path.join(os.path.dirname(path), name))
    ]


def paths_of(path):
    """Absolute paths of all that has to be read of a model at ``path``: a directory, too. Of any other file itself."""
    directory, names = files_of(path)
    return ([path] if os.path.isdir(path) else []) + [os.path.join(directory, name) for name in names]
