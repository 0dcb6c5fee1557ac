"""What a unit lets its service do: the score while it serves, and a program that tries under the same unit."""

import json
import re

import pytest

testinfra_hosts = ["ssh://gateway-systemd"]
SERVES = ["dsdeploy-llama-cpp", "dsdeploy-gateway"]
# Prints what it could do. It runs as the engine does, under a copy of the engine's unit.
TRIES = r"""
import ctypes, glob, json, mmap, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
done = {}

def attempt(name, what):
    try:
        done[name] = bool(what())
    except Exception:
        done[name] = False

def reads(path):
    return lambda: open(path, "rb").read()

def writes(path):
    return lambda: open(path, "wb").write(b"x") and (os.unlink(path) or True)

def calls(name, *arguments):
    return lambda: getattr(libc, name)(*arguments) == 0

def reaches(host, port):
    return lambda: socket.create_connection((host, port), 3)

attempt("reads its own directory", lambda: os.listdir(os.environ["HOME"]) is not None)
attempt("asks the engine of this host", reaches("127.0.0.1", 8080))
attempt("lists the keys", lambda: os.listdir("/etc/dsdeploy/keys"))
attempt("lists the gateway's files", lambda: os.listdir("/etc/dsdeploy/gateway"))
attempt("reads the records", lambda: glob.glob("/etc/dsdeploy/deployments/*.json"))
attempt("reads root's environment", reads("/proc/1/environ"))
others = lambda: [pid for pid in glob.glob("/proc/[0-9]*") if os.stat(pid).st_uid != os.getuid()]
attempt("sees others' processes", others)
attempt("writes to the store", writes("/var/lib/dsdeploy/models/x"))
attempt("writes to /opt", writes("/opt/dsdeploy/x"))
attempt("writes to /etc", writes("/etc/x"))
attempt("reads homes", lambda: os.listdir("/root") or os.listdir("/home"))
attempt("reads the gateway's state", lambda: os.listdir("/var/lib/dsdeploy/dsdeploy-gateway"))
attempt("reaches another address", reaches(sys.argv[1], 22))
attempt("opens a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("opens a packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))
attempt("makes a namespace", calls("unshare", 0x10000000))
attempt("mounts", calls("mount", b"none", b"/tmp", b"tmpfs", 0, None))
attempt("loads a module", calls("init_module", b"x", 1, b""))
attempt("becomes root", calls("setuid", 0))
attempt("traces", calls("ptrace", 0, 0, 0, 0))
attempt("makes code", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC))
attempt("sees devices", lambda: set(os.listdir("/dev")) & {"kmsg", "mem", "fuse", "net", "kvm"})
attempt("makes a setuid file", lambda: os.chmod(open(os.environ["HOME"] + "/s", "w").name, 0o4755) is None)
attempt("leaves a core", lambda: __import__("resource").getrlimit(4) != (0, 0))
print("DONE " + json.dumps(done))
"""
MAY = {"reads its own directory", "asks the engine of this host"}


@pytest.mark.parametrize("service", SERVES)
def test_the_score_is_low_while_it_serves(host, service):
    assert host.check_output("systemctl is-active %s", service) == "active"
    said = host.check_output("systemd-analyze security %s --no-pager", service)
    score = float(re.findall(r"exposure level for \S+: ([0-9.]+)", said)[-1])
    assert score <= 2.0, said


def test_a_compromised_engine_reads_no_key_writes_no_store_and_reaches_nobody(host):
    unit = host.check_output("cat /etc/systemd/system/dsdeploy-llama-cpp.service")
    where = host.check_output("hostname -i").split()[0]
    keep = [
        line
        for line in unit.splitlines()
        if not line.startswith(("Exec", "Restart", "Type=", "WantedBy", "#", "Timeout"))
    ]
    text = "\n".join(keep).replace(
        "[Service]", f"[Service]\nType=oneshot\nExecStart=/usr/bin/python3 /srv/tries.py {where}"
    )
    host.run("printf %s %s | sudo tee /srv/tries.py > /dev/null", "%s", TRIES)
    host.check_output("printf %s %s | sudo tee /run/systemd/system/tries.service > /dev/null", "%s", text)
    host.run("sudo systemctl daemon-reload && sudo systemctl start tries")
    log = host.check_output("sudo journalctl -u tries --no-pager -o cat -n 30")
    host.run("sudo rm /run/systemd/system/tries.service; sudo systemctl daemon-reload")
    assert "DONE " in log, log
    done = json.loads(log.split("DONE ")[-1].splitlines()[0])
    assert {name for name, could in done.items() if could} == MAY


def test_without_the_settings_the_same_program_does_most_of_it(host):
    """The tries are real ones: as root, unconfined, they succeed."""
    where = host.check_output("hostname -i").split()[0]
    host.run("printf %s %s | sudo tee /srv/tries.py > /dev/null", "%s", TRIES)
    log = host.check_output("sudo HOME=/tmp python3 /srv/tries.py %s", where)
    could = {name for name, could in json.loads(log.split("DONE ")[-1].splitlines()[0]).items() if could}
    assert {"lists the keys", "lists the gateway's files", "sees others' processes", "writes to the store"} <= could
    assert {"reaches another address", "makes code", "writes to /etc", "reads root's environment"} <= could
