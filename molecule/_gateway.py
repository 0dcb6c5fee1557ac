"""A client of the gateway that says exactly what it means, and what is on its host."""

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PORT = 8443
_ADDRESSES, _KEYS = {}, {}


def address(host):
    name = host.backend.get_hostname()
    if name not in _ADDRESSES:
        _ADDRESSES[name] = host.check_output("hostname -i").split()[0]
    return _ADDRESSES[name]


@contextlib.contextmanager
def connected(where, timeout=30.0, alpn=("http/1.1",)):
    """A connection over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the system's authorities, which take 50 ms to read
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    with socket.create_connection((where, PORT), timeout) as plain, context.wrap_socket(plain) as channel:
        yield channel


def raw(where, data, timeout=30.0, alpn=("http/1.1",), after=b""):
    """What the gateway says to these very bytes, up to the end of the connection or of what it has to say."""
    with connected(where, timeout, alpn) as channel:
        said = b""
        try:
            channel.sendall(data)
            if after:
                channel.sendall(after)
            while True:
                part = channel.recv(65536)
                if not part:
                    break
                said += part
        except (TimeoutError, ConnectionError, ssl.SSLError):
            pass
        return said


def status(said):
    """HTTP status of an answer; 0 for a connection that was closed without one."""
    return int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/1.") else 0


def request(method, path, *headers, body=b"", version="1.1"):
    """The bytes of a request; what is given as `headers` stands in it as it is."""
    lines = [f"{method} {path} HTTP/{version}", "Host: gateway", "Connection: close", *headers]
    if body and not any(line.lower().startswith("content-length") for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape") + body


def bearer(key):
    return f"Authorization: Bearer {key}"


def chat(tokens=3, gap=0.01, ttft=0.01):
    """A body that the scripted stand-in answers."""
    model = json.dumps({"ttft": ttft, "gap": gap, "tokens": tokens, "numbered": True})
    return json.dumps({"model": model, "messages": [], "stream": True}).encode()


def key_command(host, *words, watch=None):
    return command(host, "key", *words, watch=watch)


def command(host, *words, watch=None):
    """`dsdeploy …` for one host of the scenario, as a user types it; `watch` gets its process."""
    run = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]
    line = [sys.executable, "-m", "dsdeploy", *words, "-i", os.environ["MOLECULE_INVENTORY_FILE"]]
    environment = dict(os.environ, ANSIBLE_CONFIG=f"{run}/ansible.cfg", PYTHONPATH=str(CHECKOUT / "python"))
    environment.update(ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0")
    line += ["--limit", host.backend.get_hostname()]
    running = subprocess.Popen(
        line, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    looking = threading.Thread(target=watch or (lambda process: None), args=(running,))
    looking.start()
    said = running.communicate()
    looking.join()
    return subprocess.CompletedProcess(line, running.returncode, *said)


@pytest.fixture(scope="module")
def key(host):
    """A key of the tests, made as a user makes one; once a host."""
    name = host.backend.get_hostname()
    if name not in _KEYS:
        _KEYS[name] = _make_key(host)
    return _KEYS[name]


def _make_key(host):
    done = key_command(host, "add", "tests", "--replace", "--requests-per-minute", "100000", "--streams", "2000")
    assert done.returncode == 0, done.stdout + done.stderr
    found = done.stdout.strip()
    assert re.fullmatch(r"sk-dsdeploy-[A-Za-z0-9_-]{43}", found), done.stdout
    assert found not in done.stderr
    return found
