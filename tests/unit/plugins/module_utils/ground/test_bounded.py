# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that sends a byte now and then holds up nobody who has a limit, whatever part of the answer it is in."""

import contextlib
import socket
import threading
import time

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import load
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import ollama_api
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import Endpoint, EngineFailure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

PARTS = {
    "status": (b"", b"HTTP/1.1 200 OK" + b" " * 5000),
    "head": (b"HTTP/1.1 200 OK\r\n", b"X-Long: " + b"x" * 5000),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 200),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x" * 5000),
    "chunk size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 5000),
}


@pytest.fixture(params=sorted(PARTS))
def trickle(request):
    at_once, slowly = PARTS[request.param]
    ended = threading.Event()

    def serve(server):
        with contextlib.suppress(OSError):
            connection, _address = server.accept()
            connection.recv(65536)
            connection.sendall(at_once)
            for byte in slowly:
                if ended.wait(0.01):
                    break
                connection.sendall(bytes([byte]))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        ended.set()
    thread.join(5)


def test_an_engine_that_trickles_is_given_up(trickle):
    since = time.monotonic()
    with pytest.raises(EngineFailure):
        Endpoint(f"http://127.0.0.1:{trickle}").get("/metrics", 0.2)
    assert time.monotonic() - since < 15


def test_so_is_one_that_is_measured(trickle):
    since = time.monotonic()
    target = load.Target("127.0.0.1", trickle, "", {}, None, "completions", "m")
    assert load.post_json(target, "/tokenize", {}, 0.2) is None
    assert time.monotonic() - since < 15


def test_so_is_ollama(trickle):
    since = time.monotonic()
    with pytest.raises(Failure):
        ollama_api.Api(f"http://127.0.0.1:{trickle}", timeout=0.2).tags()
    assert time.monotonic() - since < 15
