# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what deep checks judge, with what is there: nvbandwidth, nccl-tests, PyTorch of an engine's environment.

They take the GPUs: where an engine runs on them nothing is measured. A section is `{"skip": why}` where it cannot be.
"""

from __future__ import annotations

import glob
import json
import os
import re
import sys
import time
from typing import Any, Dict, Iterator, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import run
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.driver_gather import path as program
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.pci import on_bus
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import read_records
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.readiness import look

TIMEOUT = 300.0  # s, for each measurement
READ_BYTES = 1024**3
BLOCK = 16 * 1024**2

# One GPU after the other: a context, 64 MiB there and back. Prints {index: what is wrong or ""}.
_CONTEXT = r"""
import ctypes, json, os
cuda = ctypes.CDLL("libcuda.so.1")
found, count = {}, ctypes.c_int()
code = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
if code:
    raise SystemExit("cuInit says %d" % code)
data = os.urandom(1 << 20) * 64
back = ctypes.create_string_buffer(len(data))
for index in range(count.value):
    device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    steps = (
        ("cuDeviceGet", lambda: cuda.cuDeviceGet(ctypes.byref(device), index)),
        ("cuCtxCreate", lambda: cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device)),
        ("cuMemAlloc", lambda: cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(len(data)))),
        ("cuMemcpyHtoD", lambda: cuda.cuMemcpyHtoD_v2(memory, data, ctypes.c_size_t(len(data)))),
        ("cuMemcpyDtoH", lambda: cuda.cuMemcpyDtoH_v2(back, memory, ctypes.c_size_t(len(data)))),
    )
    wrong = next(("%s says %d" % (name, code) for name, code in ((name, step()) for name, step in steps) if code), "")
    found[index] = wrong or ("" if back.raw == data else "its memory gave back something else")
    if context:
        cuda.cuCtxDestroy_v2(context)
print(json.dumps(found))
"""
# Copies from pinned memory to each GPU, then an all-reduce over all. Prints {copy: {index: GB/s}, all_reduce: GB/s}.
_TORCH = r"""
import json, os, sys, time
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

def copies():
    host = torch.empty(1 << 30, dtype=torch.uint8, pin_memory=True)
    found = {}
    for index in range(torch.cuda.device_count()):
        there = torch.empty(1 << 30, dtype=torch.uint8, device="cuda:%d" % index)
        there.copy_(host, non_blocking=True)
        torch.cuda.synchronize(index)
        began = time.perf_counter()
        for _ in range(8):
            there.copy_(host, non_blocking=True)
        torch.cuda.synchronize(index)
        found[index] = 8 * (1 << 30) / (time.perf_counter() - began) / 1e9
        del there
        torch.cuda.empty_cache()
    return found

def rank(index, count, port, path):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.cuda.set_device(index)
    dist.init_process_group("nccl", rank=index, world_size=count)
    size = 4 << 30
    data = torch.zeros(size // 2, dtype=torch.bfloat16, device="cuda")
    for _ in range(3):
        dist.all_reduce(data)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(10):
        dist.all_reduce(data)
    torch.cuda.synchronize()
    taken = (time.perf_counter() - began) / 10
    if index == 0:
        open(path, "w").write(str(size / taken / 1e9 * 2 * (count - 1) / count))
    dist.destroy_process_group()

if __name__ == "__main__":
    found = {"copy": copies(), "all_reduce": None}
    count = torch.cuda.device_count()
    if count > 1:
        import socket, tempfile
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "rate")
            mp.spawn(rank, args=(count, port, path), nprocs=count)
            found["all_reduce"] = float(open(path).read())
    print("\n" + json.dumps(found))
