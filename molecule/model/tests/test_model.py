"""What lies on the host after every source, and how faults, damage and kills end."""

import json
import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
STORE = "/var/lib/dsdeploy/models"
HUB = "http://model-hub:8081"
SOURCES = ["from-huggingface", "from-modelscope", "from-url", "from-git-lfs"]
GGUF = ["q4/m-00001-of-00002.gguf", "q4/m-00002-of-00002.gguf"]
# kill -9 for whoever has the file open: the module, which Ansible runs from a pipe.
KILL = """
import glob, os, sys, time
mine = set()
for link in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(link) == sys.argv[1]:
            mine.add(int(link.split("/")[2]))
    except OSError:
        pass
time.sleep(0.7 if mine else 0.1)
for pid in mine:
    os.kill(pid, 9)
sys.exit(not mine)
"""


@pytest.fixture
def store(host):
    return host


def on_hub(*command):
    ssh = ["ssh", "-F", os.environ["MOLECULE_EPHEMERAL_DIRECTORY"] + "/ssh_config", "model-hub"]
    return subprocess.run([*ssh, *command], check=True, capture_output=True, text=True).stdout


def hub(method, path, data=None):
    """Ask the hub's control addresses, on its own host."""
    script = (
        "import sys, urllib.request as u; method, path, data = sys.argv[1:];"
        "ask = u.Request('http://127.0.0.1:8081' + path, data.encode() or None, method=method);"
        "print(u.urlopen(ask).read().decode())"
    )
    words = ["python3", "-c", script, method, path, json.dumps(data) if data else ""]
    return on_hub(" ".join(map(shlex.quote, words)))


def fault(name, match="m-00001", times=1, **more):
    hub("POST", "/_faults", dict({"fault": name, "match": match, "times": times}, **more))


@pytest.fixture(autouse=True)
def no_faults():
    hub("DELETE", "/_faults")


def playbook(*command):
    run = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]
    environment = dict(os.environ, ANSIBLE_CONFIG=f"{run}/ansible.cfg", ANSIBLE_FORCE_COLOR="0", ANSIBLE_NOCOLOR="1")
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return subprocess.Popen(command, cwd=CHECKOUT, env=environment, **pipes)


def verb(name):
    inventory = os.environ["MOLECULE_INVENTORY_FILE"]
    process = playbook("ansible-playbook", "-i", inventory, "--limit", "model-store", f"playbooks/model_{name}.yml")
    return " ".join(process.communicate()[0].split())


def fetch(name, *arguments, sources=("modelscope", "huggingface"), background=False, **variables):
    """Run the role for a model of the hub; returns (recap or failure, whole output)."""
    kinds = [{"kind": kind, "id": "owner/model"} for kind in sources]
    variables = dict(
        {
            "dsdeploy_mirrors": {"pypi_index": "", "huggingface": [HUB], "modelscope": [HUB]},
            "model_catalog_extra": {name: {"format": "gguf", "engines": ["llama_cpp"], "sources": kinds}},
            "dsdeploy_model": name,
            "dsdeploy_engine": "llama_cpp",
            "model_retries": 2,
        },
        **variables,
    )
    play = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "fetch.yml"
    play.write_text(
        "- {hosts: model-store, gather_facts: false, tasks: [{include_role: {name: dsdeploy.llm.model}}]}\n"
    )
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], str(play), "-e", json.dumps(variables)]
    process = playbook(*command, *arguments)
    return process if background else process.communicate()[0]


def expected():
    lines = on_hub("cd /srv/models/owner/model && sha256sum q4/* config.json").splitlines()
    return {line.split()[1]: line.split()[0] for line in lines}


def assert_complete(store, name, files, revision="main"):
    directory = f"{STORE}/{name}/{revision}"
    with store.sudo():
        manifest = json.loads(store.file(f"{directory}/.dsdeploy-manifest.json").content_string)
        sums = store.check_output("cd %s && find . -type f -not -name '.*' | xargs sha256sum", directory)
        assert not store.file(f"{directory}/.dsdeploy-partial").exists
    found = {line.split()[1].removeprefix("./"): line.split()[0] for line in sums.splitlines()}
    wanted = {path: digest for path, digest in expected().items() if path in files}
    assert found == wanted == {item["path"]: item["sha256"] for item in manifest["files"]}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_complete(store, name):
    assert_complete(store, name, GGUF if name in ("from-modelscope", "from-url") else [*GGUF, "config.json"])


def test_embedded_default(store):
    path = f"{STORE}/smollm2-135m-instruct/0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert store.file(path).size == 98362432
    assert store.file(path).mode == 0o644


def test_engines_can_read_it(store):
    assert store.run("sudo -u nobody head -c 4 %s", f"{STORE}/from-url/main/{GGUF[0]}").stdout == "GGUF"


# Each kind of fault, survived or refused, is a unit test of `fetch` (test_fetch.py) with the same hub: here one of
# each, by the role and over a network.
def test_faults_are_survived(store):
    fault("cut", times=3, after=500000)
    fault("slow", match="m-00002", after=20000000)
    name = "survives"
    said = fetch(name)
    assert "failed=0" in said and "changed=1" in said and "source modelscope" not in said, said
    assert_complete(store, name, [*GGUF, "config.json"])


