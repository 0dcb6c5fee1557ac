"""Facts are of this run, whatever a fact cache of the user says of the host: roles alone, and the main playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Of a machine that it was once, as every read of the roles' facts would have left them.
LIES = {
    "ansible_architecture": "sparc64",
    "ansible_service_mgr": "openrc",
    "dsdeploy_memory": {"total_mib": 1},
    "dsdeploy_deployments": [],
    "nvidia_smi": {"status": "not_installed", "gpus": []},
}
PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - HOW
    - ansible.builtin.debug:
        msg: "SAID {{ ansible_facts.architecture }} {{ ansible_facts.dsdeploy_memory.total_mib > 1 }}"
"""
HOW = {
    "a role": "ansible.builtin.include_role: {name: dsdeploy.llm._common, tasks_from: facts}",
    "the lock": "dsdeploy.llm.host_lock: {path: LOCK, facts: true}",
}


@pytest.mark.parametrize("how", HOW)
def test_no_fact_is_taken_from_a_cache(how: str, tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAYBOOK.replace("HOW", HOW[how]).replace("LOCK", str(tmp_path / "lock")))
    (tmp_path / "facts").mkdir()
    # As ansible-core before and since 2.19 names and writes them.
    (tmp_path / "facts/localhost").write_text(json.dumps(LIES))
    (tmp_path / "facts/s1_localhost").write_text(json.dumps({"__payload__": json.dumps(LIES)}))
    cache = {"CACHE_PLUGIN": "jsonfile", "CACHE_PLUGIN_CONNECTION": str(tmp_path / "facts"),
             "CACHE_PLUGIN_TIMEOUT": "0", "COLLECTIONS_PATH": str(ROOT / ".collections")}  # fmt: skip
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "play.yml"]
    done = subprocess.run(
        [*command, "-e", f"ansible_python_interpreter={sys.executable}"],
        cwd=tmp_path,
        env={**os.environ, **{f"ANSIBLE_{name}": value for name, value in cache.items()}},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert f"SAID {os.uname().machine} True" in done.stdout, done.stdout + done.stderr
