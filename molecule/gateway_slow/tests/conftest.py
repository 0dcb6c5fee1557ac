import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[3] / "tests/standins")]
CHECKOUT = Path(__file__).parents[3]


def key_command(host, *words):
    """`dsdeploy key …` for one host of the scenario, as a user types it."""
    run = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]
    command = [sys.executable, "-m", "dsdeploy", "key", *words, "-i", os.environ["MOLECULE_INVENTORY_FILE"]]
    environment = dict(os.environ, ANSIBLE_CONFIG=f"{run}/ansible.cfg", PYTHONPATH=str(CHECKOUT / "python"))
    environment.update(ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0")
    command += ["--limit", host.backend.get_hostname()]
    return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def key(host):
    """A key of the tests, made as a user makes one."""
    done = key_command(host, "add", "tests", "--replace", "--requests-per-minute", "100000", "--streams", "2000")
    assert done.returncode == 0, done.stdout + done.stderr
    found = done.stdout.strip()
    assert re.fullmatch(r"sk-dsdeploy-[A-Za-z0-9_-]{43}", found), done.stdout
    assert found not in done.stderr
    return found
