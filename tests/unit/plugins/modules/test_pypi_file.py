# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Against a real HTTP server that speaks the index protocol (PEP 503) and byte ranges, on loopback."""

import hashlib
import http.server
import re
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import run_module

NAME = "a_b-1.0.tar.gz"
MIB = 1 << 20  # a download is continued in steps of it
CONTENT = bytes(range(256)) * (16 * MIB // 256) + b"end"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Index(http.server.ThreadingHTTPServer):
    """Serves one project; `requests` are (path, Range). After `budget` bytes of files, answers break off."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.budget, self.ranges, self.tells_size = [], 1 << 40, True, True
        self.url = f"http://127.0.0.1:{self.server_port}/simple"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        if self.path == "/simple/a-b/":
            self.answer(200, f'<a href="../../files/{NAME}#sha256=0">x</a>'.encode(), "text/html")
        elif self.path == f"/files/{NAME}":
            asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if self.server.ranges else None
            if asked:
                start, end = int(asked[1]), int(asked[2] or len(CONTENT) - 1)
                span = {"Content-Range": f"bytes {start}-{end}/{len(CONTENT)}"}
                self.answer(206, CONTENT[start : end + 1], "application/gzip", span)
            else:
                self.answer(200, CONTENT, "application/gzip")
        else:
            self.answer(404, b"", "text/plain")

    def answer(self, status, body, kind, headers=None):
        self.send_response(status)
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        if self.server.tells_size:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path.startswith("/files/"):
            body = body[: max(self.server.budget, 0)]
            self.server.budget -= len(body)
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def index():
    server = Index()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "new" / "source.tar.gz"


def fetch(index, dest, check_mode=False, environment=None, **more):
    wanted = {"project": "A_b", "filename": NAME, "checksum": SHA256, "dest": str(dest), "index_url": index.url}
    quiet = {"PIP_CONFIG_FILE": "/dev/null", "no_proxy": "127.0.0.1"}
    return run_module.run("pypi_file", {**wanted, "retries": 0, **more}, check_mode, {**quiet, **(environment or {})})


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_fetched_once(index, dest, size):
    more = {"size": size} if size else {}
    result = fetch(index, dest, **more)
    assert (result["changed"], result["fetched_bytes"]) == (True, len(CONTENT))
    assert result["url"] == index.url.replace("simple", "files") + "/" + NAME
    assert dest.read_bytes() == CONTENT
    assert [path.name for path in dest.parent.iterdir()] == [dest.name]
    asked = len(index.requests)
    assert fetch(index, dest, **more)["changed"] is False
    assert len(index.requests) == asked
    dest.write_bytes(CONTENT[:-1])
    assert fetch(index, dest, **more)["changed"] is True
    assert dest.read_bytes() == CONTENT


def test_check_mode(index, dest):
    assert fetch(index, dest, check_mode=True)["changed"] is True
    assert not dest.parent.exists()
    assert index.requests == [("/simple/a-b/", None)]  # the page alone
    gone = fetch(index, dest, check_mode=True, filename="a_b-2.0.tar.gz")
    assert gone["failed"] and "has no a_b-2.0.tar.gz" in gone["msg"]
    away = fetch(index, dest, check_mode=True, index_url="http://127.0.0.1:9/simple")
    assert away["failed"] and "127.0.0.1:9" in away["msg"] and "dsdeploy_mirrors" in away["hint"]


def test_continued_by_the_next_run(index, dest):
    index.budget = 8 * MIB
    result = fetch(index, dest)
    assert result["failed"] is True and " ended at byte " in result["msg"]
    assert not dest.exists()
    index.budget = 1 << 40
    result = fetch(index, dest)
    # The first that broke off ended the others, wherever they were; its own answer was longer than a step.
    assert 8 * MIB <= result["fetched_bytes"] <= len(CONTENT) - MIB
    assert dest.read_bytes() == CONTENT
    assert [path.name for path in dest.parent.iterdir()] == [dest.name]


def test_server_without_ranges(index, dest):
    index.ranges = False
    assert fetch(index, dest)["fetched_bytes"] == len(CONTENT)
    index.tells_size = False
    dest.unlink()
    assert "does not report its size" in fetch(index, dest)["msg"]
    fetch(index, dest, size=len(CONTENT))
    assert dest.read_bytes() == CONTENT


def test_other_content_is_refused(index, dest):
    result = fetch(index, dest, checksum="0" * 64)
    assert (
        result["failed"] is True
        and f"{NAME} from {index.url.replace('simple', 'files')}/{NAME} has sha256 {SHA256}, expected" in result["msg"]
    )
    assert "mirror" in result["hint"]
    assert list(dest.parent.iterdir()) == []


def test_not_there(index, dest):
    result = fetch(index, dest, filename="a_b-2.0.tar.gz")
    assert result["msg"] == f"no package index has a_b-2.0.tar.gz: {index.url}/a-b/ has no a_b-2.0.tar.gz"
    assert "dsdeploy_mirrors.pypi_index" in result["hint"]
    assert "answered 404" in fetch(index, dest, project="other")["msg"]
    assert "no index is configured" in fetch(index, dest, index_url="")["msg"]
    result = fetch(index, dest, checksum="b0a2")
    assert "not a sha256" in result["msg"] and result["error_kind"] == "usage"


def test_index_of_pip_s_configuration(index, dest, tmp_path):
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nindex-url = {index.url}\n")
    fetch(index, dest, index_url="", environment={"PIP_CONFIG_FILE": str(config)})
    assert dest.read_bytes() == CONTENT
    dest.unlink()
    nobody = "http://127.0.0.1:1/simple"
    environment = {"PIP_INDEX_URL": index.url, "PIP_CONFIG_FILE": "/dev/null"}
    fetch(index, dest, index_url="", index_url_default=nobody, environment=environment)
    assert dest.read_bytes() == CONTENT
    dest.unlink()
    assert "127.0.0.1:1" in fetch(index, dest, index_url="", index_url_default=nobody)["msg"]
