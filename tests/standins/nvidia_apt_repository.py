#!/usr/bin/env python3
"""Stand-in for NVIDIA's package repository, which no registry that the tests reach mirrors: `repos/debian12/x86_64`.

The same layout (a flat repository, InRelease signed by the key that lies beside it), names, versions and dependencies;
real .deb files, but their contents play the driver: a "kernel module" that `modprobe nvidia` loads into the procfs of
the stand-in host (nvidia_host.py), libraries that are empty files, an nvidia-smi that replays recorded output.

Usage: nvidia_apt_repository.py DIRECTORY RECORDED. Makes the repository in DIRECTORY (served with `python3 -m
http.server`) and prints the fingerprint of its key. RECORDED holds what nvidia_smi_replay plays.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KERNEL = "6.1.0-standin"
# Of the kernel. Debian has none of that name, and its own would be 30 packages.
COMPILER = "gcc-99"
KEY_NAME = "3bf863cc.pub"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
# Driver versions, and those of them that have a fabric manager.
VERSIONS = ("550.54.15", "550.90.12", "550.127.05", "560.35.03")
WITH_FABRIC_MANAGER = ("550.54.15", "550.90.12", "550.127.05")
# Versions of CUDA, and of nvcc in them.
TOOLKITS = {"12.4": "12.4.131", "12.8": "12.8.93", "13.0": "13.0.88"}

LOAD = """#!/bin/sh
# What loading the module {version} would make of the kernel.
driver=/srv/standin/proc/driver/nvidia
mkdir -p $driver
echo "NVRM version: NVIDIA UNIX{open} Kernel Module{on}  {version}  Tue Sep  3 22:04:49 UTC 2024" > $driver/version
touch /dev/nvidiactl /dev/nvidia-nvswitch0
"""
NVIDIA_SMI = """#!/bin/sh
case $1 in --persistence-mode=*) echo "${{1#*=}}" > /run/standin-persistence-mode; exit ;; esac
loaded=$(sed -n 's/.*  \\([0-9.]*\\)  .*/\\1/p' /srv/standin/proc/driver/nvidia/version 2>/dev/null)
if [ -z "$loaded" ]; then
  echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver." \
    "Make sure that the latest NVIDIA driver is installed and running."
  exit 9
elif [ "$loaded" != {version} ]; then
  echo "Failed to initialize NVML: Driver/library version mismatch"
  echo "NVML library version: {version}" | cut -d. -f1,2
  exit 18
fi
/usr/lib/nvidia-standin/replay /usr/share/nvidia-standin "$@" | sed 's/550\\.90\\.12/{version}/g'
"""
# It compiles nothing: what it "makes" is a program that does nothing.
NVCC = """#!/bin/sh
case $1 in
  --version) echo "Cuda compilation tools, release {release}, V{version}" ;;
  -o) echo "#!/bin/sh" > "$2"; chmod +x "$2" ;;
esac
"""
ALTERNATIVE = "#!/bin/sh\nupdate-alternatives --install /usr/local/cuda cuda /usr/local/cuda-{0} {1}\n"
FABRIC_MANAGER = "#!/bin/sh\necho 'Fabric Manager version is : {version}'\n"
# As Ubuntu's: it is there, and leaves persistence mode off.
PERSISTENCED = """[Unit]
Description=stand-in
StopWhenUnneeded=true
[Service]
ExecStart=/bin/sh -c 'sleep infinity' nvidia-persistenced --no-persistence-mode
"""
UNIT = "[Unit]\nDescription={0}\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"


def build(directory: Path, name: str, version: str, files: dict[str, str], **fields: str) -> None:
    """Make one .deb. A file whose text begins with "#!" is executable; "-> TARGET" makes a link."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        root.chmod(0o755)
        control = {
            "Package": name,
            "Version": version,
            "Architecture": "amd64",
            "Maintainer": "stand-in <root@localhost>",
        }
        control.update({key.replace("_", "-"): value for key, value in fields.items()})
        control["Description"] = "stand-in"
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in control.items()))
        for path, text in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                file.symlink_to(text[3:])
            else:
                file.write_text(text)
                file.chmod(0o755 if text.startswith("#!") else 0o644)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Znone", "--build", root, directory / f"{name}_{version}_amd64.deb"],
            check=True,
            stdout=subprocess.DEVNULL,
        )


