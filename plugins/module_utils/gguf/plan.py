# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find and check a set of GGUF shards, and plan their merge: one header and one byte range of each shard.

The planned bytes are those that ``llama-gguf-split --merge`` writes (llama.cpp, tools/gguf-split): GGUF version 3,
the first shard's keys in order except split.count, which comes last and is 0; the tensors in shard order with new
offsets; everything padded with zeros to 32 bytes. Nothing here writes.
"""

from __future__ import annotations

import bisect
import hashlib
import os
import re
import struct
from typing import Dict, Iterable, List, Match, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import (
    DEFAULT_ALIGNMENT,
    INT32,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    STRING,
    UINT16,
    GGUFError,
    Header,
    KeyValue,
    Tensor,
    padded,
    printable,
    read_header,
)

_SHARD_NAME = re.compile(r"^(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$", re.DOTALL)
_SPLIT_COUNT = b"split.count"
_NAMED_MISSING = 3


class Shard(NamedTuple):
    """One source file, as it was when it was checked, and where its tensors go. All sizes in bytes."""

    path: str
    size: int
    mtime_ns: int
    device: int
    inode: int
    disk_bytes: int  # what removing the file gives back
    header_digest: str
    data_start: int
    data_bytes: int  # to copy from data_start
    target: int  # offset in the merged file

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def target_end(self) -> int:
        """Offset in the merged file where the next shard's tensors start."""
        return self.target + padded(self.data_bytes)


class Plan(NamedTuple):
    """A merge: the merged file is ``header``, then each shard's range, with zeros in the ``gaps``."""

    header: bytes
    shards: Tuple[Shard, ...]
    gaps: Tuple[Tuple[int, int], ...]  # (offset, bytes) in the merged file: the padding after tensors of odd sizes
    total: int  # bytes of the merged file
    tensor_count: int

    @property
    def header_digest(self) -> str:
        return hashlib.sha256(self.header).hexdigest()

    @property
    def record(self) -> str:
        """A digest that two plans share only if they write the same header from the same, unchanged files."""
        text = repr((self.header_digest, [(shard.name, shard.size, shard.mtime_ns) for shard in self.shards]))
        return hashlib.sha256(text.encode()).hexdigest()


def shard_names(first: str, count: int) -> List[str]:
    """The paths of all `count` shards, from the path of any one of them."""
    directory, name = os.path.split(first)
    prefix = _match(first).group("prefix")
    return [os.path.join(directory, "%s-%05d-of-%05d.gguf" % (prefix, index + 1, count)) for index in range(count)]


def is_shard_name(path: str) -> bool:
    """Whether `path` is named like a shard."""
    return _SHARD_NAME.match(os.path.basename(path)) is not None


def any_shard(src: str) -> bool:
    """Whether there is any shard where `src` says. Raises GGUFError where `src` itself is wrong."""
    try:
        return any(map(os.path.exists, find_shards(src)))
    except NoShards:
        return False


def _match(path: str) -> Match[str]:
    match = _SHARD_NAME.match(os.path.basename(path))
    if match is None:
        raise GGUFError(path, "is not named like a shard (NAME-00001-of-00009.gguf)")
    return match


class NoShards(GGUFError):
    """No shard is where one was said to be."""


def find_shards(src: str) -> List[str]:
    """The paths of the set that `src` names: its first shard, or a directory holding one set. Each may be missing.

    Raises GGUFError where `src` is another shard, or a directory holding more than one set; NoShards where `src` is
    a directory without any, or does not exist and does not name a shard either.
    """
    if os.path.isdir(src):
        first = _set_in_directory(src)
    elif not os.path.lexists(src) and not _SHARD_NAME.match(os.path.basename(src)):
        raise NoShards(src, "does not exist")
    else:
        first = src
    match = _match(first)
    count = int(match.group("count"))
    if count < 1:
        raise GGUFError(first, "is named as part of a set of 0 shards")
    names = shard_names(first, count)
    if int(match.group("number")) != 1 and first == src:
        raise GGUFError(src, "is not the first shard: give %s" % names[0])
    return names


def _set_in_directory(directory: str) -> str:
    sets = set()
    for name in os.listdir(directory):
        match = _SHARD_NAME.match(name)
        if match is not None:
            sets.add((match.group("prefix"), int(match.group("count"))))
    if not sets:
        raise NoShards(directory, "holds no GGUF shards (NAME-00001-of-00009.gguf)")
    if len(sets) > 1:
        found = sorted("%s-00001-of-%05d.gguf" % one for one in sets)
        raise GGUFError(directory, "holds %d sets of shards; name one first shard: %s" % (len(found), ", ".join(found)))
    return os.path.join(directory, "%s-00001-of-%05d.gguf" % sets.pop())


