#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_smi_facts
short_description: Gather facts of the NVIDIA GPUs
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Sets RV(ansible_facts.nvidia_smi) from C(nvidia-smi -q -x), or from the plain table of C(nvidia-smi) where the XML
    cannot be had.
  - A host without a usable GPU is no failure. RV(ansible_facts.nvidia_smi.status) then says why, and
    RV(ansible_facts.nvidia_smi.hint) what to do about it.
  - A value that the driver does not give is null.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.attributes.facts
options:
  path:
    description:
      - The C(nvidia-smi) to run.
      - If not given, it is looked up on E(PATH), then in C(/usr/bin), C(/usr/local/nvidia/bin) and C(/usr/lib/wsl/lib).
    type: path
  timeout:
    description:
      - Seconds in which C(nvidia-smi) has to answer everything; then it is killed with its process group.
      - With many GPUs and no persistence mode, each call can take several seconds.
    type: int
    default: 30
  pci_devices:
    description:
      - The directory with the PCI devices of the host, to find NVSwitches and GPUs that have no driver.
    type: path
    default: /sys/bus/pci/devices
"""

EXAMPLES = r"""
- name: Gather the facts of the GPUs
  dsdeploy.llm.nvidia_smi_facts:

- name: Refuse a host whose GPUs cannot be used
  ansible.builtin.assert:
    that: ansible_facts.nvidia_smi.status == 'ok'
    fail_msg: "{{ ansible_facts.nvidia_smi.reason }}. {{ ansible_facts.nvidia_smi.hint }}"

- name: Give an nvidia-smi that lies elsewhere two minutes
  dsdeploy.llm.nvidia_smi_facts:
    path: /opt/nvidia/bin/nvidia-smi
    timeout: 120
