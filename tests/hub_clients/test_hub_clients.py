# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in hub's own test: the real `hf`, `modelscope` and `git lfs` clients download from it.

Not among the unit tests, because the clients come from the package index (uv makes their environment):

    pytest tests/hub_clients
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/standins"))
import hub as standin  # noqa: E402

FILES = {"sub/m-00001.gguf": 5_000_123, "m-00002.gguf": 3_000_000, "config.json": 40, "README.md": 20}
CLIENTS = ["huggingface_hub>=1", "modelscope>=1.30"]


@pytest.fixture(scope="session")
def clients(tmp_path_factory):
    venv = tmp_path_factory.mktemp("clients") / "venv"
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
    install = ["uv", "pip", "install", "--quiet", "--python", str(venv / "bin/python"), *CLIENTS]
    subprocess.run(install, check=True)
    return venv / "bin"


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    for name, size in FILES.items():
        path = root / "owner/model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(name).randbytes(size))
    standin.make_git(root, "owner/model")
    return root


@pytest.fixture
def url(root):
    with standin.served(root) as hub:
        yield hub.url


def run(*command, **environment):
    done = subprocess.run(
        [str(word) for word in command], env=dict(os.environ, **environment), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def assert_same(root, out):
    for name in FILES:
        assert (out / name).read_bytes() == (root / "owner/model" / name).read_bytes()


def test_hf(clients, root, url, tmp_path):
    environment = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    run(clients / "hf", "download", "owner/model", "--local-dir", tmp_path / "out", **environment)
    assert_same(root, tmp_path / "out")


def test_hf_include(clients, root, url, tmp_path):
    command = [clients / "hf", "download", "owner/model", "--include", "sub/*", "--local-dir", tmp_path / "out"]
    run(*command, HF_ENDPOINT=url, HF_HOME=str(tmp_path / "home"))
    assert [path.name for path in (tmp_path / "out").rglob("m-*.gguf")] == ["m-00001.gguf"]


def test_modelscope(clients, root, url, tmp_path):
    environment = {"MODELSCOPE_ENDPOINT": url, "MODELSCOPE_DOMAIN": url.split("//")[1], "HOME": str(tmp_path)}
    run(clients / "modelscope", "download", "--model", "owner/model", "--local_dir", tmp_path / "out", **environment)
    assert_same(root, tmp_path / "out")


def test_git_lfs(root, url, tmp_path):
    environment = {"GIT_LFS_SKIP_SMUDGE": "1", "HOME": str(tmp_path)}
    run("git", "clone", "-q", f"{url}/git/owner/model", tmp_path / "out", **environment)
    run("git", "-C", tmp_path / "out", "lfs", "pull", HOME=str(tmp_path))
    assert_same(root, tmp_path / "out")
