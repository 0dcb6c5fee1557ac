#!/usr/bin/env python3
"""Wheels in fewer bytes: for a GPU host without a network, that is fed through a narrow pipe.

    wheels.py pack OUT WHEELS... [--inventory INVENTORY.json.gz] [--have DIR]
    wheels.py unpack IN INDEX [--programs DIR] [--jobs N]

A wheel is a zip archive. What the host has already (`inventory.py`), it compresses again itself; what zlib can make
again travels uncompressed inside one zstd stream, which is a third smaller than deflate for most libraries of CUDA;
only the rest travels as it is. `unpack` writes the same bytes again, checks the sha256, and keeps them as a package
index of files (PEP 503) that pip and uv take by a file:// URL. Both need the program zstd.

OUT gets NAME.json and NAME.zst for each group of wheels; `unpack` builds the groups that are complete, and may be
called again when more has arrived.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import gzip
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib

LARGE = 8 << 20  # bytes: a wheel from here on is a group of its own
SAMPLE = 256 << 10  # bytes
STRETCH = 16 << 20  # bytes
WORTH = 0.85  # a zstd stream that is not smaller than this part of the deflated one is not worth compressing again
LEVELS = (6, 9, 8, 7, 5, 4, 3, 2, 1)
LONG = "--long=31"  # the window, 2 GiB: wheels of a group share much
CHUNK = 4 << 20  # bytes


# --- packing ---


def deflate(raw: bytes, level: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return packer.compress(raw) + packer.flush()


def level_of(raw: bytes, packed: bytes) -> int | None:
    """The level of zlib that makes `packed` of `raw`; None where none does."""
    for level in LEVELS:
        if len(raw) > 4 * SAMPLE:
            # The end of a sample is not what it is inside the whole.
            packer = zlib.compressobj(level, zlib.DEFLATED, -15)
            if not packed.startswith(packer.compress(raw[:SAMPLE])):
                continue
        if deflate(raw, level) == packed:
            return level
    return None


def is_worth_it(raw: bytes, packed: int) -> bool:
    """Whether zstd makes less of a member than deflate has: by a stretch in its middle."""
    start = max(0, len(raw) // 2 - STRETCH // 2)
    part = raw[start : start + STRETCH]
    done = subprocess.run(["zstd", "-q", "-3", "-c"], input=part, stdout=subprocess.PIPE, check=True)
    return len(done.stdout) / len(part) < WORTH * packed / len(raw)


def members(path: str) -> list:
    """[(start of the packed bytes, their length, their uncompressed length)] of the deflated members, in file order."""
    found = []
    with zipfile.ZipFile(path) as archive, open(path, "rb") as handle:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_DEFLATED or info.compress_size == 0:
                continue
            handle.seek(info.header_offset + 26)
            name, extra = struct.unpack("<HH", handle.read(4))
            found.append((info.header_offset + 30 + name + extra, info.compress_size, info.file_size))
    return sorted(found)


def steps(path: str, stream, known: dict) -> list:
    """How to make the wheel again: ["n", bytes], ["z", bytes, level] from the stream, or ["i", file, level]."""
    made = []

    def literal(data: bytes) -> None:
        if data:
            stream.write(data)
            if made and made[-1][0] == "n":
                made[-1][1] += len(data)
            else:
                made.append(["n", len(data)])

    with open(path, "rb") as handle:
        for start, size, _raw_size in members(path):
            literal(handle.read(start - handle.tell()))
            packed = handle.read(size)
            raw = zlib.decompress(packed, -15)
            there = known.get(hashlib.sha256(raw).hexdigest())
            level = None
            if there or len(raw) <= SAMPLE or is_worth_it(raw, size):
                level = level_of(raw, packed)
            if level is None:
                literal(packed)
            elif there:
                made.append(["i", there, level])
            else:
                stream.write(raw)
                made.append(["z", len(raw), level])
        literal(handle.read())
    return made


def sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(CHUNK), b""):
            digest.update(block)
    return digest.hexdigest()


def groups(wheels: list) -> dict:
    """Name of a group to its wheels: what is large by itself, parts of one product together, the rest together."""
    made = {}
    for path in sorted(wheels):
        name = re.sub(r"[-_.]+", "-", os.path.basename(path).split("-")[0]).lower()
        group = "cutlass" if "cutlass-dsl" in name else name if os.path.getsize(path) >= LARGE else "rest"
        made.setdefault(group, []).append(path)
    return made


def pack(options: argparse.Namespace) -> None:
    known = {}
    if options.inventory:
        with gzip.open(options.inventory, "rt", encoding="utf-8") as handle:
            known = json.load(handle)["files"]
    os.makedirs(options.out, exist_ok=True)
    have = {name for directory in options.have for name in listed(directory)}
    wheels = [path for path in options.wheels if os.path.basename(path) not in have]
    for group, paths in sorted(groups(wheels).items(), key=lambda item: -sum(map(os.path.getsize, item[1]))):
        base = os.path.join(options.out, group)
        if os.path.exists(base + ".json"):
            continue
        packer = subprocess.Popen(
            ["zstd", "-q", "-f", "-%d" % options.level, LONG, "-o", base + ".zst"], stdin=subprocess.PIPE
        )
        told = []
        for path in paths:
            told.append(
                {"name": os.path.basename(path), "sha256": sha256(path), "steps": steps(path, packer.stdin, known)}
            )
        packer.stdin.close()
        if packer.wait():
            sys.exit("zstd failed on %s" % group)
        size = os.path.getsize(base + ".zst")
        with open(base + ".json.new", "w", encoding="utf-8") as handle:
            json.dump({"wheels": told, "bytes": size, "sha256": sha256(base + ".zst")}, handle)
        os.rename(base + ".json.new", base + ".json")
        print(
            "%-40s %8.1f MiB -> %8.1f MiB" % (group, sum(map(os.path.getsize, paths)) / 2**20, size / 2**20), flush=True
        )


def listed(directory: str) -> list:
    """Names of the wheels in the groups of a directory."""
    names = []
    for name in sorted(os.listdir(directory)):
        if name.endswith(".json"):
            with open(os.path.join(directory, name), encoding="utf-8") as handle:
                names += [wheel["name"] for wheel in json.load(handle)["wheels"]]
    return names


# --- unpacking ---


def copy(source, target, size: int, level: int | None) -> None:
    """Copy so many bytes, deflated where a level is given; None as size: to the end."""
    packer = None if level is None else zlib.compressobj(level, zlib.DEFLATED, -15)
    while size is None or size:
        block = source.read(CHUNK if size is None else min(CHUNK, size))
        if not block:
            if size is None:
                break
            raise EOFError("the stream ends too early")
        size = None if size is None else size - len(block)
        target.write(packer.compress(block) if packer else block)
    if packer:
        target.write(packer.flush())


def build(told: dict, raw_path: str, offset: int, target: str) -> str:
    """One wheel from the unpacked stream of its group; returns the wheel's path."""
    path = os.path.join(target, re.sub(r"[-_.]+", "-", told["name"].split("-")[0]).lower(), told["name"])
    os.makedirs(os.path.dirname(path), exist_ok=True)
    new = path + ".new"
    with open(raw_path, "rb") as stream, open(new, "wb") as wheel:
        stream.seek(offset)
        for step in told["steps"]:
            if step[0] == "i":
                with open(step[1], "rb") as there:
                    copy(there, wheel, None, step[2])
            else:
                copy(stream, wheel, step[1], step[2] if step[0] == "z" else None)
    if sha256(new) != told["sha256"]:
        raise ValueError("%s was not made again as it was" % told["name"])
    os.rename(new, path)
    return path


