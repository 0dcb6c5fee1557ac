"""What takes many runs. Each test leaves the host deployed as the scenario's variables say, but for the last ones."""

import json
import time

import pytest
from _ollama import MODEL, SERVICE, call, loaded, pid_of, show
from _play import changes, deploy, play

BLOBS = "/data/ollama/models/blobs"


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


def test_an_upload_that_is_cut_is_begun_again(host):
    call(host, "DELETE", "/api/delete", {"model": MODEL})
    said = deploy(host, fails=True, ollama_environment={"STANDIN_OLLAMA_CUT_UPLOADS": "10000000"})
    assert "POST /api/blobs/sha256:b179c952" in said
    # What a server that was killed meanwhile would have left is no space that is lost.
    host.check_output("sudo dd if=/dev/zero of=%s/sha256-1234567890 bs=1M count=20 status=none", BLOBS)
    said = deploy(host)
    assert "sha256-1234567890 is removed: an interrupted upload left it (20.0 MiB)" in said
    assert host.check_output("sudo find %s -name 'sha256-?????????*' -size +5M | wc -l", BLOBS) == "1"


def test_a_crash_loses_nothing(host):
    before = pid_of(host)
    host.check_output("sudo kill -9 %s", str(before))
    assert changes(host) == 0
    assert pid_of(host) != before
    assert loaded(host)["name"] == MODEL + ":latest"


def test_a_changed_modelfile_is_made_without_a_restart(host):
    before = pid_of(host)
    assert changes(host, ollama_parameters={"temperature": 0.7, "stop": ["</s>"]}) == 1
    assert "temperature                    0.7" in show(host)["parameters"]
    assert pid_of(host) == before


def test_a_changed_environment_restarts_it_once(host):
    changed, before = {"ollama_keep_alive": "10m"}, pid_of(host)
    assert changes(host, **changed) > 0
    after = pid_of(host)
    assert after != before
    assert changes(host, **changed) == 0
    assert pid_of(host) == after


def test_another_name_for_the_same_model(host):
    said = deploy(host, ollama_served_model_name="other")
    assert f"still holds what dsdeploy made earlier: {MODEL}:latest" in said
    assert loaded(host)["name"] == "other:latest"


def test_one_that_keeps_dying_is_told_at_once_with_its_log(host):
    started = time.monotonic()
    said = deploy(host, fails=True, ollama_environment={"STANDIN_OLLAMA_CRASH": "no such luck"})
    assert "the service keeps dying" in said
    assert "Error: no such luck" in said
    assert time.monotonic() - started < 120


def test_an_archive_that_is_refused_leaves_nothing(host):
    said = deploy(host, fails=True, ollama_sha256="0" * 64)
    assert "0000" in said
    assert "0000" not in host.check_output("ls /opt/dsdeploy/ollama")


def test_purge_takes_its_models_also_of_a_server_that_does_not_run(host):
    """Both names that were made here go; a model of somebody else stays, and is named."""
    library = "/data/ollama/models/manifests/registry.ollama.ai/library"
    host.check_output("sudo cp -r %s/other %s/theirs", library, library)
    host.check_output("sudo systemctl stop %s", SERVICE)
    said = " ".join(play(host, "down", "-e", json.dumps({"dsdeploy_purge": True})).split())
    assert "keeps models that dsdeploy has not made: theirs:latest" in said
    assert host.check_output("sudo ls %s", library) == "theirs"


def test_a_store_that_another_user_owns_now_is_served_again(host):
    """The user's number was given to somebody else between the two."""
    host.check_output("sudo chown -R 61234:61234 /data/ollama/models && sudo chmod 700 %s", BLOBS)
    deploy(host)
    assert loaded(host)["name"] == MODEL + ":latest"
    assert host.check_output("sudo stat -c %%U %s", BLOBS) == SERVICE
