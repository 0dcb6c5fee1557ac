#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_facts
short_description: Gather what matters for NVIDIA's driver before and after it is installed
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Sets RV(ansible_facts.nvidia_driver) from the PCI bus, the kernel, the firmware and the package database.
  - No driver is needed for it.
  - What the driver itself says of the GPUs is gathered by M(dsdeploy.llm.nvidia_smi_facts).
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.attributes.facts
options:
  sysfs:
    description: Where sysfs is mounted. Another directory is for tests of hosts whose devices are not there.
    type: path
    default: /sys
  procfs:
    description: Where procfs is mounted. Another directory is for tests of hosts whose kernel is not there.
    type: path
    default: /proc
"""

EXAMPLES = r"""
- name: Gather what there is of a driver
  dsdeploy.llm.nvidia_driver_facts:

- name: Say what the host has
  ansible.builtin.debug:
    msg: "{{ ansible_facts.nvidia_driver.gpus | length }} GPUs, {{ ansible_facts.nvidia_driver.nvswitches }} NVSwitches"
"""

RETURN = r"""
ansible_facts:
  description: The facts to add to those of the host.
  returned: always
  type: dict
  contains:
    nvidia_driver:
      description: Every key is always there; what cannot be known is null.
      type: dict
      returned: always
      contains:
        gpus:
          description: This host's own GPUs on the PCI bus, each with C(address), C(device_id) and C(generation).
          type: list
          elements: dict
          sample: [{address: "0000:18:00.0", device_id: "0x2324", generation: Hopper}]
        vfio_gpus:
          description: Addresses of the GPUs that are bound to vfio-pci or the like, for virtual machines.
          type: list
          elements: str
        nvswitches:
          description: Number of NVSwitches on the PCI bus.
          type: int
        switch_bridges:
          description:
            - Number of functions of network cards behind which NVSwitches are. Those of NVLink 5 (HGX B200, B300) are
              not on the PCI bus themselves. Null where it cannot be told, as without root's rights.
          type: int
        switches:
          description: The host's NVSwitches in words; empty where none are seen.
          type: str
          sample: 4 NVSwitches
        wants_fabric_manager:
          description: Whether they need a fabric manager here; null where it cannot be told whether there are any.
          type: bool
        kernel:
          description:
            - The running kernel, its C(release), the C(compiler) that it was built with (a command), whether that
              compiler is there (C(has_compiler)) and whether the kernel's headers are (C(has_headers)).
          type: dict
          sample: {release: 6.1.0-18-amd64, compiler: gcc-12, has_compiler: true, has_headers: false}
        nouveau_loaded:
          description: Whether the kernel's own driver for these GPUs is loaded.
          type: bool
        may_load_modules:
          description: Whether kernel modules may be loaded, which an ordinary container may not.
          type: bool
        secure_boot:
          description: Whether secure boot is on; null where the firmware knows of none.
          type: bool
        mok_enrolled:
          description: Whether the key that DKMS signs modules with is enrolled; null without C(mokutil).
          type: bool
        mok_key:
          description: That key; null where there is none yet.
          type: str
          sample: /var/lib/dkms/mok.pub
        run_file:
          description: What NVIDIA's .run file has left here to be removed with; null where it has installed no driver.
          type: str
          sample: /usr/bin/nvidia-uninstall
        loaded_version:
          description: Version of the kernel module that is loaded.
          type: str
          sample: 550.90.12
        loaded_open:
          description: Whether that module is the open one.
          type: bool
        library_version:
          description: Version of the driver's libraries.
          type: str
        fabric_manager_version:
          description: Version of the fabric manager.
          type: str
        subnet_manager:
          description: Whether NVLink's subnet manager is there, which NVSwitches of NVLink 5 need, too.
          type: bool
        packages:
          description: Version of each installed package that bears the driver's version.
          type: dict
          sample: {libnvidia-compute-550: 550.90.12-0ubuntu1}
        problems:
          description: Parts of the driver that do not belong together, each with C(name), C(msg) and C(hint).
          type: list
          elements: dict
          sample:
            - name: fabric_manager_mismatch
              msg: "fabric_manager_mismatch: the fabric manager is 550.54.15, the driver 550.90.12; it refuses to start"
              hint: Install the fabric manager of exactly driver 550.90.12.
        reboot_reasons:
          description: Why only a reboot brings the installed driver into use.
          type: list
          elements: str
          sample: ["the kernel runs driver 550.54.15, installed is 550.90.12"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.driver_gather import gather


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "sysfs": {"type": "path", "default": "/sys"},
            "procfs": {"type": "path", "default": "/proc"},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, ansible_facts={"nvidia_driver": gather(**module.params)})


if __name__ == "__main__":
    main()
