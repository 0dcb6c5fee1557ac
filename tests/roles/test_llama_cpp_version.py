# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role llama_cpp: the build number in what `llama-server --version` prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRINTED = {
    # b11434 built from the sdist, and the wheel's program: as they print it.
    "version: 0.6.0-dev (build 11434, commit unknown)\nbuilt with GNU 13.3.0 for Linux x86_64": "11434",
    "version: 11549 (xllamacpp 2026.10.11549)": "11549",
    "version: b4711 (0123abc)\nbuilt with cc": "4711",
    "version: 4589 (eb7cf15a)\nbuilt with cc (Debian 12.2.0-14) 12.2.0 for x86_64-linux-gnu": "4589",
    "version: 10.20.30": "unknown",
    "": "unknown",
}
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  vars_files: [{role}/vars/main.yml]
  tasks:
    - ansible.builtin.debug:
        msg: "{{{{ _llama_cpp_said_version }}}}"
      loop: "{{{{ printed }}}}"
      vars:
        _llama_cpp_method: package
        _dsdeploy_look: {{said: "{{{{ item }}}}"}}
      register: found
    - ansible.builtin.copy:
        content: "{{{{ found.results | map(attribute='msg') | map('string') | to_json }}}}"
        dest: "{{{{ playbook_dir }}}}/found.json"
"""


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    play = tmp_path_factory.mktemp("version") / "play.yml"
    play.write_text(PLAYBOOK.format(role=ROOT / "roles" / "llama_cpp"))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "-c", "local", play]
        + ["-e", json.dumps({"printed": list(PRINTED), "ansible_python_interpreter": sys.executable})],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(zip(PRINTED, json.loads((play.parent / "found.json").read_text()), strict=True))


@pytest.mark.parametrize("printed", PRINTED)
def test_build_number(numbers, printed):
    assert numbers[printed] == PRINTED[printed]
