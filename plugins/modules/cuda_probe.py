# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile a CUDA program, and run it where there is a GPU."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cuda_probe
short_description: Compile a CUDA program, and run it where there is a GPU
version_added: 1.0.0
description:
  - Compiles and links a small kernel with C(nvcc), which needs no GPU, and runs it on request.
  - Running it makes a CUDA context on every GPU, which finds what C(nvidia-smi) does not show.
  - Nothing is left on the host.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
options:
  nvcc:
    description: The compiler.
    type: path
    required: true
  version:
    description: Version that it must be, or begin with, such as V(12.4).
    type: str
  host_compiler:
    description: Compiler for the host's part. When empty, C(nvcc) takes its own choice.
    type: str
    default: ""
  run:
    description: Whether to run the program, too.
    type: bool
    default: false
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Check that nvcc compiles and links
  dsdeploy.llm.cuda_probe:
    nvcc: /usr/local/cuda/bin/nvcc
    version: "12.4"
"""

RETURN = r"""
version:
  description: Version of nvcc.
  type: str
  returned: success
  sample: 12.4.131
output:
  description: What the program printed, a line for each GPU.
  type: list
  elements: str
  returned: when it was run
hint:
  description: What to do next.
  type: str
  returned: failure
"""

import os
import re
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import process
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import cuda

RUN_S = 120.0  # of a program that takes a second on each GPU

PROGRAM = r"""
#include <cstdio>
#include <cuda_runtime.h>

__global__ void add(const int *from, int *to) { to[threadIdx.x] += from[threadIdx.x]; }

static void check(cudaError_t code, const char *what) {
  if (code == cudaSuccess) return;
  printf("cudaError %d in %s: %s\n", (int)code, what, cudaGetErrorString(code));
  _Exit(1);
}

int main() {
  int count = 0;
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  for (int device = 0; device < count; device++) {
    const int size = 32;
    int host[size], *from, *to;
    for (int i = 0; i < size; i++) host[i] = i;
    check(cudaSetDevice(device), "cudaSetDevice");
    check(cudaMalloc(&from, sizeof host), "cudaMalloc");
    check(cudaMalloc(&to, sizeof host), "cudaMalloc");
    check(cudaMemcpy(from, host, sizeof host, cudaMemcpyHostToDevice), "cudaMemcpy");
    check(cudaMemcpy(to, host, sizeof host, cudaMemcpyHostToDevice), "cudaMemcpy");
    add<<<1, size>>>(from, to);
    check(cudaGetLastError(), "add");
    check(cudaMemcpy(host, to, sizeof host, cudaMemcpyDeviceToHost), "cudaMemcpy");
    for (int i = 0; i < size; i++)
      if (host[i] != 2 * i) { printf("GPU %d computes wrongly\n", device); return 1; }
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    printf("GPU %d: %s, compute capability %d.%d\n", device, properties.name, properties.major, properties.minor);
  }
  return 0;
}
"""


def fail(module: AnsibleModule, msg: str, hint: str, output: str = "") -> None:
    lines = [line for line in output.splitlines() if line.strip()]
    module.fail_json(msg=msg, hint=hint, log_tail=lines[-15:], error_kind="verify")


def told_version(module: AnsibleModule, nvcc: str, wanted: str | None) -> str:
    if not os.access(nvcc, os.X_OK):
        fail(module, "there is no %s" % nvcc, "Install the CUDA toolkit, or correct the path.")
    _rc, out, err = module.run_command([nvcc, "--version"])
    version = cuda.nvcc_version(out)
    if version is None:
        fail(module, "%s does not report its version" % nvcc, "Is it nvcc? Reinstall the CUDA toolkit.", out + err)
    if wanted and cuda.numbers(version)[: len(cuda.numbers(wanted))] != cuda.numbers(wanted):
        fail(
            module,
            "%s is version %s, expected %s" % (nvcc, version, wanted),
            "Another CUDA toolkit lies at this place: remove it, or set cuda_toolkit_version.",
        )
    return version


def compile_it(module: AnsibleModule, directory: str, version: str) -> str:
    source, program = os.path.join(directory, "probe.cu"), os.path.join(directory, "probe")
    with open(source, "w", encoding="utf-8") as handle:
        handle.write(PROGRAM)
    command = [module.params["nvcc"], "-o", program, source]
    if module.params["host_compiler"]:
        command += ["-ccbin", module.params["host_compiler"]]
    # For the GPUs of this host: the default's PTX may be newer than the driver.
    if module.params["run"] and cuda.knows_native(version):
        command += ["-arch=native"]
    rc, out, err = module.run_command(command, cwd=directory, environ_update={"TMPDIR": directory, "LC_ALL": "C"})
    if rc:
        said = [line for line in (err + out).splitlines() if re.search(r"error|fatal|cannot", line)]
        reason = said[0].strip() if said else "it ended with %d" % rc
        fail(module, "nvcc cannot compile: %s" % reason, cuda.compile_hint(err + out), err + out)
    return program


def run_it(module: AnsibleModule, program: str) -> list[str]:
    done = process.run([program], RUN_S)
    rc, out, err = done.rc, done.stdout, done.stderr
    if done.timed_out:
        hint = "A GPU hangs, or the driver does: `dsdeploy doctor` and dmesg say more; reset the GPU, or reboot."
        fail(module, "a CUDA program does not end within %d s" % RUN_S, hint)
    if rc != 0:
        lines = (out + err).splitlines()
        code = re.search(r"cudaError ([0-9]+)", out)
        reason = lines[-1] if lines else "it ended with %s" % rc
        hint = cuda.run_hint(int(code.group(1)) if code else 0)
        fail(module, "a CUDA program does not run: %s" % reason, hint, out + err)
    return out.splitlines()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "nvcc": {"type": "path", "required": True},
            "version": {"type": "str"},
            "host_compiler": {"type": "str", "default": ""},
            "run": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    result = {"changed": False, "version": told_version(module, module.params["nvcc"], module.params["version"])}
    # Not below /tmp, which may be mounted noexec.
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as directory:
        program = compile_it(module, directory, result["version"])
        if module.params["run"]:
            result["output"] = run_it(module, program)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
