"""What both hosts must show, one under systemd and one under supervisor."""

import json
import re

from _ollama import MODEL, SERVICE, call, loaded, pid_of, show

# proc(5): the sockets of processes, and where they are bound. Listening TCP is state 0A, UDP that waits is 07.
SOCKETS = """
import glob, ipaddress, os, sys
own = set()
for pid in sys.argv[1].split():
    for fd in glob.glob("/proc/%s/fd/*" % pid):
        try:
            own.add(os.readlink(fd))
        except OSError:
            pass
for kind, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
    for line in open("/proc/%s/net/%s" % (sys.argv[1].split()[0], kind)).readlines()[1:]:
        columns = line.split()
        if columns[3] == state and "socket:[%s]" % columns[9] in own:
            address, port = columns[1].split(":")
            raw = bytes.fromhex(address)
            raw = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
            print("%s:%d" % (ipaddress.ip_address(raw), int(port, 16)))
"""


def test_it_answers_on_loopback_only(host):
    question = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": False}
    assert "stand-in for Ollama" in call(host, "POST", "/api/chat", question)["message"]["content"]
    # The runner of the loaded model, its child, takes a free port of loopback: the one socket beside the record's.
    record = json.loads(host.file("/etc/dsdeploy/deployments/ollama.json").content_string)
    runner = int(host.check_output("sudo sh -c 'cat /proc/%s/task/*/children'", str(pid_of(host))))
    port = re.search(r"--port (\d+)", host.check_output("sudo tr '\\0' ' ' < /proc/%s/cmdline", str(runner)))[1]
    assert sockets(host, [pid_of(host), runner]) == {record["endpoint"].split("/")[2], f"127.0.0.1:{port}"}


def sockets(host, pids):
    """Every address on which these processes listen, TCP and UDP, IPv4 and IPv6."""
    said = host.check_output("sudo python3 -c %s %s", SOCKETS, " ".join(map(str, pids)))
    return set(said.split())


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
