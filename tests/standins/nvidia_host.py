#!/usr/bin/env python3
"""Stand-in for a machine with NVIDIA's hardware: a sysfs and a procfs as directories, for `nvidia_driver_facts`.

Usage: nvidia_host.py ROOT [--gpu DEVICE_ID]... [--nvswitches N] [--kernel RELEASE] [--compiler NAME] [--module NAME]...
                      [--no-module-rights] [--driver VERSION] [--vfio N] [--bridges N] [--cards N] [--closed-vpd]
Makes ROOT/sys and ROOT/proc anew. Of the GPUs the last --vfio are bound to vfio-pci; --bridges are functions of
ConnectX-7 behind which NVSwitches are, --cards others of it; with --closed-vpd nobody may read which are which.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path


def device(sysfs: Path, number: int, kind: str, device_id: str, vendor: str = "0x10de", driver: str = "") -> Path:
    directory = sysfs / "bus/pci/devices" / f"0000:{number:02x}:00.0"
    directory.mkdir(parents=True)
    for name, text in (("vendor", vendor), ("class", kind), ("device", device_id)):
        (directory / name).write_text(text + "\n")
    if driver:
        (sysfs / "bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
        (directory / "driver").symlink_to(sysfs / "bus/pci/drivers" / driver)
    return directory


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--gpu", action="append", default=[])
    parser.add_argument("--nvswitches", type=int, default=0)
    parser.add_argument("--kernel", default="6.1.0-standin")
    parser.add_argument("--compiler", default="gcc-12")
    parser.add_argument("--module", action="append", default=[])
    parser.add_argument("--no-module-rights", action="store_true")
    parser.add_argument("--driver", default="")
    parser.add_argument("--vfio", type=int, default=0)
    parser.add_argument("--bridges", type=int, default=0)
    parser.add_argument("--cards", type=int, default=0)
    parser.add_argument("--closed-vpd", action="store_true")
    given = parser.parse_args()
    for name in ("sys", "proc"):
        shutil.rmtree(given.root / name, ignore_errors=True)
    (given.root / "sys/bus/pci/devices").mkdir(parents=True)
    for number, device_id in enumerate(given.gpu):
        driver = "vfio-pci" if number >= len(given.gpu) - given.vfio else "nvidia"
        device(given.root / "sys", 0x10 + number, "0x030200", device_id, driver=driver)
    for number in range(given.nvswitches):
        device(given.root / "sys", 0x80 + number, "0x068000", "0x22a3")
    for number in range(given.bridges + given.cards):
        card = device(given.root / "sys", 0xA0 + number, "0x020700", "0x1021", "0x15b3", "mlx5_core")
        told = b"\x82\x12\x00ConnectX-7\x90\x20\x00PN\x09MCX750500V0" + (
            b"SW_MNG" if number < given.bridges else b"N/A"
        )
        if given.closed_vpd:
            (card / "vpd").mkdir()  # root may read any file; a directory nobody reads as one
        else:
            (card / "vpd").write_bytes(told)
    proc = given.root / "proc"
    built = f"({given.compiler} (Debian 12.2.0-14) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40)"
    for path, text in {
        "sys/kernel/osrelease": given.kernel + "\n",
        "version": f"Linux version {given.kernel} (standin@localhost) {built} #1\n",
        "modules": "".join(f"{name} 16384 0 - Live 0x0000000000000000\n" for name in given.module),
        "self/status": "CapEff:\t%s\n" % ("00000000a80425fb" if given.no_module_rights else "000001ffffffffff"),
    }.items():
        file = proc / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    if given.driver:
        file = proc / "driver/nvidia/version"
        file.parent.mkdir(parents=True)
        file.write_text(
            f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {given.driver}  Tue Sep  3 22:04:49 UTC 2024\n"
        )


if __name__ == "__main__":
    main()
