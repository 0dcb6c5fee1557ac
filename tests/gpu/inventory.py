#!/usr/bin/env python3
"""What a GPU host has already: the files of its Python packages by hash, and a few words on the host itself.

    inventory.py OUT.json.gz

Runs on the host, with any Python from 3.8. `wheels.py pack` leaves out of the pieces what it finds here: a wheel is put
together again there from these files. Form of the output: {"host": {name: words}, "zlib": version, "files":
{sha256: path}}.
"""

from __future__ import annotations

import base64
import csv
import glob
import gzip
import json
import os
import subprocess
import sys
import zlib

PLACES = ("/opt/*/lib", "/opt/*/.venv/lib", "/opt/*/*/lib", "/usr/lib", "/usr/local/lib", "/root/*/lib")
WORDS = {
    "system": "grep -E '^(NAME|VERSION_ID)=' /etc/os-release; uname -r; ldd --version | head -1",
    "init": "cat /proc/1/comm",
    "memory": "free -g; df -h / /dev/shm /tmp",
    "cores": "nproc; grep -m1 'model name' /proc/cpuinfo",
    "programs": "for p in python3 python3.12 uv pip gcc g++ cmake ninja nvcc git curl ip unshare sudo setpriv"
    " supervisord runuser apt-get xz zstd ssh tmux; do echo $p $(command -v $p); done;"
    " ls /usr/bin/python3*; nvcc --version | tail -2",
    "variables": "env | grep -E '^(NCCL|TORCH|NVSHMEM|CUDA|LD_|PATH|VLLM|PIP|UV|PYTHON|VIRTUAL)'",
    "gpus": "nvidia-smi; nvidia-smi topo -m",
    "python": "readlink -f $(command -v python3); python3 -c 'import sys; print(sys.version, sys.prefix)';"
    " /usr/bin/python3 -c 'import sys, venv, ensurepip; print(sys.version)'; ls /usr/include/python3*/Python.h",
}


def words(command: str) -> str:
    """What a shell command says, both streams."""
    done = subprocess.run(
        ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
    )
    return done.stdout.decode("utf-8", "replace")


def site_packages() -> list:
    """Every directory of packages on this host."""
    found = set()
    for place in PLACES:
        for kind in ("site-packages", "dist-packages"):
            found.update(glob.glob("%s/python3*/%s" % (place, kind)))
    return sorted(found)


def files() -> dict:
    """sha256 (hex) to path, of every installed file whose RECORD names a hash and that lies there in its length."""
    known = {}
    for directory in site_packages():
        for record in glob.glob(os.path.join(glob.escape(directory), "*.dist-info", "RECORD")):
            with open(record, encoding="utf-8", newline="") as handle:
                for row in csv.reader(handle):
                    if len(row) != 3 or not row[1].startswith("sha256=") or not row[2].isdigit():
                        continue
                    path = os.path.normpath(os.path.join(directory, row[0]))
                    if not os.path.isfile(path) or os.path.getsize(path) != int(row[2]):
                        continue
                    digest = base64.urlsafe_b64decode(row[1][7:] + "=" * (-len(row[1][7:]) % 4)).hex()
                    known.setdefault(digest, path)
    return known


def main() -> None:
    told = {
        "host": {name: words(command) for name, command in WORDS.items()},
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "packages": site_packages(),
        "files": files(),
    }
    with gzip.open(sys.argv[1], "wt", encoding="utf-8") as handle:
        json.dump(told, handle)
    print(json.dumps(told["host"], indent=1).replace("\\n", "\n"))
    print(len(told["files"]), "files in", told["packages"])


if __name__ == "__main__":
    main()
