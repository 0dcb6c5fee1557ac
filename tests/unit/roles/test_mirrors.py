# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of mirrors: what an inventory sets is combined with the defaults."""

import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent))
from resolve import ROLES, resolve

HOST = "Debian 12"
SPECS = yaml.safe_load((ROLES / "_common/meta/argument_specs.yml").read_text())["argument_specs"]["facts"]["options"]


def table(**mirrors):
    return resolve("_common", HOST, "_dsdeploy_mirrors", dsdeploy_mirrors=mirrors)


def test_without_anything_it_is_the_software_s_own_places():
    found = resolve("_common", HOST, "_dsdeploy_mirrors")
    assert found["huggingface"] == ["https://huggingface.co"]
    assert found["cuda_repository"] == "https://developer.download.nvidia.com/compute/cuda/repos"
    assert found["uv_releases"].startswith("https://github.com/")
    assert not found["pypi_index"] and not found["air_gapped"]


def test_every_key_is_documented_and_no_other():
    assert set(resolve("_common", HOST, "_dsdeploy_mirrors")) == set(SPECS["dsdeploy_mirrors"]["options"])


def test_one_key_leaves_the_others():
    found = table(pypi_index="https://mirror.example/simple")
    assert found["pypi_index"] == "https://mirror.example/simple"
    assert found["modelscope"] == ["https://www.modelscope.cn"]
    assert found["github_proxy"] == ""


def test_a_list_is_replaced():
    assert table(huggingface=["https://hub.example"])["huggingface"] == ["https://hub.example"]


def test_the_github_proxy_reaches_all_that_comes_from_github():
    found = table(github_proxy="https://gh.example/")
    for key in ("uv_releases", "python_builds"):
        assert found[key].startswith("https://gh.example/https://github.com/astral-sh/")
    url = resolve(
        "llama_cpp", HOST, "llama_cpp_source_git_url", dsdeploy_mirrors={"github_proxy": "https://gh.example/"}
    )
    assert url == "https://gh.example/https://github.com/ggml-org/llama.cpp"


def test_air_gapped_leaves_no_public_place():
    found = table(air_gapped=True, cuda_repository="http://mirror.example/cuda")
    assert found.pop("cuda_repository") == "http://mirror.example/cuda"
    assert found.pop("air_gapped") is True
    assert set(found.values()) == {""}


def test_proxies_are_the_environment_of_what_downloads():
    def environment(**mirrors):
        return resolve("_common", HOST, "_dsdeploy_download_environment", dsdeploy_mirrors=mirrors)

    # An empty one would take the host's own proxy away.
    assert environment() == {}
    assert environment(https_proxy="http://proxy.example:3128", no_proxy="localhost") == {
        "https_proxy": "http://proxy.example:3128",
        "no_proxy": "localhost",
    }


def test_the_inventory_of_ctyun_sets_only_keys_that_exist():
    inventory = yaml.safe_load((ROLES.parent / "inventories/ctyun/group_vars/all/mirrors.yml").read_text())
    assert set(inventory["dsdeploy_mirrors"]) <= set(SPECS["dsdeploy_mirrors"]["options"])


def test_air_gapped_llama_cpp_does_not_go_to_github():
    def github(**mirrors):
        return resolve(
            "llama_cpp", HOST, "_llama_cpp_source_github", llama_cpp_source_type="git", dsdeploy_mirrors=mirrors
        )

    assert github(air_gapped=True) is True
    assert github(air_gapped=True, github_proxy="https://gh.example/") is False
    assert resolve("llama_cpp", HOST, "_llama_cpp_source_github") is False


def test_an_address_with_a_password_is_refused_by_its_key():
    def wrong(**mirrors):
        return resolve("_common", HOST, "_dsdeploy_mirrors_with_users", dsdeploy_mirrors=mirrors)

    assert wrong() == [] and wrong(pypi_index="https://me:secret@index.example/simple") == []
    assert wrong(pypi_index="https://token@index.example/simple") == ["pypi_index"]
    assert wrong(huggingface=["https://hub.example", "https://me:secret@hub.example"]) == ["huggingface"]
    assert wrong(github_proxy="https://me:secret@gh.example/") == ["github_proxy", "uv_releases", "python_builds"]
    assert wrong(cuda_repository="https://h/a@b") == []