def check_present(paths: Iterable[str], count: int) -> None:
    """Raise GGUFError naming the shards that do not exist."""
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        named = ", ".join(os.path.basename(path) for path in missing[:_NAMED_MISSING])
        more = " and %d more" % (len(missing) - _NAMED_MISSING) if len(missing) > _NAMED_MISSING else ""
        raise GGUFError(
            os.path.dirname(missing[0]) or ".",
            "%d of %d shards are missing: %s%s: download them" % (len(missing), count, named, more),
        )


def check_set(paths: List[str]) -> List[Header]:
    """Read and check every shard. `paths` come from find_shards().

    Only the first header keeps its keys and bytes. Raises GGUFError naming the shard at fault.
    """
    check_present(paths, len(paths))
    headers = [read_header(paths[0])]
    declared = _check_first(headers[0], len(paths))
    owner: Dict[bytes, str] = {}
    for index, path in enumerate(paths):
        if index:
            headers.append(read_header(path))
        header = headers[index]
        _check_member(header, index, len(paths), declared)
        for tensor in header.tensors:
            if tensor.name in owner:
                raise GGUFError(
                    path, "has the tensor %s, which %s has too" % (printable(tensor.name), owner[tensor.name])
                )
            owner[tensor.name] = os.path.basename(path)
        if len(owner) > declared:
            raise GGUFError(path, "brings the set to %d tensors; the first shard promises %d" % (len(owner), declared))
        if index:
            headers[index] = header._replace(pairs={}, raw=b"")
    if len(owner) != declared:
        raise GGUFError(paths[0], "promises %d tensors (split.tensors.count); the set has %d" % (declared, len(owner)))
    return headers


def plan_merge(paths: List[str]) -> Plan:
    """Read and check every shard, and plan their merge. Raises what check_set() raises."""
    headers = check_set(paths)
    shards: List[Shard] = []
    tensors: List[Tensor] = []
    end = 0  # of the merged data section so far
    for header in headers:
        tensors.extend(tensor._replace(offset=end + tensor.offset) for tensor in header.tensors)
        shards.append(shard_of(header, end))
        end += padded(header.data_bytes)
    merged = merged_header(headers[0], tensors)
    placed = tuple(shard._replace(target=len(merged) + shard.target) for shard in shards)
    return Plan(merged, placed, tuple(gaps(tensors, len(merged))), len(merged) + end, len(tensors))


def shard_of(header: Header, target: int) -> Shard:
    """The shard whose header was read, its tensors to be put at `target`."""
    info = header.file
    return Shard(
        header.path,
        info.st_size,
        info.st_mtime_ns,
        info.st_dev,
        info.st_ino,
        info.st_blocks * 512,
        header.digest,
        header.data_start,
        header.data_bytes,
        target,
    )


def _split_value(header: Header, key: str, kind: int) -> Optional[int]:
    pair = header.pairs.get(key.encode())
    if pair is None:
        return None
    if pair.kind != kind:
        raise GGUFError(header.path, "has a %s of another type than gguf-split writes" % key)
    return header.value(key)


def _check_first(header: Header, named: int) -> int:
    """Check what only the first shard says; return the number of tensors it promises."""
    count = _split_value(header, "split.count", UINT16)
    if count is None:
        raise GGUFError(header.path, "is not a shard: it has no split.count")
    if not count:
        raise GGUFError(header.path, "is not a shard: its split.count is 0, so it is a merged file already")
    if count != named:
        raise GGUFError(header.path, "says it is one of %d shards; its name says %d" % (count, named))
    tensors = _split_value(header, "split.tensors.count", INT32)
    if tensors is None:
        raise GGUFError(header.path, "has no split.tensors.count, so nothing tells whether the set is complete")
    if not 0 <= tensors <= MAX_TENSORS:
        raise GGUFError(header.path, "promises an impossible %d tensors (split.tensors.count)" % tensors)
    return tensors


