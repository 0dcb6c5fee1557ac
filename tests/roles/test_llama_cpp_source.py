# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role llama_cpp, install method source: what is built, where, and what is not. Two hosts, which both are this machine.

What they build is a stand-in, a small CMake project with llama.cpp's targets; molecule/llama_cpp_source_slow builds
the real one.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMI = ROOT / "tests" / "unit" / "fixtures" / "nvidia_smi" / "h100-x1-driver580"

STANDIN = """
cmake_minimum_required(VERSION 3.14)
project(standin C)
foreach(name llama-server llama-cli llama-gguf-split)
  add_executable(${name} main.c)
  target_compile_definitions(${name} PRIVATE NUMBER="${LLAMA_BUILD_NUMBER}")
endforeach()
"""
MAIN = '#include <stdio.h>\nint main(void) { puts("version: " NUMBER " (standin)"); return 0; }\n'

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - dsdeploy.llm.host_facts:
    - ansible.builtin.include_role:
        name: dsdeploy.llm.llama_cpp
        tasks_from: install_source
"""


class Site:
    """A controller with its cache, two hosts, and a log of each call of cmake."""

    def __init__(self, path):
        self.path = path
        self.calls = path / "calls"
        self.bin = path / "bin"
        self.bin.mkdir()
        self.tool("cmake", f'echo "$@" >> {self.calls}\nexec {shutil.which("cmake")} "$@"')
        source = path / "standin"
        source.mkdir()
        (source / "CMakeLists.txt").write_text(STANDIN)
        (source / "main.c").write_text(MAIN)
        self.source = source
        self.archive = path / "llama.cpp-b4711.tar.gz"
        with tarfile.open(self.archive, "w:gz") as tar:
            tar.add(source, arcname="llama.cpp-b4711")
        hosts = {
            name: {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                "dsdeploy_install_dir": str(path / name / "opt"),
                "dsdeploy_cache_dir": str(path / "cache"),
            }
            for name in ("one", "two")
        }
        (path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        (path / "play.yml").write_text(PLAYBOOK)
        self.variables = {
            "llama_cpp_install_method": "source",
            "llama_cpp_source_jobs": 1,
            "llama_cpp_source_type": "archive",
            "llama_cpp_source_archive": str(self.archive),
            "llama_cpp_source_sha256": hashlib.sha256(self.archive.read_bytes()).hexdigest(),
        }

    def tool(self, name, script):
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def run(self, *arguments, rc=0, **variables):
        """Run the playbook; what it printed is in `output`. Returns the number of changes by host."""
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", self.path / "hosts.json", self.path / "play.yml"]
            + ["-e", json.dumps({**self.variables, **variables}), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            cwd=ROOT,
            timeout=300,
        )
        self.output = done.stdout + done.stderr
        assert done.returncode == rc, self.output
        recap = re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+)", self.output, re.MULTILINE)
        return {host: int(changes) for host, changes in recap}

    def configured(self):
        """The arguments of each call of cmake, since last asked."""
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.write_text("")
        return calls

    def versions(self):
        """What each llama-server of a host says, by host."""
        found = {}
        for host in ("one", "two"):
            servers = sorted(self.path.glob(f"{host}/opt/llama_cpp/source-*/bin/llama-server"))
            found[host] = [subprocess.check_output([server], text=True).strip() for server in servers]
        return found

    def cache(self):
        return sorted((self.path / "cache" / "builds").glob("*"))

    def left(self, host):
        """What lies in the host's directory besides finished builds."""
        return [path.name for path in self.path.glob(f"{host}/opt/llama_cpp/*") if not (path / "bin").is_dir()]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


NEW = "version: 4711 (standin)"


def test_built_once_for_two_hosts_and_again_only_for_other_flags(site):
    site.run()
    assert site.versions() == {"one": [NEW], "two": [NEW]}
    calls = site.configured()
    assert len(calls) == 1
    assert f"-B {site.path}/one/opt/llama_cpp/source-4711-" in calls[0]
    for flag in ("-DGGML_NATIVE=OFF", "-DGGML_CUDA=ON", "-DLLAMA_BUILD_NUMBER=4711"):
        assert (flag in calls[0]) == ("CUDA" not in flag)
    archive, checksum = site.cache()
    assert checksum.name == archive.name + ".sha256"
    assert checksum.read_text() == f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive.name}\n"
    assert site.left("one") == site.left("two") == []

    # Where it comes from is no part of it, what it is made of is.
    moved = shutil.copy(site.archive, site.path / "llama.cpp-b4711-mirror.tar.gz")
    assert site.run(llama_cpp_source_archive=str(moved)) == {"one": 0, "two": 0}
    assert site.configured() == []
    changed = {"llama_cpp_source_cmake_args": ["-DX=1"], "llama_cpp_source_build_number": 4712}
    assert site.run("--limit", "one", "--check", **changed)["one"] > 0
    assert site.configured() == []
    site.run("--limit", "one", **changed)
    assert site.versions() == {"one": [NEW, "version: 4712 (standin)"], "two": [NEW]}
    (call,) = site.configured()
    assert "-DX=1" in call