"""

RETURN = r"""
ansible_facts:
  description: The facts to add to those of the host.
  returned: always
  type: dict
  contains:
    nvidia_smi:
      description: The NVIDIA GPUs of the host. Every key is always there.
      type: dict
      returned: always
      contains:
        status:
          description:
            - V(ok) when every GPU that the driver knows answers.
            - V(gpu_lost) when one does not; RV(ansible_facts.nvidia_smi.gpus) then holds those that still do.
            - The other values say why there is no GPU to use.
          type: str
          returned: always
          choices: [ok, not_installed, driver_library_mismatch, driver_not_loaded, library_missing, no_devices,
            no_permission, gpu_lost, timed_out, unreadable, unknown]
          sample: driver_library_mismatch
        reason:
          description: The message of C(nvidia-smi), in one line. Empty when all is well.
          type: str
          returned: always
          sample: "Failed to initialize NVML: Driver/library version mismatch; NVML library version: 535.161"
        hint:
          description: What to do about it, in one line. Empty when all is well.
          type: str
          returned: always
        summary:
          description: All of it in one line.
          type: str
          returned: always
          sample: 8 x NVIDIA H800, 81559 MiB each, driver 550.90.12, CUDA 12.4
        source:
          description: What the GPUs were read from, V(xml) or V(table); null when there are none.
          type: str
          returned: always
        path:
          description: The C(nvidia-smi) that ran; null when there is none.
          type: str
          returned: always
        driver_version:
          description: Version of the driver.
          type: str
          returned: always
          sample: 550.90.12
        cuda_version:
          description: The newest CUDA version that the driver serves.
          type: str
          returned: always
          sample: "12.4"
        total_memory_mib:
          description: Memory of all usable GPUs, in MiB; null where that of one is not known, as on unified memory.
          type: int
          returned: always
        gpus:
          description:
            - The GPUs that answer, in the order of the driver.
            - From the table, names are cut to some 20 characters, and there are no UUIDs unless the driver gives them
              otherwise, no ECC totals, no fabric and no reserved memory.
          type: list
          elements: dict
          returned: always
          sample:
            - index: 0
              uuid: GPU-00000000-1111-2222-3333-444444444444
              name: NVIDIA H100 80GB HBM3
              architecture: Hopper
              pci_id: "00000000:00:06.0"
              compute_capability: "9.0"
              compute_capability_source: query
              memory_total_mib: 81559
              memory_used_mib: 0
              memory_free_mib: 81079
              memory_reserved_mib: 480
              utilization_percent: 0
              power_draw_w: 75.03
              power_limit_w: 700.0
              power_default_w: 700.0
              temperature_c: 44
              ecc:
                mode: Enabled
                volatile: {correctable: 0, uncorrectable: 0}
                aggregate: {correctable: 0, uncorrectable: 0}
              mig:
                mode: Disabled
                instances: []
              fabric: {state: Completed, status: Success, health: null, health_problems: []}
              sram_errors: {correctable: 0, uncorrectable: 0, threshold_exceeded: false}
              persistence_mode: true
              pcie: {width: 16, max_width: 16, gen: 5, max_gen: 5, device_gen: 5, replays: 0}
              nvlinks: 18
              nvlinks_down: 0
              recovery_action: null
              remapped_rows: {correctable: 0, uncorrectable: 0, pending: false, failure: false}
              retired_pages: {single_bit: null, double_bit: null, pending: null}
              throttle_reasons: [gpu_idle]
              compute_mode: Default
              processes:
                - {pid: 4242, name: llama-server, type: C, used_memory_mib: 70000}
          contains:
            index:
              description: Number of the GPU, in the order of the PCI bus.
              type: int
            compute_capability_source:
              description: V(xml) or V(query) from the driver, V(product) from a table of product names.
              type: str
            memory_free_mib:
              description: Free memory in MiB. From the table it is the total less what is used.
              type: int
            mig:
              description:
                - C(mode), and for each of C(instances) its C(index), C(gpu_instance_id), C(compute_instance_id),
                  C(uuid), C(memory_total_mib), C(memory_used_mib), C(memory_free_mib) and C(multiprocessors).
              type: dict
            nvlinks:
              description: Number of active NVLink links. Null when C(nvidia-smi nvlink) did not say.
              type: int
            nvlinks_down:
              description: Number of NVLink links that are not active. Null when C(nvidia-smi nvlink) did not say.
              type: int
            sram_errors:
              description: Errors of the SRAM over the GPU's life, and whether they are more than the driver allows.
              type: dict
            persistence_mode:
              description: Whether the driver stays loaded while nobody uses the GPU.
              type: bool
            pcie:
              description:
                - Lanes and generation of the PCIe link now (C(width), C(gen)) and at most (C(max_width), C(max_gen)),
                  the generation that the GPU could do (C(device_gen)), and how often data was sent again (C(replays)).
              type: dict
            recovery_action:
              description: What the driver asks for to mend the GPU, such as V(Reset) or V(Reboot).
              type: str
            remapped_rows:
              description:
                - Rows of the memory that were replaced for C(correctable) and C(uncorrectable) errors, whether some
                  wait for a reset (C(pending)), and whether one could not be replaced (C(failure)). Ampere and later.
              type: dict
            retired_pages:
              description: Pages retired for C(single_bit) and C(double_bit) errors, and whether some are C(pending).
              type: dict
            throttle_reasons:
              description: What holds the clocks down at the moment, such as V(hw_thermal_slowdown) or V(sw_power_cap).
              type: list
              elements: str
            compute_mode:
              description: V(Default), V(Exclusive_Process) or V(Prohibited).
              type: str
        lost_gpus:
          description: The GPUs that no longer answer, each with C(index), C(pci_id), C(uuid), C(name) and C(reason).
          type: list
          elements: dict
          returned: always
        fabric:
          description:
            - State of the NVLink fabric as the GPU that is furthest from ready sees it. All null where there is none.
            - C(ready) is true when every GPU on it says state V(Completed) and status V(Success), and none is
              V(Unhealthy). Until it is completed, CUDA does not start on a host with NVSwitches.
          type: dict
          returned: always
          sample: {ready: false, state: In Progress, status: null, health: null}
        nvlink:
          description: C(present) is true when a link is active; C(links) counts the active links of all GPUs.
          type: dict
          returned: always
          sample: {present: true, links: 144}
        nvswitch:
          description:
            - Whether this host has NVSwitches of its own (C(present)), and how many on the PCI bus (C(count)), on which
              those of NVLink 5 are not. Null when it cannot be told.
          type: dict
          returned: always
          sample: {present: true, count: 4}
        pci_gpu_count:
          description:
            - NVIDIA GPUs on the PCI bus, with or without a driver, without those of C(vfio_gpu_count).
              Null when the bus cannot be read.
          type: int
          returned: always
        vfio_gpu_count:
          description: NVIDIA GPUs on the PCI bus that are bound to vfio-pci or the like, for virtual machines.
          type: int
          returned: always
        warnings:
          description: What C(nvidia-smi) or this module found strange in the output.
          type: list
          elements: str
          returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.gather import gather


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path"},
            "timeout": {"type": "int", "default": 30},
            "pci_devices": {"type": "path", "default": "/sys/bus/pci/devices"},
        },
        supports_check_mode=True,
    )
    if module.params["timeout"] < 1:
        module.fail_json(
            msg="timeout is %d, it must be 1 s or more" % module.params["timeout"],
            hint="Leave it out for 30 s.",
            error_kind="usage",
        )
    module.exit_json(changed=False, ansible_facts={"nvidia_smi": gather(**module.params)})


if __name__ == "__main__":
    main()
