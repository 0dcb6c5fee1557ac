# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module as Ansible runs it: a process of its own with JSON on stdin, and a fake nvidia-smi that plays outputs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import gone

ROOT = Path(__file__).resolve().parents[4]
FIXTURES = ROOT / "tests" / "unit" / "fixtures" / "nvidia_smi"
MODULE = ROOT / "plugins" / "modules" / "nvidia_smi_facts.py"

FAKE = """#!/bin/sh
echo "$*" >> {calls}
case "$*" in
  "-q -x") answer={xml} ;;
  "") answer={table} ;;
  "--query-gpu=uuid,index,compute_cap --format=csv,noheader") answer={query} ;;
  "nvlink --status") answer={nvlink} ;;
  *) echo "Invalid combination of input arguments." ; exit 2 ;;
esac
test -e "$answer" || {{ echo "Invalid combination of input arguments." >&2 ; exit 2 ; }}
cat "$answer"
exit {rc}
"""


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


class Host:
    """A bare host: an empty PCI bus, and no nvidia-smi until one is put in place."""

    def __init__(self, path):
        self.path = path
        self.binary = path / "bin" / "nvidia-smi"
        self.pci = path / "pci"
        self.calls = path / "calls"
        self.binary.parent.mkdir()
        self.pci.mkdir()

    def script(self, text):
        self.binary.write_text(text)
        self.binary.chmod(0o755)

    def plays(self, case, rc=0, output=None, **names):
        files = {
            "xml": "nvidia-smi-q-x.xml",
            "table": "nvidia-smi.txt",
            "query": "query-uuid.csv",
            "nvlink": "nvlink.txt",
        }
        files = {key: output or name for key, name in files.items()}
        files.update(names)
        self.script(
            FAKE.format(rc=rc, calls=self.calls, **{key: FIXTURES / case / name for key, name in files.items()})
        )

    def device(self, name, vendor, kind):
        (self.pci / name).mkdir()
        (self.pci / name / "vendor").write_text(vendor + "\n")
        (self.pci / name / "class").write_text(kind + "\n")

    def run(self, check=False, **arguments):
        arguments.setdefault("path", str(self.binary))
        arguments.setdefault("pci_devices", str(self.pci))
        arguments = {key: value for key, value in arguments.items() if value is not None}
        arguments["_ansible_check_mode"] = check
        paths = [str(ROOT / ".collections")] + [path for path in sys.path if path]
        environment = dict(
            os.environ, PYTHONPATH=os.pathsep.join(paths), PATH=str(self.binary.parent) + ":/bin:/usr/bin"
        )
        done = subprocess.run(
            [sys.executable, str(MODULE)],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,  # fail_json ends with 1
        )
        assert done.stderr == ""
        return json.loads(done.stdout)

    def facts(self, **arguments):
        result = self.run(**arguments)
        assert result["changed"] is False
        assert set(result["ansible_facts"]) == {"nvidia_smi"}
        return result["ansible_facts"]["nvidia_smi"]


@pytest.mark.parametrize("check", [False, True])
def test_gpus(host, check):
    host.plays("h800-x8-driver550")
    host.device("0000:18:00.0", "0x10de", "0x030200")
    host.device("0000:07:00.0", "0x10de", "0x068000")
    host.device("0000:08:00.0", "0x10de", "0x068000")
    host.device("0000:00:1f.0", "0x8086", "0x068000")
    host.device("0000:18:00.1", "0x10de", "0x040300")
    facts = host.facts(check=check)
    assert facts["status"] == "ok"
    assert facts["summary"] == "8 x NVIDIA H800, 81559 MiB each, driver 550.90.12, CUDA 12.4"
    assert facts["source"] == "xml"
    assert facts["path"] == str(host.binary)
    assert {gpu["compute_capability_source"] for gpu in facts["gpus"]} == {"query"}
    assert facts["nvlink"] == {"present": True, "links": 64}
    assert facts["nvswitch"] == {"present": True, "count": 2}
    assert facts["pci_gpu_count"] == 1


def test_found_on_path(host):
    host.plays("h100-x1-driver580")
    facts = host.facts(path=None)
    assert facts["path"] == str(host.binary)
    assert facts["gpus"][0]["compute_capability_source"] == "query"
    assert facts["nvlink"] == {"present": None, "links": None}


def test_table_where_there_is_no_xml(host):
    host.plays("h800-x8-driver550", xml="none")
    facts = host.facts()
    assert (facts["status"], facts["source"], len(facts["gpus"])) == ("ok", "table", 8)
    assert "Invalid combination of input arguments" in facts["warnings"][0]
    assert facts["gpus"][7]["uuid"] == "GPU-00000007-aaaa-bbbb-cccc-dddddddddddd"