def _check_member(header: Header, index: int, count: int, declared: int) -> None:
    """Check that `header` is shard number `index` (from 0) of the first shard's set."""
    if header.alignment != DEFAULT_ALIGNMENT:
        raise GGUFError(
            header.path,
            "has general.alignment %d; gguf-split writes broken files for anything but %d, so it is refused"
            % (header.alignment, DEFAULT_ALIGNMENT),
        )
    number = _split_value(header, "split.no", UINT16)
    if number is None:
        raise GGUFError(header.path, "has no split.no: it is no part of this set")
    if number != index:
        raise GGUFError(
            header.path,
            "says it is shard %d, its name says %d: shards were swapped or renamed" % (number + 1, index + 1),
        )
    for key, kind, due in (("split.count", UINT16, count), ("split.tensors.count", INT32, declared)):
        value = _split_value(header, key, kind)
        if value is not None and value != due:
            raise GGUFError(header.path, "has %s %d, the first shard %d: it belongs to another set" % (key, value, due))


def merged_header(first: Header, tensors: Iterable[Tensor]) -> bytes:
    """The merged file's header, padded: `first`'s keys, and `tensors` with the offsets they bring."""
    body = [_pair_bytes(first.raw, pair) for key, pair in first.pairs.items() if key != _SPLIT_COUNT]
    pair_count = len(body) + 1
    body.append(_string(_SPLIT_COUNT) + struct.pack("<IH", UINT16, 0))
    tensor_count = 0
    for tensor in tensors:
        tensor_count += 1
        dims = struct.pack("<I%dQ" % len(tensor.dims), len(tensor.dims), *tensor.dims)
        body.append(_string(tensor.name) + dims + struct.pack("<IQ", tensor.kind, tensor.offset))
    body.insert(0, b"GGUF" + struct.pack("<IQQ", 3, tensor_count, pair_count))
    size = sum(map(len, body))
    if padded(size) > MAX_HEADER_BYTES:
        raise GGUFError(first.path, "makes a merged header of %d bytes, more than %d" % (size, MAX_HEADER_BYTES))
    body.append(bytes(padded(size) - size))
    return b"".join(body)


def _string(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def _pair_bytes(raw: bytes, pair: KeyValue) -> bytes:
    if pair.plain:
        return raw[pair.start : pair.end]
    head, value = raw[pair.start : pair.value], raw[pair.value : pair.end]
    if (pair.kind if pair.element is None else pair.element) != STRING:
        return head + bytes(1 if byte else 0 for byte in value)
    # gguf-split passes strings through c_str(): each ends at its first NUL.
    strings, at = [], 0
    for _index in range(pair.count):
        (length,) = struct.unpack_from("<Q", value, at)
        strings.append(_string(value[at + 8 : at + 8 + length].split(b"\0", 1)[0]))
        at += 8 + length
    return head + b"".join(strings)


def gaps(tensors: Iterable[Tensor], data_start: int) -> Iterable[Tuple[int, int]]:
    """(offset, bytes) of the padding that follows each tensor, in a file whose data section starts at `data_start`."""
    for tensor in tensors:
        end = tensor.offset + tensor.nbytes
        if padded(end) != end:
            yield data_start + end, padded(end) - end


class Piece(NamedTuple):
    """One step of a merge: `count` bytes at `target`, from `source` in shard number `shard`, or zeros (None)."""

    shard: Optional[int]
    source: int
    target: int
    count: int


def pieces(plan: Plan, index: int, start: int) -> Iterable[Piece]:
    """What is to be written of shard number `index`, from offset `start` of the merged file on: in order, no holes."""
    shard = plan.shards[index]
    at = max(shard.target, start)
    # The first gap that ends after `at`; (at,) sorts before (at, bytes).
    number = bisect.bisect_left(plan.gaps, (at,))
    if number and sum(plan.gaps[number - 1]) > at:
        number -= 1
    while at < shard.target_end:
        gap_start, gap_end = shard.target_end, shard.target_end
        if number < len(plan.gaps) and plan.gaps[number][0] < shard.target_end:
            gap_start, gap_end = plan.gaps[number][0], sum(plan.gaps[number])
        if at < gap_start:
            yield Piece(index, shard.data_start + at - shard.target, at, gap_start - at)
            at = gap_start
        else:
            yield Piece(None, 0, at, gap_end - at)
            at = gap_end
            number += 1


def space_needed(plan: Plan, device: int, consume: bool, present: int) -> int:
    """Bytes that must be free on `device` at the worst moment of a merge of which `present` bytes are there already.

    With `consume`, a shard on the same device gives its space back as soon as its range is written.
    """
    if not consume:
        return max(0, plan.total - present)
    worst, given_back = len(plan.header) - present, 0
    for shard in plan.shards:
        worst = max(worst, shard.target_end - present - given_back)
        if shard.device == device:
            given_back += shard.disk_bytes
    return max(0, worst)
