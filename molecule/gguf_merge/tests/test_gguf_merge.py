"""A merged model on a real host."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
COLLECTIONS = Path(__file__).parents[3] / ".collections"


def merge(*options, **arguments):
    """Run the module by itself; its result."""
    done = subprocess.run(
        ["ansible", "all", "-i", EPHEMERAL / "inventory", "--become", "-m", "dsdeploy.llm.gguf_merge"]
        + ["-a", json.dumps(arguments), *options],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(EPHEMERAL / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_FORCE_COLOR": "false",
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal",
        },
    )
    head, _arrow, result = done.stdout.partition("=> ")
    assert head, done.stderr
    return {"failed": "FAILED" in head, **json.loads(result[: result.rindex("}") + 1])}


def files(host, directory):
    return host.run("ls -A %s", directory).stdout.split()


def test_the_merged_files_are_the_real_tool_s(host):
    for path in ("/srv/gguf/merged.gguf", "/srv/gguf/consumed/whole.gguf"):
        assert host.run("cmp /srv/gguf/reference.gguf %s", path).rc == 0
        assert host.file(path).size == 98362528


def test_nothing_is_left_behind(host):
    assert files(host, "/srv/gguf/consumed") == ["whole.gguf"]
    assert sorted(files(host, "/srv/gguf")) == ["consumed", "merged.gguf", "reference.gguf", "shards"]
    assert host.run("sudo ls /root/.ansible_async").stdout == ""


def test_the_server_answers(host):
    assert host.service("merged").is_running
    assert host.socket("tcp://127.0.0.1:8080").is_listening


def test_check_mode_tells_the_space(host):
    host.run("sudo cp -r /srv/gguf/shards /srv/gguf/second")
    found = merge("--check", src="/srv/gguf/second", dest="/srv/gguf/second/whole.gguf")
    assert found["changed"] and found["bytes"] == 98362528 and found["shards"] == len(files(host, "/srv/gguf/second"))
    assert found["need_bytes"] > 98362528 and found["free_bytes"] > found["need_bytes"]
    host.run("sudo rm -r /srv/gguf/second")


def test_a_disk_that_is_too_small(host):
    for options in ((), ("--check",)):
        found = merge(*options, src="/srv/gguf/shards", dest="/srv/small/merged.gguf")
        needs = "not enough disk space on /srv/small: 94.8 MiB needed (/srv/small/merged.gguf), "
        assert found["failed"] and found["msg"].startswith(needs)
        assert found["error_kind"] == "preflight" and "consume" in found["hint"]
    assert files(host, "/srv/small") == []


def test_a_shard_that_the_real_tool_would_merge_into_a_corrupt_file(host):
    host.run("sudo cp -r /srv/gguf/shards /srv/gguf/cut")
    shard = sorted(files(host, "/srv/gguf/cut"))[1]
    host.run("sudo truncate -s -1000000 /srv/gguf/cut/%s", shard)
    first = sorted(files(host, "/srv/gguf/cut"))[0]
    assert host.run("sudo llama-gguf-split --merge /srv/gguf/cut/%s /srv/gguf/cut/real.gguf", first).rc == 0
    assert host.run("cmp /srv/gguf/cut/real.gguf /srv/gguf/reference.gguf").rc == 1
    found = merge(src=f"/srv/gguf/cut/{first}", dest="/srv/gguf/cut/whole.gguf")
    assert found["failed"] and found["shard"] == f"/srv/gguf/cut/{shard}" and "1000000 missing" in found["msg"]
    # Nor is the corrupt file taken for the merge, once the shard is whole.
    host.run("sudo cp /srv/gguf/shards/%s /srv/gguf/cut/", shard)
    found = merge(src=f"/srv/gguf/cut/{first}", dest="/srv/gguf/cut/real.gguf")
    assert found["failed"] and "is not the merge of these shards" in found["msg"]
    host.run("sudo rm -r /srv/gguf/cut")