def test_table_where_the_xml_is_cut(host):
    host.plays("h800-x8-driver550", xml="../truncated-xml/nvidia-smi-q-x.xml")
    facts = host.facts()
    assert (facts["status"], facts["source"], len(facts["gpus"])) == ("ok", "table", 8)


def test_neither_table_nor_xml(host):
    host.plays("truncated-xml")
    facts = host.facts()
    assert (facts["status"], facts["source"], facts["gpus"]) == ("unreadable", None, [])


@pytest.mark.parametrize(
    ("case", "rc", "status"),
    [
        ("driver-library-mismatch", 18, "driver_library_mismatch"),
        ("driver-not-loaded", 9, "driver_not_loaded"),
        ("no-devices", 6, "no_devices"),
        ("gpu-lost-whole", 15, "gpu_lost"),
        ("nvml-unknown-error", 255, "unknown"),
    ],
)
def test_no_gpus(host, case, rc, status):
    host.plays(case, rc=rc, output="output.txt")
    facts = host.facts()
    assert facts["status"] == status
    assert facts["reason"] and facts["hint"]
    assert facts["gpus"] == []


def test_one_lost(host):
    host.plays("gpu-lost-one-of-eight", rc=15)
    facts = host.facts()
    assert facts["status"] == "gpu_lost"
    assert [gpu["index"] for gpu in facts["gpus"]] == [0, 1, 2, 4, 5, 6, 7]
    assert [lost["pci_id"] for lost in facts["lost_gpus"]] == ["00000000:5C:00.0"]


def test_bytes_that_are_no_utf8(host):
    xml = (FIXTURES / "process-names" / "nvidia-smi-q-x.xml").read_bytes()
    (host.path / "xml").write_bytes(xml.replace(b"/opt/model/", b"/opt/mod\xe8le\xff/"))
    host.plays("process-names", xml=host.path / "xml")
    assert host.facts()["gpus"][0]["processes"][0]["name"] == "/opt/mod\ufffdle\ufffd/python"


def test_not_installed(host):
    host.device("0000:18:00.0", "0x10de", "0x030000")
    facts = host.facts()
    assert facts["status"] == "not_installed"
    assert facts["reason"] == f"{host.binary} is not an executable file"
    assert facts["path"] is None
    assert (facts["pci_gpu_count"], facts["nvswitch"]) == (1, {"present": False, "count": 0})


def test_no_pci_bus(host):
    facts = host.facts(pci_devices=str(host.path / "none"))
    assert (facts["pci_gpu_count"], facts["nvswitch"]) == (None, {"present": None, "count": None})


def test_program_that_cannot_start(host):
    host.script("#!/no/such/interpreter\n")
    facts = host.facts()
    assert facts["status"] == "unknown"
    assert "No such file" in facts["reason"]


@pytest.mark.parametrize("ignore", ["", "trap '' TERM INT HUP"])
def test_hanging_program_is_killed_with_its_children(host, ignore):
    pids = host.path / "pids"
    host.script(f"#!/bin/sh\n{ignore}\nsleep 300 &\necho $$ $! > {pids}\nsleep 300\n")
    start = time.monotonic()
    facts = host.facts(timeout=3)  # a busy machine takes a while to start the program
    assert time.monotonic() - start < 60
    assert (facts["status"], facts["gpus"]) == ("timed_out", [])
    assert facts["reason"] == "nvidia-smi did not answer within 3 s"
    assert [pid for pid in pids.read_text().split() if not gone(pid, 30)] == []


def test_hanging_extra_question_costs_only_its_answer(host):
    host.plays("h800-x8-driver550")
    host.script(host.binary.read_text().replace('"nvlink --status")', '"nvlink --status") sleep 300;'))
    facts = host.facts(timeout=5)
    assert facts["status"] == "ok"
    assert facts["nvlink"] == {"present": None, "links": None}


def test_after_a_time_out_nothing_more_is_asked(host):
    host.plays("h800-x8-driver550")
    host.script(host.binary.read_text().replace('"-q -x")', '"-q -x") sleep 300;'))
    assert host.facts(timeout=3)["status"] == "timed_out"
    assert host.calls.read_text() == "-q -x\n"


def test_bad_timeout(host):
    result = host.run(timeout=0)
    assert result["failed"] is True
    assert result["msg"] == "timeout is 0, it must be 1 s or more"
    assert result["error_kind"] == "usage"
