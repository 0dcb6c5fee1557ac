"""Engines beside each other, and instead of each other."""

import json
import time
from pathlib import Path

import pytest
from _ollama import MODEL, loaded, pid_of, show
from _play import CHECKOUT, changes, deploy, leftovers, play

OLLAMA, LLAMA_CPP, HOLDER = "dsdeploy-ollama", "dsdeploy-llama-cpp", "dsdeploy-holder"
PLAYBOOK = Path(__file__).parents[1] / "holder.yml"
BEYOND = {"ollama_host": "0.0.0.0", "ollama_firewall": "ufw"}
LAYERS = {"STANDIN_OLLAMA_GPU_LAYERS": "31"}
SMI = CHECKOUT / "tests/unit/fixtures/nvidia_smi/h800-x8-driver550"


def active(host, *services):
    """States of the services, once none of them is still starting."""
    for _second in range(60):
        found = [host.run("systemctl is-active %s", service).stdout.strip() for service in services]
        if "activating" not in found:
            break
        time.sleep(1)
    return found


def test_side_by_side_on_the_cpu(host):
    before = pid_of(host)
    deploy(host, dsdeploy_engine="llama_cpp")
    assert pid_of(host) == before
    assert active(host, OLLAMA, LLAMA_CPP) == ["active", "active"]
    for port, service in ((11434, OLLAMA), (8080, LLAMA_CPP)):
        assert host.socket(f"tcp://127.0.0.1:{port}").is_listening
        assert host.check_output("stat -c %%U /proc/%s", str(pid_of(host, service))) == service
    records = [json.loads(host.file(f"/etc/dsdeploy/deployments/{name}.json").content_string)
               for name in ("ollama", "llama_cpp")]  # fmt: skip
    assert not set(records[0]["dirs"]) & set(records[1]["dirs"])
    assert [record["device"] for record in records] == ["cpu", "cpu"]


def test_the_others_can_be_stopped_too(host):
    said = deploy(host, dsdeploy_stop_others="all")
    assert "llama_cpp is stopped first: it runs, and ollama takes its place" in said
    assert active(host, OLLAMA, LLAMA_CPP) == ["active", "inactive"]
    # Nor does it come back with the host.
    assert host.run("systemctl is-enabled %s", LLAMA_CPP).stdout.strip() == "disabled"


def opened(host):
    """The networks that ufw lets in to Ollama."""
    lines = host.check_output("sudo ufw show added").splitlines()
    return sorted(line.split()[3] for line in lines if "port 11434" in line)


def test_the_firewall_is_open_for_whom_it_is_said_to_be(host):
    host.check_output("sudo apt-get install -qq --no-install-recommends ufw")
    host.check_output("sudo ufw allow proto tcp from 10.9.0.0/16 to any port 11434")  # the user's own
    deploy(host, ollama_firewall_networks=["10.1.2.3/16", "10.9.0.0/16"], **BEYOND)
    assert opened(host) == ["10.1.0.0/16", "10.9.0.0/16"]
    # Who is not named any more is out; what was there before stays.
    deploy(host, ollama_firewall_networks=["10.2.0.0/16"], **BEYOND)
    assert opened(host) == ["10.2.0.0/16", "10.9.0.0/16"]


@pytest.fixture(scope="module")
def gpus(host):
    """Eight GPUs, as far as nvidia-smi says."""
    answers = {"-q -x": "nvidia-smi-q-x.xml", "--query-gpu": "query-uuid.csv", "nvlink": "nvlink.txt"}
    script = '#!/bin/sh\ncase "$*" in\n'
    for asked, name in answers.items():
        script += f"*{asked!r}*) cat <<'ANSWER'\n{(SMI / name).read_text(encoding='utf-8')}\nANSWER\n;;\n"
    host.check_output("printf %%s %s | sudo tee /usr/bin/nvidia-smi > /dev/null", script + "esac\n")
    host.check_output("sudo chmod 755 /usr/bin/nvidia-smi")


def test_without_the_gpus_files_it_is_not_started_on_the_cpu_but_once_they_are_there(host, gpus):
    said = " ".join(deploy(host, fails=True, ollama_environment=LAYERS).split())
    assert "there is no /dev/nvidiactl, so that CUDA will not start" in said
    assert "it starts by itself once it has GPUs" in said
    assert not host.socket("tcp://127.0.0.1:11434").is_listening
    # As a driver that is loaded late makes them.
    host.check_output("sudo touch /dev/nvidiactl /dev/nvidia0 /dev/nvidia-uvm")
    for _second in range(120):
        if host.socket("tcp://127.0.0.1:11434").is_listening:
            break
        time.sleep(1)
    assert active(host, OLLAMA) == ["active"]


def test_layers_on_the_gpus_as_the_memory_fit_says(host, gpus):
    deploy(host, ollama_environment=LAYERS)
    # It answers on loopback alone again, and whom the firewall let in is out.
    assert opened(host) == ["10.9.0.0/16"]
    entry = loaded(host)
    assert entry["size_vram"] == entry["size"]
    assert "num_gpu                        31" in show(host)["parameters"]
    # As in the seed: 84 % on the CPU, of a model that fits.
    said = deploy(host, fails=True, ollama_environment={"STANDIN_OLLAMA_GPU_LAYERS": "5"})
    assert f"84 % of {MODEL}:latest lies in the host's memory instead of the GPUs', the memory fit says 0 %" in said


def test_what_holds_the_gpus_is_stopped_first(host, gpus):
    said = " ".join(play(host, PLAYBOOK).split())
    assert "ollama is stopped first: it holds the GPUs, and holder takes its place" in said
    assert active(host, HOLDER, OLLAMA) == ["active", "inactive"]
    # An engine on the CPU takes nothing from it.
    assert changes(host, ollama_gpu_layers="0") > 0
    assert active(host, HOLDER, OLLAMA) == ["active", "active"]
    said = deploy(host, ollama_environment=LAYERS, ollama_firewall_networks=["10.2.0.0/16"], **BEYOND)
    assert "holder is stopped first: it holds the GPUs, and ollama takes its place" in said
    assert active(host, HOLDER, OLLAMA) == ["inactive", "active"]


def test_one_that_is_purged_leaves_the_others_as_they_are(host):
    before, record = pid_of(host), "/etc/dsdeploy/deployments/%s.json"
    play(host, "down", "-e", "dsdeploy_purge=true", "-e", "dsdeploy_only_engine=llama_cpp")
    assert not host.file(record % "llama_cpp").exists and not host.file("/opt/dsdeploy/llama_cpp").exists
    assert host.file(record % "holder").exists
    assert pid_of(host) == before and show(host)["parameters"]


def test_the_last_one_leaves_nothing_but_models(host):
    assert opened(host) == ["10.2.0.0/16", "10.9.0.0/16"]
    play(host, "down", "-e", "dsdeploy_purge=true")
    assert opened(host) == ["10.9.0.0/16"]
    assert leftovers(host) == ["/var/lib/dsdeploy"]
    assert host.check_output("sudo ls /var/lib/dsdeploy").split() == ["models", "ollama"]
    assert set(host.check_output("sudo ls /var/lib/dsdeploy/ollama").split()) <= {"blobs", "manifests"}
