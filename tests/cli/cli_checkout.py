"""A checkout of its own for the tests of the command line: the package as it is, around it a collection of stand-ins
(`fixtures/checkout`) whose modules return what the real ones do, in the shapes that CONTRIBUTING.md promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "python" / "dsdeploy"


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("a checkout")  # with a space in its path
    shutil.copytree(HERE / "fixtures" / "checkout", root, dirs_exist_ok=True)
    shutil.copytree(PACKAGE, root / "python" / "dsdeploy")
    # The hints that the command shares with the modules.
    ground = Path("plugins", "module_utils", "ground")
    shutil.copytree(PACKAGE.parents[1] / ground, root / ground)
    link = root / ".collections" / "ansible_collections" / "dsdeploy" / "llm"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../..", target_is_directory=True)
    return root


@pytest.fixture
def environ(checkout: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a user without any Ansible settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return {**kept, "PYTHONPATH": str(checkout / "python"), "TMPDIR": str(tmp_path)}


Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def dsdeploy(environ: dict[str, str], tmp_path: Path) -> Cli:
    """Runs the command as a user does, without a terminal, from a directory of its own."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "dsdeploy", *args],
            cwd=tmp_path,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        # However it ends: nothing of the run stays on disk, and no traceback is shown.
        assert not list(tmp_path.glob("dsdeploy-*"))
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run