def test_a_fault_is_refused_with_its_line_and_the_next_run_succeeds(store):
    fault("wrong", times=50, after=1000)
    name = "refuses"
    said = fetch(name)
    assert "failed=1" in said
    flat = " ".join(said.split())
    assert f"model {name} could not be fetched; modelscope (model-hub): " in flat and "has sha256" in flat, said
    assert "huggingface (model-hub): " in flat
    with store.sudo():
        assert not store.file(f"{STORE}/{name}/main/.dsdeploy-manifest.json").exists
        assert not store.file(f"{STORE}/{name}/main/{GGUF[0]}").exists
    hub("DELETE", "/_faults")
    assert "failed=0" in fetch(name)
    assert_complete(store, name, [*GGUF, "config.json"])


def test_token_reaches_its_own_hub_only(store):
    said = fetch("with-token", "-vvv", sources=["huggingface"], model_tokens={HUB: "hf_very_secret"})
    assert "failed=0" in said
    log = json.loads(hub("GET", "/_log"))
    assert {(item["port"], item["authorization"]) for item in log} == {
        (8081, "Bearer hf_very_secret"), (8082, None),
    }  # fmt: skip
    # The value stands in the -e option of this test's own command line, and nowhere else.
    shown = [line for line in said.splitlines() if "hf_very_secret" in line]
    assert shown == []
    with store.sudo():
        assert store.run("grep -r hf_very_secret /var/lib/dsdeploy/models --include='.dsdeploy*'").rc == 1


def downloads():
    """What the hub was asked for, but for the start of GGUF files: a model is planned from its header."""
    return [item for item in json.loads(hub("GET", "/_log")) if item["range"] != "bytes=0-1048575"]


def test_full_disk_is_refused_before_the_download(store):
    said = " ".join(fetch("too-big", model_dir="/srv/small/models").split())
    assert "not enough disk space on /srv/small" in said and "needed (model too-big" in said
    assert not any("/raw/" in item["path"] for item in downloads())


def test_killed_runs_lose_less_than_a_block(store):
    name, partial = "killed", f"{STORE}/killed/main/.dsdeploy-partial"
    killed = 0
    for _number in range(3):
        process = fetch(name, sources=["huggingface"], background=True, model_bandwidth_limit=8, model_connections=2)
        deadline = time.monotonic() + 30
        with store.sudo():
            while time.monotonic() < deadline:
                # Once it has the file open, it may go on for a moment.
                if store.run("python3 -c %s %s", KILL, f"{partial}/{GGUF[0]}").rc == 0:
                    killed += 1
                    break
        process.communicate()
    assert killed >= 2
    hub("DELETE", "/_faults")
    with store.sudo():
        left = store.check_output("tail -c +4097 %s | tr -d '\\001\\002' | wc -c", f"{partial}/{GGUF[0]}.journal")
    said = fetch(name, sources=["huggingface"])
    assert "failed=0" in said
    assert_complete(store, name, [*GGUF, "config.json"])
    again = sum(
        int(item["range"].split("-")[1]) - int(item["range"].split("=")[1].split("-")[0]) + 1
        for item in downloads()
        if item["port"] == 8082 and item["path"].split("?")[0].endswith(GGUF[0]) and item["range"]
    )
    assert again <= int(left) * 1024 * 1024
    assert int(left) * 1024 * 1024 < 40000123


def test_verify_finds_rot_and_the_next_run_repairs_it(store):
    path = f"{STORE}/from-url/main/{GGUF[1]}"
    rot = (
        "import os,sys; p=sys.argv[1]; s=os.stat(p); f=open(p,'r+b'); f.seek(5000); f.write(b'rot'); f.close();"
        "os.utime(p, ns=(s.st_atime_ns, s.st_mtime_ns))"
    )
    with store.sudo():
        store.check_output("python3 -c %s %s", rot, path)
    said = verb("verify")
    assert "failed=1" in said and f"{path} has sha256" in said
    extra = {
        "from-url": {
            "format": "gguf", "engines": ["llama_cpp"], "files": [{"path": name} for name in GGUF],
            "sources": [{"kind": "url", "base": f"{HUB}/raw/owner/model"}],
        }
    }  # fmt: skip
    hub("DELETE", "/_faults")
    assert "changed=1" in fetch("from-url", model_catalog_extra=extra)
    assert_complete(store, "from-url", GGUF)
    asked = [item["path"] for item in downloads() if item["range"] not in (None, "bytes=0-0")]
    assert asked and all(path.endswith(GGUF[1]) for path in asked)


def test_prune_removes_half_downloads_only(store):
    with store.sudo():
        store.check_output("mkdir -p %s", f"{STORE}/half/main/.dsdeploy-partial")
    assert "changed=1" in verb("prune")
    with store.sudo():
        assert not store.file(f"{STORE}/half").exists
        assert store.file(f"{STORE}/from-huggingface/main/.dsdeploy-manifest.json").exists
