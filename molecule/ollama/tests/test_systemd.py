"""What is the same whatever runs Ollama, so that one host has to show it."""

import pytest
from _ollama import MODEL, call, loaded, pid_of, show
from _play import changes, deploy

testinfra_hosts = ["ssh://ollama-systemd"]


@pytest.fixture(scope="module")
def as_deepseek_r1(host):
    """In small: shards, for the networks that are named. The variables."""
    host.check_output("sudo apt-get install -qq --no-install-recommends ufw")
    opened = {"ollama_host": "0.0.0.0", "ollama_firewall": "ufw", "ollama_firewall_networks": ["10.1.0.0/16"]}
    variables = dict(opened, dsdeploy_model="split", model_merge="consume")
    deploy(host, **variables)
    return variables


def test_shards_are_fetched_merged_and_served(host, as_deepseek_r1):
    store = "/var/lib/dsdeploy/models/split/main"
    assert host.check_output("ls %s", store).split() == ["m.gguf"]
    sha256 = host.check_output("sha256sum %s/m.gguf", store).split()[0]
    found = show(host, "split")
    assert f"sha256-{sha256}" in found["modelfile"]
    assert found["model_info"]["llama.block_count"] == 2


def test_the_firewall_is_opened_for_the_networks_that_are_named(host, as_deepseek_r1):
    assert host.socket("tcp://0.0.0.0:11434").is_listening
    assert "from 10.1.0.0/16 to any port 11434 proto tcp" in host.check_output("sudo ufw show added")


def test_neither_is_done_twice(host, as_deepseek_r1):
    assert changes(host, **as_deepseek_r1) == 0


def test_an_upload_that_is_cut_is_begun_again_and_a_crash_loses_nothing(host):
    call(host, "DELETE", "/api/delete", {"model": MODEL})
    said = deploy(host, fails=True, ollama_environment={"STANDIN_OLLAMA_CUT_UPLOADS": "10000000"})
    assert "POST /api/blobs/sha256:b179c952" in said
    with host.sudo():
        assert host.check_output("find /data/ollama/models/blobs -type f -size +5M") == ""
    deploy(host)
    before = pid_of(host)
    with host.sudo():
        host.check_output("kill -9 %s", str(before))
    assert changes(host) == 0
    assert pid_of(host) != before
    assert loaded(host)["name"] == MODEL + ":latest"


def test_a_changed_modelfile_is_made_without_a_restart(host):
    before = pid_of(host)
    assert changes(host, ollama_parameters={"temperature": 0.7, "stop": ["</s>"]}) == 1
    assert "temperature                    0.7" in show(host)["parameters"]
    assert pid_of(host) == before


def test_what_is_refused_before_anything_is_done(host):
    said = deploy(host, fails=True, ollama_version="0.5.11", ollama_host="0.0.0.0", ollama_sha256="")
    assert "CVE-2026-7482" in said
    assert "asks nobody for a key" in said
    assert "/v0.5.11/sha256sum.txt and set ollama_sha256" in said
