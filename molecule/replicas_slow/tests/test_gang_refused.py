"""Two hosts that cannot serve one model together: one line says why, on both, and nothing is started."""

import json
import os
from pathlib import Path

import pytest
import yaml
from _gateway import address
from _play import CHECKOUT, hosts, play

SMI = "/usr/local/bin/nvidia-smi"
PAIR = ("replicas-1", "replicas-2")


def refused(*more, **second):
    """What the playbook says of the two as a gang, in one line; `second`: variables of the second host. `more`:
    arguments, by default those that let it look alone."""
    path = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "second.json"
    path.write_text(json.dumps({"all": {"hosts": {PAIR[1]: second}}}), encoding="utf-8")
    variables = {
        **{"dsdeploy_engine": "vllm", "dsdeploy_model": "tiny-deepseek-v3", "dsdeploy_replicas": ""},
        **{"dsdeploy_expose": False, "vllm_venv_nnodes": 2, "vllm_venv_profile": "cpu"},
    }
    arguments = ["-i", str(path), "--limit", ",".join(PAIR), "-e", json.dumps(variables)]
    said = play(None, "deepseek_r1", *arguments, *(more or ["--tags", "preflight"]), fails=True)
    assert more or "changed: [" not in said
    for name in PAIR:
        assert not hosts()[name].file("/opt/dsdeploy/vllm").exists
        assert not hosts()[name].file("/etc/systemd/system/dsdeploy-vllm.service").exists
    return " ".join(said.split())


@pytest.fixture
def second():
    return hosts()[PAIR[1]]


def test_a_host_that_cannot_be_reached():
    said = refused(ansible_host="10.89.255.254", ansible_timeout=3)
    assert "replicas-2 of the gang of replicas-1, replicas-2 cannot be reached, or was refused before" in said


def test_another_lock():
    assert "vLLM: replicas-1 has 0.32.0, replicas-2 has 0.31.0" in refused(vllm_venv_version="0.31.0")


@pytest.mark.parametrize(
    ("cases", "line"),
    [
        (
            ("580.159.04 h200-x1", "580.159.04 h200-x2"),
            "GPUs: replicas-1 has 1 NVIDIA H200, replicas-2 has 2 NVIDIA H200",
        ),
        (("580.159.04 h200-x1", "550.90.12 h200-x1"), "driver: replicas-1 has 580.159.04, replicas-2 has 550.90.12"),
    ],
)
def test_other_gpus_or_another_driver(cases, line):
    for name, case in zip(PAIR, cases, strict=True):
        hosts()[name].check_output(f"echo {case} | sudo tee /srv/case")
        hosts()[name].check_output(f"sudo ln -sf /srv/tests/standins/nvidia_smi_of_case {SMI}")
    try:
        assert line in refused()
    finally:
        for name in PAIR:
            hosts()[name].check_output(f"sudo rm {SMI} /srv/case")


def test_clocks_five_minutes_apart():
    said = refused(ansible_python_interpreter="/srv/tests/standins/late_clock/python3")
    assert "the clocks of replicas-1 and replicas-2 are 300 s apart (30 s are allowed)" in said


def test_no_way_between_them(second):
    route = f"blackhole {address(hosts()[PAIR[0]])}"
    second.check_output(f"sudo ip route add {route}")
    try:
        said = refused()
    finally:
        second.check_output(f"sudo ip route del {route}")
    assert "replicas-1 cannot reach replicas-2: " in said
    assert "replicas-2 cannot reach replicas-1: " in said


# Looks, and fetches the model; nothing is left out.
FETCHES = ("--skip-tags", "none")


@pytest.fixture
def shared_memory():
    """As much as vLLM's processes share: else both are refused for want of it."""
    for name in PAIR:
        hosts()[name].check_output("sudo mount -o remount,size=1g /dev/shm")


def test_a_full_disk(shared_memory):
    said = refused(*FETCHES, dsdeploy_install_dir="/srv/small/opt")
    assert "/srv/small: 2.8 GiB needed (vLLM 2.8 GiB), 64.0 MiB free, 2.7 GiB too few" in said
    assert "replicas-2 of the gang of replicas-1, replicas-2 cannot be reached, or was refused before" in said


def test_a_host_that_cannot_get_the_model(shared_memory):
    catalog = yaml.safe_load((CHECKOUT / "roles/model/defaults/main/catalog.yml").read_text(encoding="utf-8"))
    entry = {
        **catalog["model_catalog"]["tiny-deepseek-v3"],
        "sources": [{"kind": "url", "base": "http://127.0.0.1:9/m"}],
    }
    said = refused(*FETCHES, model_catalog_extra={"tiny-deepseek-v3": entry})
    assert "http://127.0.0.1:9/m" in said
    assert "replicas-2 of the gang of replicas-1, replicas-2 cannot be reached, or was refused before" in said


def test_a_part_of_it():
    said = refused("--limit", PAIR[0], "--tags", "preflight")
    assert "vllm_venv_nnodes: 2 hosts are to serve it, this run is about 1" in said
