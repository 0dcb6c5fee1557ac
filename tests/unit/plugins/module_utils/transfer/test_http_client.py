# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client against servers that hold on, break off, or answer oddly: over real sockets, never longer than allowed."""

import contextlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import mutations
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import download
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import http_client as http
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import Client, HttpError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@contextlib.contextmanager
def server(*answers):
    """Answers each connection's request with the next of the answers: bytes, or (bytes, bytes to drip, s between)."""
    listening = socket.create_server(("127.0.0.1", 0))
    asked, stop = [], threading.Event()

    def serve(connection, answer):
        with connection, contextlib.suppress(OSError):
            asked.append(connection.recv(65536))
            head, drip, pause = answer if isinstance(answer, tuple) else (answer, b"", 0)
            connection.sendall(head)
            while drip and not stop.wait(pause):
                connection.sendall(drip)

    def listen():
        for number in range(1000):
            try:
                connection, _address = listening.accept()
            except OSError:
                return
            answer = answers[min(number, len(answers) - 1)]
            threading.Thread(target=serve, args=(connection, answer), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
    finally:
        stop.set()
        listening.close()


@pytest.fixture
def client():
    return Client(timeout=1, retries=0, sleep=lambda _seconds: None)


@pytest.mark.parametrize(
    "answer",
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", 0.1),
        (b"HTTP/1.1 200 OK\r\nX-A: ", b"b", 0.1),
        (b"H", b"T", 0.1),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", 0.1),
    ],
    ids=["headers", "header", "status", "continue"],
)
def test_a_head_that_trickles_does_not_hold_the_run(client, answer):
    started = time.monotonic()
    with server(answer) as (url, _asked), pytest.raises(HttpError) as caught:
        client.read(url)
    assert time.monotonic() - started < 15
    mutations.assert_one_line(caught.value)


def test_a_small_document_that_trickles_does_not_hold_the_run(client, monkeypatch):
    monkeypatch.setattr(http, "SMALL_TIME", 1.0)
    started = time.monotonic()
    with server((b"HTTP/1.1 200 OK\r\n\r\n", b"[", 0.1)) as (url, _asked), pytest.raises(HttpError, match="time"):
        client.read(url)
    assert time.monotonic() - started < 15


def test_a_large_file_that_trickles_is_given_up(client, monkeypatch, tmp_path):
    monkeypatch.setattr(http, "SPEED_WINDOW", 0.5)
    size = 4 * 1024 * 1024
    head = b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-1/%d\r\nContent-Length: %d\r\n\r\n" % (size, size)
    started = time.monotonic()
    # Each attempt gets some bytes: that is no progress.
    with server((head, b"x", 0.05)) as (url, asked), pytest.raises(HttpError, match="too slow"):
        client.retries = 2
        remote = download.Remote("m.gguf", size, url, {})
        download.Downloader(client, str(tmp_path), None, connections=1).run([remote])
    assert len(asked) == 3
    assert time.monotonic() - started < 10


def test_a_slow_reader_is_no_slow_server(client, monkeypatch):
    monkeypatch.setattr(http, "SPEED_WINDOW", 0.2)
    with server(OK) as (url, _asked), client.open(url) as response:
        time.sleep(0.5)
        assert response.read(100) == b"hello"


def test_a_document_that_is_cut_is_tried_again(client):
    client.retries = 1
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"
    with server(cut, OK) as (url, asked):
        assert client.read(url)[0] == b"hello"
        assert len(asked) == 2


@pytest.mark.parametrize(
    ("location", "words"),
    [
        (b"", "redirects to an address that is not http(s)"),
        (b"Location: \r\n", "redirects to an address that is not http(s)"),
        (b"Location: http://[::1\r\n", "redirects to an address that is not http(s)"),
        (b"Location: file:///etc/passwd\r\n", "redirects to an address that is not http(s)"),
        (b"Location: http://\r\n", "redirects in a loop"),
        (b"Location: http://127.0.0.1:99999999/\r\n", "redirects to an address that is not http(s)"),
        (b"Location: /again\r\n", "redirects in a loop"),
    ],
)
def test_redirects_that_lead_nowhere(client, location, words):
    answer = b"HTTP/1.1 302 Found\r\n" + location + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    with server(answer) as (url, _asked), pytest.raises(HttpError) as caught:
        client.read(url)
    assert words in str(caught.value)
    assert caught.value.status == 0  # the next source, not once more


def test_a_redirect_in_other_letters_is_followed(client):
    found = b"HTTP/1.1 302 Found\r\nLocation: /\xe6\xa8\xa1 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with server(found, OK) as (url, asked):
        assert client.read(url)[0] == b"hello"
    assert asked[1].startswith(b"GET /%E6%A8%A1%201 ")


@pytest.mark.parametrize(
    ("head", "body", "line"),
    [
        (b"404 Not Found", b'{"error": "Repository not found"}', "answered 404 Not Found: Repository not found"),
        (b"404 Not Found", b'{"Code": 1, "Message": "no such"}', "answered 404 Not Found: no such"),
        (b"403 No\x1b[2J", b"[" * 4000, "answered 403 No [2J"),
        (b"500 ", b"<html>", "answered 500"),
        (b"401 Unauthorized", b'{"error": {"a": {"b": null}}}', 'answered 401 Unauthorized: {"a": {"b": null}}'),
    ],
)
def test_what_an_error_says_is_one_line(client, head, body, line):
    answer = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    with server(answer) as (url, _asked), pytest.raises(HttpError) as caught:
        client.read(url)
    assert str(caught.value) == f"{url} {line}"