def test_damaged_cache_is_made_again(site):
    site.run("--limit", "one")
    archive, _checksum = site.cache()
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-1])
    site.configured()
    site.run("--limit", "two")
    assert len(site.configured()) == 1
    assert site.versions()["two"] == [NEW]
    assert archive.read_bytes() == whole


def test_no_cache(site):
    site.run("--limit", "one", llama_cpp_source_cache=False)
    assert site.versions()["one"] == [NEW]
    assert site.cache() == [] and site.left("one") == []


def test_host_that_cannot_build_does_not_stop_the_others(site):
    (site.path / "one").write_text("no directory")
    site.run(rc=2)
    assert "Not a directory" in site.output
    assert len(site.configured()) == 1
    assert site.versions()["two"] == [NEW]
    assert len(site.cache()) == 2


def test_build_that_fails_is_told(site):
    (site.source / "main.c").write_text("int main(void) { return undeclared; }\n")
    with tarfile.open(site.archive, "w:gz") as tar:
        tar.add(site.source, arcname="llama.cpp-b4711")
    sha256 = hashlib.sha256(site.archive.read_bytes()).hexdigest()
    site.run("--limit", "one", rc=2, llama_cpp_source_sha256=sha256)
    assert "error: 'undeclared' undeclared" in site.output
    assert site.versions()["one"] == [] and site.cache() == []


def test_what_is_not_named_exactly_is_refused(site):
    site.run("--limit", "one", rc=2, llama_cpp_source_sha256="0" * 64)
    assert f"expected {'0' * 64}" in site.output
    site.run("--limit", "one", rc=2, llama_cpp_source_sha256="")
    assert "llama_cpp_source_sha256 must be a sha256" in site.output
    site.run("--limit", "one", rc=2, llama_cpp_source_archive="")
    assert "llama_cpp_source_archive must be" in site.output
    assert site.configured() == []
    assert site.versions() == {"one": [], "two": []}


def git(directory, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", directory, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_git(site):
    git(site.source, "init")
    git(site.source, "add", ".")
    git(site.source, "commit", "-m", "meant")
    git(site.source, "tag", "b4713")
    meant = git(site.source, "rev-parse", "HEAD")
    wanted = {
        "llama_cpp_source_type": "git",
        "llama_cpp_source_git_url": f"file://{site.source}",
        "llama_cpp_source_git_ref": "b4713",
        "llama_cpp_source_git_commit": meant,
    }
    site.run("--limit", "one", rc=2, **{**wanted, "llama_cpp_source_git_commit": ""})
    assert "llama_cpp_source_git_commit must be the commit" in site.output

    # A mirror that serves something else under the same tag.
    other = site.path / "mirror"
    shutil.copytree(site.source, other)
    (other / "main.c").write_text(MAIN.replace("standin", "evil"))
    git(other, "commit", "-a", "-m", "other")
    git(other, "tag", "--force", "b4713")
    evil = git(other, "rev-parse", "HEAD")
    site.run("--limit", "one", rc=2, **{**wanted, "llama_cpp_source_git_url": f"file://{other}"})
    assert f"is commit {evil}" in site.output.replace("\n", " ") and meant in site.output
    assert site.versions() == {"one": [], "two": []} and site.configured() == []

    site.run("--limit", "one", **wanted)
    assert site.versions()["one"] == ["version: 4713 (standin)"]
    assert site.left("one") == []


def test_cuda_by_the_gpus_and_anew_for_another_toolkit(site):
    script = (
        f'case "$*" in "-q -x") cat {SMI}/nvidia-smi-q-x.xml ;; --query*) cat {SMI}/query-uuid.csv ;; *) exit 2 ;; esac'
    )
    site.tool("nvidia-smi", script)
    site.tool("nvcc", 'echo "Cuda compilation tools, release 13.0, V13.0.88"')
    site.run("--check", "-vv", "--limit", "one")
    assert "-DGGML_CUDA=ON" in site.output and "-DCMAKE_CUDA_ARCHITECTURES=90" in site.output
    assert site.configured() == [] and site.cache() == []
    site.run("--limit", "one")
    (call,) = site.configured()
    assert call.endswith(f"-DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=90 -DCMAKE_CUDA_COMPILER={site.bin}/nvcc")
    assert "-cuda13.0.tar.gz" in site.cache()[0].name

    site.tool("nvcc", 'echo "Cuda compilation tools, release 13.1, V13.1.1"')
    site.run("--limit", "one")
    assert len(site.configured()) == 1
    assert len(site.versions()["one"]) == 1  # in the place of the one before
    assert len(site.cache()) == 4