def index(target: str) -> None:
    """The pages of PEP 503: one for each project, one for all. The names of the projects are its directories."""
    projects = sorted(name for name in os.listdir(target) if os.path.isdir(os.path.join(target, name)))
    for project in projects:
        files = sorted(name for name in os.listdir(os.path.join(target, project)) if name.endswith(".whl"))
        links = "".join('<a href="%s">%s</a><br>\n' % (name, name) for name in files)
        with open(os.path.join(target, project, "index.html"), "w", encoding="utf-8") as handle:
            handle.write("<!DOCTYPE html><html><body>\n%s</body></html>\n" % links)
    with open(os.path.join(target, "index.html"), "w", encoding="utf-8") as handle:
        links = "".join('<a href="%s/">%s</a><br>\n' % (name, name) for name in projects)
        handle.write("<!DOCTYPE html><html><body>\n%s</body></html>\n" % links)


def unpack(options: argparse.Namespace) -> None:
    zstd = os.path.join(options.programs, "zstd") if options.programs else "zstd"
    os.makedirs(options.index, exist_ok=True)
    failed = 0
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        waiting = {}
        for name in sorted(os.listdir(options.source)):
            base = os.path.join(options.source, name[:-5])
            if not name.endswith(".json") or os.path.exists(base + ".built"):
                continue
            with open(base + ".json", encoding="utf-8") as handle:
                told = json.load(handle)
            if not os.path.exists(base + ".zst") or os.path.getsize(base + ".zst") < told["bytes"]:
                continue
            try:
                # One at a time builds a group, however often this is started.
                os.mkdir(base + ".building")
            except FileExistsError:
                continue
            env = dict(os.environ)
            if options.programs:
                env["LD_LIBRARY_PATH"] = options.programs + ":" + env.get("LD_LIBRARY_PATH", "")
            subprocess.run([zstd, "-q", "-d", "-f", LONG, base + ".zst", "-o", base + ".raw"], check=True, env=env)
            offset = 0
            for wheel in told["wheels"]:
                waiting[pool.submit(build, wheel, base + ".raw", offset, options.index)] = (base, wheel["name"])
                offset += sum(step[1] for step in wheel["steps"] if step[0] != "i")
        for done in concurrent.futures.as_completed(waiting):
            base, name = waiting[done]
            if done.exception():
                failed += 1
                print("FAILED %s: %s" % (name, done.exception()), flush=True)
    for base in {base for base, _name in waiting.values()}:
        shutil.rmtree(base + ".building")
        os.unlink(base + ".raw")
        os.unlink(base + ".zst")
        open(base + ".built", "w", encoding="utf-8").close()
    index(options.index)
    print("%d wheels made, %d failed" % (len(waiting) - failed, failed))
    sys.exit(1 if failed else 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack")
    packing.add_argument("out")
    packing.add_argument("wheels", nargs="+")
    packing.add_argument("--inventory", help="what the host has, as inventory.py wrote it")
    packing.add_argument(
        "--have", action="append", default=[], help="directory of groups that go first: without these wheels"
    )
    packing.add_argument("--level", type=int, default=6, help="of zstd")
    unpacking = verbs.add_parser("unpack")
    unpacking.add_argument("source")
    unpacking.add_argument("index")
    unpacking.add_argument("--programs", default="", help="directory with zstd and its libraries")
    unpacking.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    {"pack": pack, "unpack": unpack}[options.verb](options)


if __name__ == "__main__":
    main()
