# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Merging onto a disk that is too small, or fills up.

The disk is a tmpfs of 64 MiB in a mount namespace of its own: as root directly, else in a user namespace. Where
neither is allowed, RLIMIT_FSIZE (a limit on one file's size) and a made-up free space stand in for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import gguf_files as files
import pytest

MIB = 1024 * 1024
DISK = 64 * MIB

PROLOGUE = """
import json, os, sys
from pathlib import Path
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import merge as gguf_merge
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import range_copy, survey as gguf_survey
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
import gguf_files as files
disk, small = Path(sys.argv[1]), sys.argv[2] == "mounted"

class Space:
    f_frsize = 1

    def __init__(self, path):
        self.f_bavail = 64 * 1024 * 1024 - sum(path.stat().st_blocks * 512 for path in disk.iterdir())

if not small:
    os.statvfs = Space

def attempt(src, dest, consume=False, report=None):
    try:
        done = gguf_merge.merge(str(src), str(dest), consume, False, Progress("test", report=report))
        return {"resumed_at": done.resumed_at, "removed": done.removed}
    except gguf_merge.Failure as error:
        return {"error": str(error), "hint": error.hint}

def seen():
    return sorted(os.listdir(disk))
"""


def mounts(wrapper):
    return subprocess.run([*wrapper, "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True).returncode == 0


WRAPPER = next((w for w in (["unshare", "-m"], ["unshare", "-Urm"]) if mounts(w)), None)


def on_small_disk(tmp_path, script):
    """Run `script` with `disk`, a directory on a disk of 64 MiB; return the JSON it prints last."""
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "script.py").write_text(PROLOGUE + script)
    command = [sys.executable, str(tmp_path / "script.py"), str(disk)]
    if WRAPPER:
        mount = f'mount -t tmpfs -o size={DISK} none {disk} && exec "$@"'
        command = [*WRAPPER, "sh", "-c", mount, "sh", *command, "mounted"]
    else:
        command = [*command, "limited"]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_too_small_is_refused_before_writing_with_the_numbers(tmp_path):
    files.write_set(tmp_path, files.model(60, shards=3, big=40 * MIB).shards())
    found = on_small_disk(tmp_path, """
result = attempt(disk.parent / "m-00001-of-00003.gguf", disk / "out.gguf")
print(json.dumps([result, seen()]))
""")  # fmt: skip
    (result, left) = found
    total = len(files.model(60, shards=3, big=40 * MIB).merged())
    short = f"{(total + MIB - DISK) / MIB:.1f} MiB too few"
    needs = f"121.0 MiB needed ({tmp_path}/disk/out.gguf), 64.0 MiB free, {short}"
    assert result["error"] == f"not enough disk space on {tmp_path}/disk: {needs}"
    assert "use consume" in result["hint"] and left == []


def test_consume_fits_where_a_copy_would_not(tmp_path):
    """Shards of 4 x 12 MiB on a disk of 64 MiB: one more shard fits, a second copy does not."""
    found = on_small_disk(tmp_path, """
model = files.model(61, shards=4, big=12 * 1024 * 1024)
paths = files.write_set(disk, model.shards())
refused = attempt(paths[0], disk / "out.gguf")
result = attempt(paths[0], disk / "out.gguf", consume=True)
print(json.dumps([refused, result, seen(), (disk / "out.gguf").read_bytes() == model.merged()]))
""")  # fmt: skip
    refused, result, left, same = found
    assert "not enough disk space" in refused["error"]
    assert result == {"resumed_at": 0, "removed": 4} and left == ["out.gguf"] and same


@pytest.mark.parametrize("consume", [False, True])
def test_filled_midway_ends_cleanly_and_goes_on(tmp_path, consume):
    """Somebody else takes the space while the merge runs, on a file system that cannot reserve it."""
    found = on_small_disk(tmp_path, """
import resource, time
CONSUME = %r
range_copy.CHUNK, range_copy.FLUSH = 1024 * 1024, 4 * 1024 * 1024
gguf_merge.reserve = lambda *args: False
model = files.model(62, shards=4, big=10 * 1024 * 1024)
paths = files.write_set(disk.parent, model.shards())
if not small:
    os.statvfs = lambda path: type('S', (), {'f_bavail': 10**12, 'f_frsize': 1})
    resource.setrlimit(resource.RLIMIT_FSIZE, (25 * 1024 * 1024, resource.RLIM_INFINITY))

def take_it_all(report):
    # The report comes at most twice a second: the copying is over by then, so take the space at the first.
    if small and report["what"] == "merge" and not (disk / "other").exists():
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "other").write_bytes(bytes(free - 25 * 1024 * 1024))

failed = attempt(paths[0], disk / "out.gguf", CONSUME, take_it_all)
left = seen(), [path.exists() for path in paths]
(disk / "other").unlink(missing_ok=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
result = attempt(paths[0], disk / "out.gguf", CONSUME)
same = (disk / "out.gguf").read_bytes() == model.merged()
print(json.dumps([failed, left, result, same, seen(), [path.exists() for path in paths]]))
""" % consume)  # fmt: skip  # noqa: UP031
    failed, (left, shards), result, same, at_last, shards_at_last = found
    assert "no space left for" in failed["error"] and "run it again: it goes on from there" in failed["hint"]
    assert "out.gguf" not in left and ".out.gguf.merge-journal" in left and ".out.gguf.merge-part" in left
    assert shards == ([False, False, True, True] if consume else [True] * 4)
    assert result["resumed_at"] > 15 * MIB and same and at_last == ["out.gguf"]
    assert shards_at_last == [not consume] * 4


def test_space_that_is_gone_before_the_first_byte(tmp_path):
    """Reserving fails although the survey found room: nothing is left behind."""
    found = on_small_disk(tmp_path, """
import errno
model = files.model(63, shards=2, big=5 * 1024 * 1024)
paths = files.write_set(disk.parent, model.shards())
def reserve(*args):
    raise OSError(errno.ENOSPC, "No space left on device")
gguf_merge.reserve = reserve
print(json.dumps([attempt(paths[0], disk / "out.gguf"), seen()]))
""")  # fmt: skip
    assert "no space left" in found[0]["error"] and "nothing was kept" in found[0]["hint"] and found[1] == []
