# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a merge finds and what it will do: the shards, the destination, what a run before it has left, the space.

Nothing here writes, but for the record that remembers what a destination was found to be.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from typing import Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import GGUFError, read_header
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.journal import (
    Entry,
    describe,
    journal_path,
    open_own,
    part_path,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.plan import (
    NoShards,
    Plan,
    Shard,
    check_present,
    find_shards,
    gaps,
    pieces,
    plan_merge,
    shard_of,
    space_needed,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.disk import shortage, space
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress

RECORD = "user.dsdeploy.merge"
SLACK = 1024 * 1024  # bytes left free for the journal and the file system's own needs
_BLOCK = 1024 * 1024


class Survey(NamedTuple):
    """What a merge finds and will do."""

    state: str  # new, resume, published (an earlier run was killed while it tidied up), unchanged
    plan: Optional[Plan]  # None where the destination is complete and the shards are gone
    durable: int  # bytes of an earlier run's part to keep
    verified: Optional[str]  # how a complete destination was recognised: record, bytes, structure
    size: int  # bytes of the destination
    removes: Tuple[str, ...]  # the shards to remove
    need: int  # bytes that must be free on the destination's file system at the worst moment
    free: int

    @property
    def changed(self) -> bool:
        return self.state != "unchanged" or bool(self.removes)


def survey(src: str, dest: str, consume: bool, force: bool, entry: Optional[Entry], progress: Progress) -> Survey:
    """Look at the shards of `src`, at `dest` (its real path) and at an unfinished merge's `entry`.

    Raises GGUFError (a shard at fault), Failure (no room, the destination in the way), OSError.
    """
    _check_dest(dest)
    paths = _locate(src, dest, entry)
    if dest in map(os.path.realpath, paths):
        raise Failure("%s is one of the shards" % dest, "give the merged file a name of its own")
    mount, free = space(dest)
    exists = os.path.exists(dest)
    if entry is not None and exists and _is_published(dest, entry):
        left = _left_over(paths, entry)
        return Survey("published", None, entry.total, "structure", entry.total, left, 0, free)
    if entry is None and exists and not any(map(os.path.exists, paths)):
        verified = _recognise(dest, paths, consume)
        if verified:
            return Survey("unchanged", None, 0, verified, os.path.getsize(dest), (), 0, free)
    if not paths:
        raise NoShards(src, "holds no GGUF shards" if os.path.isdir(src) else "does not exist")

    plan, durable = (plan_merge(paths), 0) if entry is None else _take_up(paths, dest, entry)
    removes = _removable(plan) if consume else ()
    if exists and all(map(os.path.exists, paths)):
        verified = _compare(dest, plan, progress)
        if verified:
            state = "unchanged" if entry is None else "published"
            return Survey(state, plan, 0, verified, plan.total, removes, 0, free)
    if exists and not force:
        raise Failure(
            "%s exists and is not the merge of these shards" % dest, "move it away, or use force to replace it"
        )
    allocated = _allocated(part_path(dest))
    if not durable:
        free, allocated = free + allocated, 0  # the part of the earlier run is of no use and goes first
    need = space_needed(plan, os.stat(os.path.dirname(dest)).st_dev, consume, allocated)
    need += SLACK if need else 0
    if need > free:
        raise Failure(
            shortage(mount, need, free, [dest]),
            "free space" + ("" if consume else ", or use consume, which removes each shard once it is merged"),
        )
    return Survey("resume" if durable else "new", plan, durable, None, plan.total, removes, need, free)


def _check_dest(dest: str) -> None:
    directory = os.path.dirname(dest)
    if not os.path.isdir(directory):
        raise Failure("%s is not a directory" % directory, "create it, on the disk that is to hold the model")
    if os.path.lexists(dest) and not os.path.isfile(dest):
        raise Failure("%s exists and is not a file" % dest, "give a file's path, such as %s/model.gguf" % dest)


def _locate(src: str, dest: str, entry: Optional[Entry]) -> List[str]:
    """The shards' paths, whether they exist or not; [] where `src` does not tell."""
    try:
        paths = find_shards(src)
    except NoShards:
        if entry is None:
            return []
        # Every shard may have been consumed. Only the names come from the journal.
        return [os.path.join(src, os.path.basename(name)) for name, _shard in entry.shards]
    if entry is not None and [os.path.basename(path) for path in paths] != [name for name, _shard in entry.shards]:
        gone = [name for name, _shard in entry.shards if not os.path.exists(os.path.join(entry.directory, name))]
        if gone:
            raise Failure(
                "an unfinished merge of other shards is in the way: %s may be the only copy of %s"
                % (part_path(dest), gone[0]),
                "finish that merge; or, if its shards can be downloaded again, remove %s and %s"
                % (journal_path(dest), part_path(dest)),
            )
    return paths


def _is_published(dest: str, entry: Entry) -> bool:
    """Whether `dest` is the finished merge of `entry`, which was killed while it tidied up."""
    if entry.durable != entry.total or os.path.getsize(dest) != entry.total:
        return False
    part = part_path(dest)
    if os.path.exists(part) and not os.path.samefile(part, dest):
        return False
    return _header_bytes(dest, entry) is not None


def _left_over(paths: List[str], entry: Entry) -> Tuple[str, ...]:
    """The shards of a merge that had begun to remove them, and is published: a power cut may have brought them back.

    () where all are there: whether those go is for the run to say. A file of that name that is another one is none.
    """
    found = [path for path in paths if os.path.exists(path)]
    if len(found) == len(paths):
        return ()
    known = dict(entry.shards)
    left = []
    for path in found:
        try:
            shard = shard_of(read_header(path), int(known[os.path.basename(path)]["target"]))
            info = os.lstat(path)
        except (GGUFError, OSError):
            continue
        if describe(shard) == known[os.path.basename(path)] and _gives_space(info):
            left.append(path)
    return tuple(left)


def _header_bytes(path: str, entry: Entry) -> Optional[bytes]:
    """The merged header at the start of `path`; None where another one, or none, is there."""
    try:
        fd = open_own(path, os.O_RDONLY, inode=entry.inode)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        header = file.read(entry.header_bytes)
    return header if hashlib.sha256(header).hexdigest() == entry.header_digest else None


def _take_up(paths: List[str], dest: str, entry: Entry) -> Tuple[Plan, int]:
    """(plan, durable bytes) of a merge that goes on from `entry`, or starts again where that is of no use."""
    header = _header_bytes(part_path(dest), entry)
    keep = entry.durable if header is not None else 0
    before = [shard for _name, shard in entry.shards]
    present = [os.path.exists(path) for path in paths]
    if all(present):
        plan = plan_merge(paths)
        if header is None or plan.header_digest != entry.header_digest:
            return plan, 0
    elif header is None:
        check_present(paths, len(paths))
    else:
        plan = _plan_of_the_rest(paths, present, dest, header, entry)
    # From the first shard on that is not what it was, everything is copied again.
    for shard, known in zip(plan.shards, before):
        if describe(shard) != known:
            keep = min(keep, shard.target)
    # Only what is durable may be gone.
    check_present([shard.path for shard in plan.shards if shard.target_end > keep], len(paths))
    return plan, keep


def _plan_of_the_rest(paths: List[str], present: List[bool], dest: str, header: bytes, entry: Entry) -> Plan:
    """The plan of a merge some of whose shards are gone: from the journal, the part's header and the shards left."""
    shards = []
    for path, is_there, (_name, known) in zip(paths, present, entry.shards):
        if is_there:
            shard = shard_of(read_header(path), int(known["target"]))
            if shard.header_digest != known["header_digest"] or shard.size != known["size"]:
                raise GGUFError(path, "is not the shard with which this merge began: download the right one again")
        else:
            shard = Shard(path=path, device=-1, inode=-1, disk_bytes=0, **known)
        shards.append(shard)
    tensors = read_header(part_path(dest), complete=False).tensors
    return Plan(header, tuple(shards), tuple(gaps(tensors, len(header))), entry.total, entry.tensor_count)


def _gives_space(info: os.stat_result) -> bool:
    """Whether the removal of a file gives its space back: it is no link, and has no other name."""
    return stat.S_ISREG(info.st_mode) and info.st_nlink == 1


def _removable(plan: Plan) -> Tuple[str, ...]:
    """The paths of the shards that are there; each must be a file whose removal gives space back."""
    found = []
    for shard in plan.shards:
        try:
            info = os.lstat(shard.path)
        except FileNotFoundError:
            continue
        if not _gives_space(info):
            what = "has another hard link" if stat.S_ISREG(info.st_mode) else "is a symbolic link"
            raise Failure(
                "%s %s: removing it would give no space back" % (shard.path, what),
                "merge without consume, or move the real files into a directory of their own first",
            )
        found.append(shard.path)
    return tuple(found)


def _allocated(path: str) -> int:
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0


def write_record(path: str, plan: Plan) -> None:
    """Remember in the file itself, where its file system has extended attributes, which shards it is the merge of."""
    info = os.stat(path)
    record = {
        "record": plan.record,
        "first": plan.shards[0].name,
        "size": info.st_size,
        "mtime_ns": info.st_mtime_ns,
    }
    try:
        os.setxattr(path, RECORD, json.dumps(record).encode())
    except (OSError, AttributeError):
        pass  # it will be compared byte by byte instead


def _read_record(path: str) -> Optional[Dict[str, object]]:
    """The record of write_record(); None where there is none, or the file was written to since."""
    info = os.stat(path)
    try:
        found = foreign.parse(os.getxattr(path, RECORD), path)
        record = {"record": found.text("record"), "first": found.text("first")}
        same = (found.count("size"), found.number("mtime_ns")) == (info.st_size, info.st_mtime_ns)
        return record if same else None
    except (OSError, AttributeError, Failure):
        return None


def _recognise(dest: str, paths: List[str], consume: bool) -> Optional[str]:
    """How `dest` shows that it is the merge of shards that are gone now; None where it does not."""
    record = _read_record(dest)
    if record is not None:
        return "record" if not paths or record["first"] == os.path.basename(paths[0]) else None
    if not consume:
        return None
    try:
        header = read_header(dest)
    except GGUFError:
        return None
    merged = header.value("split.count") == 0 and header.value("split.tensors.count") == len(header.tensors)
    return "structure" if merged else None


def _compare(dest: str, plan: Plan, progress: Progress) -> Optional[str]:
    """How `dest` shows that it is the merge of these shards: by its record, or else byte by byte; None: it is not."""
    record = _read_record(dest)
    if record is not None and record["record"] == plan.record:
        return "record"
    if os.path.getsize(dest) != plan.total:
        return None
    progress.begin("compare", plan.total)
    with open(dest, "rb") as merged:
        if merged.read(len(plan.header)) != plan.header:
            return None
        for index, shard in enumerate(plan.shards):
            with open(shard.path, "rb") as source:
                for piece in pieces(plan, index, 0):
                    source.seek(piece.source)
                    left = piece.count
                    while left:
                        size = min(left, _BLOCK)
                        due = bytes(size) if piece.shard is None else source.read(size)
                        if merged.read(size) != due:
                            return None
                        left -= size
                        progress.update(piece.target + piece.count - left)
    return "bytes"
