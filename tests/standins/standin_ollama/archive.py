# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of a release."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import platform
import struct
import tarfile
import zipfile
from pathlib import Path

from standin_ollama import VERSION, version_tuple


def zstd(content):
    """A Zstandard frame of uncompressed blocks (RFC 8878): any zstd reads it, and nothing is needed to write it."""
    blocks = [content[start : start + 131072] for start in range(0, len(content), 131072)] or [b""]
    frame = struct.pack("<IBQ", 0xFD2FB528, 0xE0, len(content))
    for number, block in enumerate(blocks):
        frame += struct.pack("<I", (len(block) << 3) | (number == len(blocks) - 1))[:3] + block
    return frame


def program(version=VERSION):
    """bin/ollama: this package as one executable file that /usr/bin/python3 runs."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as package:
        package.writestr(zipfile.ZipInfo("__main__.py"), "import runpy\nrunpy.run_module('standin_ollama.__main__')\n")
        for path in sorted(Path(__file__).parent.glob("*.py")):
            text = path.read_text(encoding="utf-8").replace(f'VERSION = "{VERSION}"', f'VERSION = "{version}"', 1)
            package.writestr(zipfile.ZipInfo("standin_ollama/" + path.name), text)
    return b"#!/usr/bin/python3\n" + raw.getvalue()


def write(directory, version=VERSION):
    """Write the archive and its sha256sum.txt; returns (path, sha256)."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        files = {
            "bin/ollama": program(version),
            "lib/ollama/libggml-base.so.0": b"",
            "lib/ollama/cuda_v12/libggml-cuda.so": b"",
        }
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    modern = version_tuple(version) >= (0, 14)
    content = zstd(raw.getvalue()) if modern else gzip.compress(raw.getvalue(), mtime=0)
    name = f"ollama-linux-{machine}{'.tar.zst' if modern else '.tgz'}"
    os.makedirs(directory, exist_ok=True)
    path, sha256 = os.path.join(directory, name), hashlib.sha256(content).hexdigest()
    with open(path, "wb") as handle:
        handle.write(content)
    with open(os.path.join(directory, "sha256sum.txt"), "w", encoding="ascii") as handle:
        handle.write(f"{sha256}  ./{name}\n")
    return path, sha256
