"""What both hosts must show, one under systemd and one under supervisor."""

import json
import re

from _ollama import MODEL, SERVICE, call, loaded, pid_of, show
from _sockets import listening


def test_it_answers_on_loopback_only(host):
    question = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": False}
    assert "stand-in for Ollama" in call(host, "POST", "/api/chat", question)["message"]["content"]
    # The runner of the loaded model, its child, takes a free port of loopback: the one socket beside the record's.
    record = json.loads(host.file("/etc/dsdeploy/deployments/ollama.json").content_string)
    runner = int(host.check_output("sudo sh -c 'cat /proc/%s/task/*/children'", str(pid_of(host))))
    port = re.search(r"--port (\d+)", host.check_output("sudo tr '\\0' ' ' < /proc/%s/cmdline", str(runner)))[1]
    found = {f"{address}:{number}" for _protocol, address, number in listening(host, record["user"])}
    assert found == {record["endpoint"].split("/")[2], f"127.0.0.1:{port}"}


def test_it_asks_no_cloud(host):
    with host.sudo():
        log = host.run("cat /var/log/dsdeploy/dsdeploy-ollama.log; journalctl -u dsdeploy-ollama").stdout
    assert "Ollama cloud disabled: true" in log
    assert "cloud request" not in log


def test_it_has_a_user_of_its_own(host):
    assert host.check_output("stat -c %%U /proc/%s", str(pid_of(host))) == SERVICE
    assert host.user(SERVICE).shell == "/usr/sbin/nologin"


def test_its_environment_is_where_the_inventory_says(host):
    with host.sudo():
        found = host.file("/data/ollama/env")
        assert found.mode == 0o600
        lines = [line.replace('"', "").replace("'", "") for line in found.content_string.splitlines()]
    for line in ("OLLAMA_HOST=127.0.0.1:11434", "OLLAMA_MODELS=/data/ollama/models", "OLLAMA_KEEP_ALIVE=-1"):
        assert line in lines


def test_the_model_is_the_seeds(host):
    found = show(host)
    assert found["template"] == "<｜User｜>{{ .System }} {{ .Prompt }}<｜Assistant｜>"
    # In no order; the ends that Ollama takes from the template that it knows the file's by stay.
    assert sorted(line.split() for line in found["parameters"].splitlines()) == [
        ["num_ctx", "8192"],
        ["stop", '"<|im_end|>"'],
        ["stop", '"<|im_start|>"'],
        ["temperature", "0.6"],
    ]
    sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of the file in the catalog
    assert f"FROM /data/ollama/models/blobs/sha256-{sha256}" in found["modelfile"]
    assert loaded(host)["name"] == MODEL + ":latest"


def test_login_shells_find_it(host):
    assert "version is 0.24.0" in host.check_output("bash -lc 'ollama --version'")


def test_its_record_tells_what_it_is(host):
    record = json.loads(host.file("/etc/dsdeploy/deployments/ollama.json").content_string)
    assert (record["api"], record["device"], record["user"]) == ("ollama", "cpu", SERVICE)
    assert (record["model"], record["endpoint"]) == (MODEL, "http://127.0.0.1:11434")