def test_a_token_that_cannot_be_sent_is_not_shown(client):
    with server(OK) as (url, _asked), pytest.raises(HttpError) as caught:
        client.read(url, {"Authorization": "Bearer hf_secret\nX: y"})
    assert "secret" not in str(caught.value) and "cannot be sent" in str(caught.value)


@pytest.mark.parametrize(
    "after", ["1", "Fri, 27 Nov 2026 18:00:00 GMT", "Fri, 99 Xxx", "nonsense", "9" * 400, "-5", "１"]
)
def test_any_retry_after_is_a_pause(after):
    assert 0 <= http.back_off(0, after) <= 60


def test_a_proxy_is_asked_for_an_ipv6_address_in_brackets():
    """Else no proxy knows where the port begins (RFC 9110, section 9.3.6)."""
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self):
            asked.append(self.path)
            self.send_error(502)

        def log_message(self, *_words):
            pass

    with HTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        through = Client(5, 0, proxy=f"http://127.0.0.1:{proxy.server_port}")
        with pytest.raises(HttpError, match="502"):
            through.open("https://[2001:db8::1]/x")
        proxy.shutdown()
    assert asked == ["[2001:db8::1]:443"]


@contextlib.contextmanager
def proxy():
    """`(address, [(target, Proxy-Authorization, Authorization) of each request])` of a proxy that wants a password."""
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Proxy-Authorization"], self.headers["Authorization"]))
            given = self.headers["Proxy-Authorization"] == "Basic dXNlcjpwQHNz"  # user:p@ss
            self.send_response(200 if given else 407)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        do_CONNECT = do_GET

        def log_message(self, *_words):
            pass

    with HTTPServer(("127.0.0.1", 0), Proxy) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{listening.server_port}", asked
        listening.shutdown()


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_proxy_gets_its_password_for_plain_http_too(scheme):
    with proxy() as (address, asked):
        through = Client(5, 0, proxy=f"{scheme}user:p%40ss@{address}")
        text, _headers, _url = through.read("http://hub.example/x?y", {"Authorization": "Bearer of-the-hub"})
    assert text == b"hello"
    assert asked == [("http://hub.example/x?y", "Basic dXNlcjpwQHNz", "Bearer of-the-hub")]


def test_a_server_never_gets_the_password_of_the_proxy():
    with proxy() as (address, asked):
        with pytest.raises(HttpError):  # the tunnel is none
            Client(5, 0, proxy=f"http://user:p%40ss@{address}").read("https://hub.example/x")
        Client(5, 0, proxy=f"http://user:p%40ss@{address}").read("http://hub.example/x")
    assert [one[1:] for one in asked] == [("Basic dXNlcjpwQHNz", None)] * 2
    with server(OK) as (url, direct):
        Client(5, 0, proxy="").read(url)
    assert b"proxy" not in direct[0].lower()


@pytest.mark.parametrize(
    "setting, words",
    [
        ("http://user:secret@:3128", "no address"),
        ("http://user:secret@proxy.example:port", "no address"),
        ("socks5://user:secret@proxy.example:1080", "one of socks5"),
    ],
)
@pytest.mark.parametrize("url", ["http://hub.example/x", "https://hub.example/x"])
def test_a_proxy_that_is_none_is_named_without_its_password(url, setting, words):
    with pytest.raises(HttpError, match=words) as caught:
        Client(5, 0, proxy=setting).read(url)
    mutations.assert_one_line(caught.value)
    assert "http_proxy" in caught.value.hint and "secret" not in str(caught.value)


def test_a_document_that_comes_compressed_is_named(client):
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8b\x08\x00\x00"
    with server(answer) as (url, _asked), pytest.raises(HttpError, match="compressed.*gzip") as caught:
        client.read(url)
    mutations.assert_one_line(caught.value)
    assert "proxy" in caught.value.hint


def test_who_is_asked_too_often_says_so(client):
    with server(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n") as (url, _asked):
        with pytest.raises(HttpError, match="429") as caught:
            client.read(url)
    assert "how often" in caught.value.hint


@pytest.mark.parametrize(
    ("head", "seconds"),
    [
        # Hugging Face (huggingface_hub issue 3553).
        ('ratelimit: "api";r=0;t=55\r\nratelimit-policy: "fixed window";"api";q=500;w=300', 55.0),
        ('RateLimit: "api";r=489;t=189, "resolvers"; r=0; t=7', 7.0),
        ('RateLimit: "api";r=0;t=55\r\nRetry-After: 3', 3.0),
        ('RateLimit: "api";r=0;t=290', 60.0),
        ('RateLimit: "api";r=0;t=soon', None),
        ('RateLimit: "api";r=489;t=189', None),
    ],
)
def test_a_hub_that_names_the_end_of_its_window_is_waited_for(client, head, seconds):
    answer = f"HTTP/1.1 429 Too Many Requests\r\n{head}\r\nContent-Length: 0\r\n\r\n".encode()
    with server(answer) as (url, _asked), pytest.raises(HttpError) as caught:
        client.read(url)
    pause = http.back_off(0, caught.value.retry_after)
    assert pause == seconds if seconds else pause <= 1.0