"""


def _busy(place: Place) -> str:
    """Why the GPUs are not to be loaded now; empty where nothing says so."""
    for record in read_records(place.records or places.RECORDS)[0]:
        if record["device"] == "gpu":
            told = look(record, False, 0.0, place.supervisor_config or places.SUPERVISOR_CONFIG)
            if told["state"] is None or told["state"]["active"] in ("running", "starting"):
                return "%s serves on the GPUs: `dsdeploy down` first" % record["engine"]
    return ""


def _last_json(text: str) -> Any:
    return json.loads(text.strip().splitlines()[-1])


def context(place: Place) -> Dict[str, Any]:
    busy = _busy(place)
    if busy:
        return {"skip": busy}
    answer = run([sys.executable, "-c", _CONTEXT], TIMEOUT)
    if answer.rc:
        return {"problem": one_line(answer.stderr.strip().splitlines()[-1:] or answer.rc, 200)}
    if answer.timed_out:
        return {"problem": "a GPU did not answer within %d s" % TIMEOUT}
    return {"gpus": _last_json(answer.stdout)}


def bandwidth(place: Place) -> Dict[str, Any]:
    """`{copy: {index: GB/s}, all_reduce: GB/s, by, nvls}`; with `copy_skip` or `all_reduce_skip` where one is None."""
    busy = _busy(place)
    if busy:
        return {"skip": busy}
    pci = on_bus(os.path.join(place.sysfs, "bus/pci/devices"))
    # Switches that are not seen belong to the machine below: their multicast is not this host's to use.
    nvls = bool(pci and (pci["nvswitches"] or pci["bridges"]))
    environment = {} if nvls else {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1"}
    found: Dict[str, Any] = {"copy": None, "all_reduce": None, "by": "", "nvls": nvls}
    tools = [_nvbandwidth(found), _nccl_tests(found, pci["gpus"] if pci else 0, environment)]
    if found["copy"] is None or (found["all_reduce"] is None and (pci is None or pci["gpus"] > 1)):
        tools.append(_torch(found, place, environment))
    why = "; ".join(filter(None, tools)) or "nothing here measures it"
    return dict(found, copy_skip=why, all_reduce_skip=why)


def _nvbandwidth(found: Dict[str, Any]) -> str:
    """Fills in `copy`; returns why not."""
    path = program("nvbandwidth")
    if not path:
        return "nvbandwidth is not installed"
    answer = run([path, "-t", "host_to_device_memcpy_ce"], TIMEOUT)
    # The row of the one processor; the line above it numbers the GPUs.
    rows = re.search(r"^[ \t]*0((?:[ \t]+[0-9]+\.[0-9]+)+)[ \t]*$", answer.stdout, re.M)
    if answer.rc or not rows:
        return "nvbandwidth: %s" % one_line(answer.stderr or answer.stdout or "no answer", 100)
    found.update(copy={index: float(rate) for index, rate in enumerate(rows.group(1).split())}, by="nvbandwidth")
    return ""


def _nccl_tests(found: Dict[str, Any], gpus: int, environment: Dict[str, str]) -> str:
    """Fills in `all_reduce`; returns why not."""
    path = program("all_reduce_perf")
    if not path:
        return "nccl-tests (all_reduce_perf) is not installed"
    answer = run([path, "-b", "4G", "-e", "4G", "-g", str(max(gpus, 1))], TIMEOUT, **environment)
    rate = re.search(r"Avg bus bandwidth\s*:\s*([0-9.]+)", answer.stdout)
    if answer.rc or not rate:
        return "all_reduce_perf: %s" % one_line(answer.stderr or answer.stdout or "no answer", 100)
    found.update(all_reduce=float(rate.group(1)), by=" and ".join(filter(None, (found["by"], "nccl-tests"))))
    return ""


def _pythons(place: Place) -> Iterator[str]:
    """Interpreters of the engines' environments that have PyTorch."""
    for record in read_records(place.records or places.RECORDS)[0]:
        for directory in record["dirs"]:
            for middle in ("current", "*", ""):
                pattern = os.path.join(glob.escape(directory), middle, "lib/python3*/site-packages/torch/version.py")
                for path in sorted(glob.glob(pattern)):
                    yield os.path.join(path.partition("/lib/python3")[0], "bin/python")


def _torch(found: Dict[str, Any], place: Place, environment: Dict[str, str]) -> str:
    """Fills in what is missing; returns why not."""
    python: Optional[str] = next((path for path in _pythons(place) if os.access(path, os.X_OK)), None)
    if python is None:
        return "no engine with PyTorch is deployed"
    # A file, not -c: its processes are started anew, and read it again.
    import tempfile

    with tempfile.TemporaryDirectory(prefix="dsdeploy-doctor-") as directory:
        script = os.path.join(directory, "measure.py")
        with open(script, "w", encoding="ascii") as handle:
            handle.write(_TORCH)
        answer = run([python, script], TIMEOUT, HOME=directory, **environment)
    if answer.rc != 0:
        said = "no answer in %d s" % TIMEOUT if answer.timed_out else (answer.stderr.strip().splitlines() or [""])[-1]
        return "PyTorch: %s" % one_line(said, 150)
    told = _last_json(answer.stdout)
    for name in ("copy", "all_reduce"):
        if found[name] is None:
            found[name] = told[name]
    found["by"] = " and ".join(filter(None, (found["by"], "PyTorch")))
    return ""


def disk(place: Place) -> Dict[str, Any]:
    """`{path, rate}` in GB/s: the start of a model's largest file, past the cache; `{skip}` where there is none."""
    files: List[str] = []
    for record in read_records(place.records or places.RECORDS)[0]:
        path = str(record.get("model_path") or "")
        files += glob.glob(glob.escape(path) + "/*") if os.path.isdir(path) else [path] * os.path.isfile(path)
    for path in place.paths:
        files += glob.glob(glob.escape(path) + "/*") + glob.glob(glob.escape(path) + "/*/*/*")
    large = [path for path in files if os.path.isfile(path) and os.path.getsize(path) >= 4 * BLOCK]
    if not large:
        return {"skip": "no model is here to be read"}
    path = max(large, key=os.path.getsize)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return {"skip": "the file system of %s cannot be read past its cache" % path}
    import mmap

    try:
        # O_DIRECT wants memory at the start of a page.
        with mmap.mmap(-1, BLOCK) as block:
            done, began = 0, time.monotonic()
            while done < READ_BYTES:
                got = os.preadv(handle, [block], done)
                done += got
                if got < BLOCK or time.monotonic() - began > TIMEOUT:
                    break
            taken = time.monotonic() - began
    finally:
        os.close(handle)
    return {"path": path, "rate": done / max(taken, 1e-6) / 1e9}
