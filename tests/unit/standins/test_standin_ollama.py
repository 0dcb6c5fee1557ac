# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the requests of the contract do not show of the real server: its start, its processes, its cloud."""

import contextlib
import hashlib
import http.server
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "plugins/modules"), str(Path(__file__).parents[2] / "standins")]
from ollama_process import Ollama
from standin_ollama import go
from test_ollama_model import write_model


@pytest.fixture
def server(tmp_path):
    found = Ollama(tmp_path)
    yield found
    found.stop()


def call(server, path, **body):
    request = urllib.request.Request(server.url + path, json.dumps(body).encode() if body else None)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]


def make(server, tmp_path, name="m"):
    data = write_model(tmp_path / "model.gguf").read_bytes()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    urllib.request.urlopen(urllib.request.Request(f"{server.url}/api/blobs/{digest}", data)).close()
    call(server, "/api/create", model=name, files={"a.gguf": digest}, stream=False)


def children(process):
    """Of any of its threads."""
    found = []
    for file in Path(f"/proc/{process.pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended since they were listed
            found += [int(pid) for pid in file.read_text().split()]
    return found


def test_a_loaded_model_is_a_process_of_its_own(server, tmp_path):
    server.start()
    make(server, tmp_path)
    assert children(server.process) == []
    call(server, "/api/generate", model="m", stream=False)
    (runner,) = children(server.process)
    command = Path(f"/proc/{runner}/cmdline").read_bytes().split(b"\0")
    assert b"runner" in command
    port = int(command[command.index(b"--port") + 1])
    socket.create_connection(("127.0.0.1", port), 5).close()
    # One that was killed is started again by the next request.
    os.kill(runner, signal.SIGKILL)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while "State:\tZ" not in Path(f"/proc/{runner}/status").read_text():
            time.sleep(0.01)
    call(server, "/api/generate", model="m", stream=False)
    assert children(server.process) != [runner]
    # It outlives a server that is killed.
    (runner,) = children(server.process)
    server.process.kill()
    server.process.wait()
    assert Path(f"/proc/{runner}").exists()


def test_it_needs_its_home_and_its_store(server, tmp_path):
    server.start()
    assert oct((tmp_path / ".ollama/id_ed25519").stat().st_mode)[-3:] == "600"
    (tmp_path / "file").write_text("")
    for environment, why in (
        ({"HOME": ""}, "Error: $home is not defined"),
        ({"HOME": str(tmp_path / "file")}, "not a directory"),
        ({"OLLAMA_MODELS": str(tmp_path / "file/models")}, "not a directory"),
    ):
        server.restart(**environment)
        assert server.process.wait(60) == 1
        assert why in server.said()


@pytest.mark.parametrize(("origins", "why"), [("example.org", "panic: bad origin"), ("http://*.*", "only one *")])
def test_an_origin_that_it_does_not_understand_is_a_panic(server, origins, why):
    server.restart(OLLAMA_ORIGINS=origins)
    assert server.process.wait(60) == 2
    assert why in server.said()


def test_a_duration_that_it_does_not_understand_is_five_minutes():
    assert go.setting_duration("forever", 300) == 300
    assert go.setting_duration("10m", 300) == 600 * 10**9
    assert go.setting_duration("-1", 300) == go.FOREVER


def test_what_a_killed_server_left_is_removed_by_a_start_an_hour_later_only(server, tmp_path):
    server.start()
    left = tmp_path / "models/blobs/sha256-1234567890"
    left.write_bytes(b"x")
    server.restart()
    assert left.exists()
    old = time.time() - 3700
    os.utime(left, (old, old))
    server.restart(OLLAMA_NOPRUNE="1")
    assert left.exists()
    server.restart()
    assert not left.exists()


@pytest.fixture
def cloud():
    """What ollama.com would be asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET

        def log_message(self, *_arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}", asked
        found.shutdown()


def test_it_asks_its_cloud_unless_it_is_told_not_to(server, cloud):
    url, asked = cloud
    question = {"model": "gpt-oss:120b-cloud", "messages": [{"role": "user", "content": "a secret"}]}
    server.restart(STANDIN_OLLAMA_CLOUD=url)
    assert call(server, "/api/chat", **question) == (403, "ollama cloud is disabled: remote model is unavailable")
    assert asked == []
    server.restart(STANDIN_OLLAMA_CLOUD=url, OLLAMA_NO_CLOUD="0")
    call(server, "/api/chat", **question)
    deadline = time.monotonic() + 60
    while len(asked) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert {path for path, _body in asked} == {"/api/experimental/model-recommendations", "/api/chat"}
    assert "a secret" in dict(asked)["/api/chat"]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [("a\x07", '"a\\a"'), ("\u200b", '"\\u200b"'), ("é\n", '"é\\n"'), ("\x00", '"\\x00"'), ("<", '"<"')],
)
def test_strings_are_printed_as_go_does(text, quoted):
    assert go.sharp(text) == quoted


@pytest.mark.parametrize(
    ("number", "printed"),
    [(8192, "8192"), (1048576, "1.048576e+06"), (0.6, "0.6"), (1e-7, "1e-07"), (999999.0, "999999"), (-1, "-1")],
)
def test_numbers_are_printed_as_go_does(number, printed):
    assert go.plain(number) == printed
