# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role nvidia_driver: what it would install on each distribution, resolved from the role's own variables.

For Ubuntu and the RHEL family this is all that is tested: no such host can be had here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
HOSTS = {
    "ubuntu2204": {"distribution": "Ubuntu", "distribution_major_version": "22", "os_family": "Debian"},
    "ubuntu2404": {"distribution": "Ubuntu", "distribution_major_version": "24", "os_family": "Debian"},
    "debian12": {"distribution": "Debian", "distribution_major_version": "12", "os_family": "Debian"},
    "debian13": {"distribution": "Debian", "distribution_major_version": "13", "os_family": "Debian"},
    "rocky8": {"distribution": "Rocky", "distribution_major_version": "8", "os_family": "RedHat"},
    "rhel9": {"distribution": "RedHat", "distribution_major_version": "9", "os_family": "RedHat"},
}
DRIVER = {
    "gpus": [{"generation": "Hopper"}],
    "nvswitches": 4,
    "kernel": {"release": "5.15.0-94-generic", "compiler": "gcc-12", "has_headers": False, "has_compiler": False},
    "may_load_modules": True,
    "packages": {},
}
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - facts_of_a_host: {{name: "{{{{ inventory_hostname }}}}"}}
    - ansible.builtin.include_vars: "{{{{ item }}}}"
      loop: ["{role}/defaults/main.yml", "{role}/vars/main.yml"]
    - ansible.builtin.include_vars: "{{{{ lookup('ansible.builtin.first_found', found) }}}}"
      vars:
        found:
          files: ["{{{{ ansible_facts.distribution }}}}.yml", "{{{{ ansible_facts.os_family }}}}.yml"]
          paths: ["{role}/vars"]
    - ansible.builtin.copy:
        content: "{{{{ resolved | to_json }}}}"
        dest: "{{{{ playbook_dir }}}}/{{{{ inventory_hostname }}}}.json"
      vars:
        nvidia_driver_install_method: nvidia
        resolved:
          nvidia: "{{{{ _nvidia_driver_packages.nvidia }}}}"
          distribution: "{{{{ _nvidia_driver_packages.distribution | default({{}}) }}}}"
          build: "{{{{ _nvidia_driver_build_packages }}}}"
          kernel_min: "{{{{ _nvidia_driver_kernel_min }}}}"
          available: "{{{{ _nvidia_driver_kernel_modules_available }}}}"
          stream: "{{{{ _nvidia_driver_stream | default({{}}) }}}}"
          branch: "{{{{ _nvidia_driver_branch }}}}"
"""
FACTS_MODULE = """
from ansible.module_utils.basic import AnsibleModule
FACTS = {facts!r}
module = AnsibleModule(argument_spec={{"name": {{}}}})
module.exit_json(changed=False, ansible_facts=FACTS[module.params["name"]])
"""


@pytest.fixture(scope="module")
def resolved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("packages")
    (directory / "library").mkdir()
    facts = {
        name: {
            **{f"ansible_{key}": value for key, value in host.items()},
            "nvidia_driver": DRIVER,
            "nvidia_smi": {"status": "x"},
        }
        for name, host in HOSTS.items()
    }
    (directory / "library/facts_of_a_host.py").write_text(FACTS_MODULE.format(facts=facts))
    play = directory / "play.yml"
    play.write_text(PLAYBOOK.format(role=ROOT / "roles/nvidia_driver"))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", ",".join(HOSTS) + ",", "-c", "local", play]
        + ["-e", json.dumps({"ansible_python_interpreter": sys.executable, "nvidia_driver_branch": "550"})],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((directory / f"{name}.json").read_text()) for name in HOSTS}


@pytest.mark.parametrize("host", ["ubuntu2204", "ubuntu2404"])
def test_ubuntu(resolved, host):
    found = resolved[host]
    assert found["nvidia"]["open"] == [
        "nvidia-headless-550-open | nvidia-dkms-open",
        "libnvidia-compute-550 | libnvidia-compute",
        "nvidia-utils-550 | libnvidia-compute",
    ]
    assert found["nvidia"]["proprietary"][0] == "nvidia-headless-550 | nvidia-dkms"
    assert found["nvidia"]["fabric_manager"] == ["nvidia-fabricmanager-550 | nvidia-fabricmanager"]
    assert found["distribution"]["open"] == ["nvidia-headless-550-server-open", "nvidia-utils-550-server"]
    assert found["distribution"]["proprietary"] == ["nvidia-headless-550-server", "nvidia-utils-550-server"]
    assert found["distribution"]["fabric_manager"] == ["nvidia-fabricmanager-550"]
    assert found["build"] == ["linux-headers-5.15.0-94-generic", "gcc-12"]
    assert found["kernel_min"] == "5.0"


@pytest.mark.parametrize("host", ["debian12", "debian13"])
def test_debian(resolved, host):
    found = resolved[host]
    assert found["nvidia"]["open"] == ["nvidia-kernel-open-dkms", "nvidia-driver-cuda | nvidia-smi", "libcuda1"]
    assert found["nvidia"]["fabric_manager"] == ["nvidia-fabricmanager-550 | nvidia-fabricmanager"]
    assert found["distribution"]["proprietary"] == ["nvidia-kernel-dkms", "nvidia-smi", "libcuda1"]
    assert found["distribution"]["fabric_manager"] == []
    assert (found["nvidia"]["branch"], found["distribution"]["branch"]) == ("550", "")
    # This kernel is not Debian's; there is no package of its next one.
    assert found["build"] == ["linux-headers-5.15.0-94-generic", "gcc-12"]
    preferred = found["available"]["distribution"][0]
    assert preferred == ("proprietary" if host == "debian12" else "open")


@pytest.mark.parametrize("host", ["rocky8", "rhel9"])
def test_rhel_family(resolved, host):
    found = resolved[host]
    assert found["nvidia"]["open"] == ["kmod-nvidia-open-dkms", "nvidia-driver-cuda"]
    assert found["nvidia"]["proprietary"] == ["kmod-nvidia-latest-dkms", "nvidia-driver-cuda"]
    assert found["nvidia"]["fabric_manager"] == ["nvidia-fabric-manager | nvidia-fabricmanager"]
    assert found["stream"] == {"open": "nvidia-driver:550-open", "proprietary": "nvidia-driver:550-dkms"}
    assert found["distribution"] == {}
    # Without it dnf refuses another branch, which is another stream, than the one that is enabled.
    tasks = yaml.safe_load((ROOT / "roles/nvidia_driver/tasks/install_RedHat.yml").read_text(encoding="utf-8"))
    (enable,) = [task["ansible.builtin.command"]["argv"] for task in tasks if "ansible.builtin.command" in task]
    assert enable[:5] == ["dnf", "--assumeyes", "--setopt=module_stream_switch=1", "module", "enable"]
    assert found["build"] == ["kernel-devel-5.15.0-94-generic", "gcc"]
    assert found["kernel_min"] == "4.18"