def build_driver(directory: Path, version: str, recorded: Path) -> None:
    """All packages of one version of the driver."""
    package = f"{version}-1"
    for name, other, open_, on in (
        ("nvidia-kernel-open-dkms", "nvidia-kernel-dkms", " Open", " for x86_64"),
        ("nvidia-kernel-dkms", "nvidia-kernel-open-dkms", " x86_64", ""),
    ):
        module = {
            f"lib/modules/{KERNEL}/updates/dkms/nvidia.ko": f"stand-in {version}\n",
            "usr/lib/modprobe.d/nvidia-standin.conf": "install nvidia /usr/lib/nvidia-standin/load\n",
            "usr/lib/nvidia-standin/load": LOAD.format(version=version, open=open_, on=on),
        }
        build(directory, name, package, module, Depends="kmod", Conflicts=other)
    for name, library in (("libcuda1", "libcuda"), ("libnvidia-ml1", "libnvidia-ml")):
        files = {f"{LIBRARIES}/{library}.so.{version}": "", f"{LIBRARIES}/{library}.so.1": f"-> {library}.so.{version}"}
        build(directory, name, package, files)
    smi = {f"usr/share/nvidia-standin/{file.name}": file.read_text() for file in recorded.iterdir() if file.is_file()}
    smi["usr/lib/nvidia-standin/replay"] = Path(__file__).with_name("nvidia_smi_replay").read_text()
    smi["usr/bin/nvidia-smi"] = NVIDIA_SMI.format(version=version)
    build(directory, "nvidia-smi", package, smi, Depends=f"libnvidia-ml1 (= {package})")
    depends = f"libcuda1 (= {package}), nvidia-smi (= {package}), nvidia-persistenced (= {package})"
    build(directory, "nvidia-driver-cuda", package, {}, Depends=depends)
    unit = {"lib/systemd/system/nvidia-persistenced.service": PERSISTENCED}
    build(directory, "nvidia-persistenced", package, unit)
    if version in WITH_FABRIC_MANAGER:
        files = {
            "lib/systemd/system/nvidia-fabricmanager.service": UNIT.format("stand-in"),
            "usr/bin/nv-fabricmanager": FABRIC_MANAGER.format(version=version),
        }
        build(directory, f"nvidia-fabricmanager-{version.split('.')[0]}", package, files)


def build_toolkit(directory: Path, release: str, version: str) -> None:
    """CUDA as NVIDIA cuts it up: the newest that is installed takes /usr/local/cuda by itself."""
    number, home = release.replace(".", "-"), f"usr/local/cuda-{release}"
    config = {"DEBIAN/postinst": ALTERNATIVE.format(release, release.replace(".", ""))}
    build(directory, f"cuda-toolkit-{number}-config-common", f"{version}-1", config)
    files = {f"{home}/bin/nvcc": NVCC.format(release=release, version=version), f"{home}/lib64/libcudart.so": ""}
    build(directory, f"cuda-nvcc-{number}", f"{version}-1", files, Depends=f"cuda-toolkit-{number}-config-common")
    build(directory, f"cuda-toolkit-{number}", f"{release}.1-1", {}, Depends=f"cuda-nvcc-{number}")


def index(directory: Path) -> None:
    """Packages and Release, as apt-ftparchive writes them."""
    packages = ""
    for deb in sorted(directory.glob("*.deb")):
        fields = subprocess.run(["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True).stdout
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        packages += f"{fields}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n\n"
    (directory / "Packages").write_text(packages)
    digest = hashlib.sha256(packages.encode()).hexdigest()
    (directory / "Release").write_text(
        "Origin: NVIDIA\nLabel: NVIDIA CUDA\nArchitecture: x86_64\nDate: Tue, 03 Sep 2024 22:04:49 UTC\n"
        f"SHA256:\n {digest} {len(packages.encode())} Packages\n"
    )


def sign(directory: Path) -> str:
    """Sign Release with a new key; returns its fingerprint."""
    with tempfile.TemporaryDirectory() as home:
        gpg = [
            "gpg",
            "--homedir",
            home,
            "--batch",
            "--quiet",
            "--yes",
            "--passphrase",
            "",
            "--pinentry-mode",
            "loopback",
        ]
        subprocess.run([*gpg, "--quick-generate-key", "NVIDIA stand-in", "ed25519", "sign", "never"], check=True)
        release = directory / "Release"
        subprocess.run([*gpg, "--clearsign", "--output", directory / "InRelease", release], check=True)
        subprocess.run([*gpg, "--armor", "--export", "--output", directory / KEY_NAME], check=True)
        keys = subprocess.run([*gpg, "--with-colons", "--list-keys"], check=True, capture_output=True, text=True).stdout
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
    return next(line.split(":")[9] for line in keys.splitlines() if line.startswith("fpr:"))


def main() -> None:
    directory, recorded = Path(sys.argv[1]), Path(sys.argv[2])
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    os.umask(0o022)
    build(directory, f"linux-headers-{KERNEL}", "6.1.0-1", {f"lib/modules/{KERNEL}/build/Makefile": "\n"})
    build(directory, COMPILER, "99.1.0-1", {f"usr/bin/{COMPILER}": "#!/bin/sh\n"})
    for version in VERSIONS:
        build_driver(directory, version, recorded)
    for release, version in TOOLKITS.items():
        build_toolkit(directory, release, version)
    index(directory)
    print(sign(directory))


if __name__ == "__main__":
    main()
