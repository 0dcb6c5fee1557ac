# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's repository as it is resolved for each distribution."""

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "plugins/modules"))
from resolve import ROLES, resolve
from run_module import run

NVIDIA = "https://developer.download.nvidia.com/compute/cuda/repos"
OLD, DEBIAN_13, RPM = (
    "EB693B3035CD5710E231E123A4B469963BF863CC",
    "02182E60104FCDC26EAE1B8597A5D4CB8793F200",
    "610C7B14E068A878070DA4E99CD0A493D42D0685",
)


def of(host, name, host_facts=None, **inventory):
    return resolve("nvidia_repository", host, name, host_facts, **inventory)


@pytest.mark.parametrize(
    ("host", "url", "key", "fingerprint"),
    [
        ("Ubuntu 22.04", f"{NVIDIA}/ubuntu2204/x86_64", "3bf863cc.pub", OLD),
        ("Ubuntu 24.04", f"{NVIDIA}/ubuntu2404/x86_64", "3bf863cc.pub", OLD),
        ("Debian 12", f"{NVIDIA}/debian12/x86_64", "3bf863cc.pub", OLD),
        ("Debian 13", f"{NVIDIA}/debian13/x86_64", "8793F200.pub", DEBIAN_13),
        ("RHEL 8", f"{NVIDIA}/rhel8/x86_64", "D42D0685.pub", RPM),
        ("RHEL 9", f"{NVIDIA}/rhel9/x86_64", "D42D0685.pub", RPM),
        ("Rocky 9", f"{NVIDIA}/rhel9/x86_64", "D42D0685.pub", RPM),
    ],
)
def test_repository_and_key(host, url, key, fingerprint):
    assert of(host, "nvidia_repository_url") == url
    assert of(host, "nvidia_repository_key_url") == f"{url}/{key}"
    assert of(host, "nvidia_repository_key_fingerprint") == fingerprint
    # The last eight digits of a key's fingerprint are its name.
    assert fingerprint.endswith(key.removesuffix(".pub").upper())


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("Debian 12", f"/usr/share/keyrings/dsdeploy-nvidia-{OLD}.asc"),
        ("Rocky 9", f"/etc/pki/rpm-gpg/RPM-GPG-KEY-dsdeploy-nvidia-{RPM}"),
    ],
)
def test_the_key_s_place(host, path):
    assert of(host, "_nvidia_repository_key_file") == path


def test_arm_servers_have_a_name_of_nvidia_s_own():
    arm = {"architecture": "aarch64"}
    assert of("Ubuntu 22.04", "nvidia_repository_url", arm) == f"{NVIDIA}/ubuntu2204/sbsa"


def test_it_comes_from_the_mirror():
    mirrors = {"cuda_repository": "http://mirror.example/cuda"}
    found = of("RHEL 9", "nvidia_repository_key_url", dsdeploy_mirrors=mirrors)
    assert found == "http://mirror.example/cuda/rhel9/x86_64/D42D0685.pub"


def test_an_unknown_distribution_has_none():
    assert of("SLES 15", "_nvidia_repository_entry") == {}
    assert of("SLES 15", "nvidia_repository_key_fingerprint") == ""


URL = f"{NVIDIA}/ubuntu2404/x86_64"
LINE = f"deb [signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] {URL}/ /\n"


@pytest.mark.parametrize(
    ("name", "text", "counts"),
    [
        ("sources.list", LINE, True),
        ("sources.list.d/cuda-ubuntu2404-x86_64.list", LINE, True),
        ("sources.list.d/cuda.sources", f"Types: deb\nURIs: {URL}/\nSuites: /\n", True),
        # What apt does not read: commented out by an upgrade of the distribution, or by hand; copies.
        ("sources.list.d/cuda-ubuntu2404-x86_64.list", f"# {LINE}", False),
        ("sources.list.d/cuda.sources", f"Types: deb\n# URIs: {URL}/\n", False),
        # A stanza that is switched off, by all words that apt takes for no; beside another one; in another order.
        *[
            ("sources.list.d/cuda.sources", f"Types: deb\nURIs: {URL}/\nSuites: /\nEnabled: {no}\n", False)
            for no in ("no", "No", "false", "off", "0", "disable", "without")
        ],
        ("sources.list.d/cuda.sources", f"Enabled: no\nTypes: deb\nURIs: {URL}/\nSuites: /\n", False),
        ("sources.list.d/cuda.sources", f"enabled:no\nuris: {URL}/\n", False),
        ("sources.list.d/cuda.sources", f"Types: deb\nURIs: {URL}/\nSuites: /\nEnabled: yes\n", True),
        ("sources.list.d/cuda.sources", f"URIs: http://a/\nEnabled: no\n\nURIs: {URL}/\nSuites: /\n", True),
        ("sources.list.d/cuda.sources", f"URIs: http://a/\n \nURIs: {URL}\nEnabled: no\n\nURIs: http://b/\n", False),
        # A comment inside of a stanza does not end it.
        ("sources.list.d/cuda.sources", f"URIs: {URL}/\n# for now\nEnabled: no\n", False),
        ("sources.list.d/cuda.sources", f"Types: deb\nURIs:\n http://a/\n {URL}/\nSuites: /\n", True),
        ("sources.list.d/cuda.sources", f"Types: deb\nSuites: /\nX-Before: {URL}/\nURIs: http://a/\n", False),
        # What apt takes for no file of its own, and a directory.
        ("sources.list.d/cuda 2.list", LINE, False),
        ("sources.list.d/off/cuda.list", LINE, False),
        ("sources.list.d/cuda.list", f"deb http://a/ stable main # {URL}/\n", False),
        ("sources.list.d/cuda.list", LINE.replace("x86_64", "x86_64-old"), False),
        ("sources.list.d/cuda-ubuntu2404-x86_64.list.distUpgrade", LINE, False),
        ("sources.list.d/cuda-ubuntu2404-x86_64.list.save", LINE, False),
        ("preferences.d/cuda", f"Explanation: of {URL}\n", False),
        # Another distribution's; the dots of the URL are dots.
        ("sources.list.d/cuda.list", LINE.replace("ubuntu2404", "ubuntu2204"), False),
        ("sources.list.d/cuda.list", LINE.replace("developer.download", "developer-download"), False),
    ],
)
def test_which_files_name_it_already(tmp_path, name, text, counts):
    tasks = yaml.safe_load((ROLES / "nvidia_repository/tasks/Debian.yml").read_text(encoding="utf-8"))
    (options,) = [task["dsdeploy.llm.apt_sources"] for task in tasks if "dsdeploy.llm.apt_sources" in task]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    url = resolve("nvidia_repository", "Ubuntu 24.04", options["url"].strip("{} "))
    result = run("apt_sources", {"url": url, "directory": str(tmp_path)})
    assert (result["files"], result["changed"]) == ([str(path)] if counts else [], False)
