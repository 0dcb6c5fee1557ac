#!/usr/bin/env python3
"""Files in pieces of a given size, and whole again on the other side.

    pieces.py cut OUT FILE_OR_DIRECTORY... [--mib 55]     # OUT/000, OUT/001, ...
    pieces.py join PIECE DIRECTORY                        # what a piece holds is written where it belongs

A piece is a directory of NAME@OFFSET files. Pieces of one cut are joined in their order.
"""

from __future__ import annotations

import os
import sys

MIB = 1 << 20


def sources(paths: list) -> list:
    """[(path, name below its place)] of files, also of those in directories: those that explain others first."""
    found = []
    for path in paths:
        if os.path.isdir(path):
            found += [(os.path.join(path, name), name) for name in sorted(os.listdir(path))]
        else:
            found.append((path, os.path.basename(path)))
    return sorted(found, key=lambda item: (not item[1].endswith(".json"), -os.path.getsize(item[0])))


def cut(out: str, paths: list, size: int) -> int:
    """Returns the number of pieces."""
    number, left = -1, 0
    for path, name in sources(paths):
        offset, whole = 0, os.path.getsize(path)
        with open(path, "rb") as handle:
            while offset < whole or whole == 0:
                if left <= 0:
                    number, left = number + 1, size
                    os.makedirs(os.path.join(out, "%03d" % number))
                data = handle.read(left)
                with open(os.path.join(out, "%03d" % number, "%s@%d" % (name, offset)), "wb") as piece:
                    piece.write(data)
                offset, left = offset + len(data), left - len(data)
                if whole == 0:
                    break
    return number + 1


def join(piece: str, directory: str) -> None:
    os.makedirs(directory, exist_ok=True)
    for part in sorted(os.listdir(piece), key=lambda word: int(word.rpartition("@")[2])):
        name, _at, offset = part.rpartition("@")
        path = os.path.join(directory, name)
        with (
            open(os.path.join(piece, part), "rb") as source,
            open(path, "r+b" if os.path.exists(path) else "wb") as whole,
        ):
            whole.seek(int(offset))
            whole.write(source.read())


def main() -> None:
    words = sys.argv[1:]
    if len(words) == 3 and words[0] == "join":
        join(words[1], words[2])
    elif len(words) >= 3 and words[0] == "cut":
        mib = 55
        if "--mib" in words:
            at = words.index("--mib")
            mib = int(words[at + 1])
            del words[at : at + 2]
        print("%d pieces" % cut(words[1], words[2:], mib * MIB))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
