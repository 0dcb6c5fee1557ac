# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kill -9 during a download, again and again. DSDEPLOY_KILLS=50 for the long run (default 3)."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.chunk_journal import CHUNK, PartFile
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import BLOCK

ROOT = Path(__file__).resolve().parents[5]

KILLS = int(os.environ.get("DSDEPLOY_KILLS", "3"))
SIZES = {"m-00001-of-00003.gguf": 40 * CHUNK, "m-00002-of-00003.gguf": 40 * CHUNK + 77, "m-00003-of-00003.gguf": 9}

RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.fetch import Fetch
report = lambda here, total, paths: print(here, flush=True)
Fetch(json.loads(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]), print, report).run()
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    (root / "o/m").mkdir(parents=True)
    source = random.Random(9)
    content = {name: b"GGUF" + source.randbytes(size - 4) for name, size in SIZES.items()}
    for name, data in content.items():
        (root / "o/m" / name).write_bytes(data)
    return root, content


@pytest.fixture
def hub_url(files):
    # A process of its own, so that the downloads and the hub do not share one interpreter lock.
    command = [sys.executable, str(ROOT / "tests/standins/hub.py"), str(files[0])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield process.stdout.readline().split()[0]
    process.kill()
    process.wait()


def common_prefix(one, other):
    low, high = 0, len(other)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def lost_bytes(part_path, content):
    """Right bytes of a part that its journal does not know: what the next run fetches again."""
    with open(part_path, "rb") as handle:
        data = handle.read()
    part = PartFile(part_path, len(content), json.loads(open(part_path + ".journal").read(4096))["identity"])
    missing = part.missing()
    part.close()
    lost = 0
    # What counts as lost is wiped, so that the next kill's loss is measured and not this one's again.
    with open(part_path, "r+b") as handle:
        for start, end in missing:
            handle.seek(start)
            handle.write(bytes(end - start))
    for start, end in missing:
        for first in range(start, end, CHUNK):
            here, there = data[first : min(first + CHUNK, end)], content[first : min(first + CHUNK, end)]
            if any(here):
                lost += common_prefix(here, there)
    return lost, len(content) - sum(end - start for start, end in missing)


def has_begun(models):
    """Whether something has come; the download goes on beside this, so that any file may have gone."""
    with contextlib.suppress(OSError):
        return any(path.stat().st_size for path in models.rglob("*.journal"))
    return False


def test_kill_9(files, hub_url, tmp_path):
    root, content = files
    chance = random.Random(5)
    worst, kills, before = 0, 0, {}
    while kills < KILLS:
        entry = {"name": f"m{kills}", "format": "gguf", "sources": [{"kind": "huggingface", "id": "o/m"}]}
        # So slow that the kills come in the middle of it.
        options = {"mirrors": {"huggingface": [hub_url]}, "limit": 40 * CHUNK, "connections": 16}
        command = [sys.executable, "-c", RUN, str(ROOT / ".collections"), json.dumps(entry), str(tmp_path)]
        for again in range(4):
            process = subprocess.Popen(command + [json.dumps(options)], stdout=subprocess.PIPE, text=True)
            process.stdout.readline()  # it downloads; how long it takes to get there is the machine's affair
            # At any moment, but every other one when something has come: on a busy machine that takes a while.
            while again % 2 and process.poll() is None and not has_begun(tmp_path / entry["name"]):
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 1.2))
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            partial = tmp_path / entry["name"] / "main" / model_store.PARTIAL
            # Done before the kill came: there is nothing to resume, and the files are right (below).
            if (tmp_path / entry["name"] / "main" / model_store.MANIFEST).exists():
                break
            for name, data in content.items():
                if (partial / name).exists() and (partial / (name + ".journal")).stat().st_size:
                    lost, there = lost_bytes(str(partial / name), data)
                    assert lost <= BLOCK
                    assert there >= before.get((entry["name"], name), 0)
                    before[entry["name"], name] = there
                    worst = max(worst, lost)
        subprocess.run(command + [json.dumps(dict(options, limit=0))], check=True, stdout=subprocess.DEVNULL)
        manifest = model_store.read_manifest(str(tmp_path / entry["name"] / "main"))
        assert {item["path"]: item["bytes"] for item in manifest["files"]} == SIZES
        for name, data in content.items():
            assert (tmp_path / entry["name"] / "main" / name).read_bytes() == data
            (tmp_path / entry["name"] / "main" / name).unlink()
    print(f"{kills} kills, worst loss {worst} bytes of one file (block {BLOCK})")
    assert any(before.values()), "no kill came during a download: the test shows nothing"
