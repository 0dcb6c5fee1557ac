"""Whom the gateway lets in, and to what: raw requests over TLS, from another machine."""

import hashlib
import json
import re
import socket
import ssl
from pathlib import Path

import pytest
from _gateway import PORT, address, bearer, key_command, raw, request, status
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import paths

QUESTION = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}).encode()
CHAT = "/v1/chat/completions"


def ask(host, *arguments, **more):
    return status(raw(address(host), request(*arguments, **more)))


def test_a_question_is_answered_with_the_engine_s_key_which_no_client_knows(host, key):
    said = raw(address(host), request("POST", CHAT, bearer(key), body=QUESTION))
    assert status(said) == 200, said
    assert json.loads(said.partition(b"\r\n\r\n")[2])["choices"]
    assert ask(host, "POST", CHAT, f"x-api-key: {key}", body=QUESTION) == 200
    # The engine's own key opens nothing from outside.
    assert ask(host, "POST", CHAT, bearer('key-for-tests-100%-"quoted"'), body=QUESTION) == 401


def test_probes_are_told_without_a_key_whether_an_engine_answers(host):
    assert ask(host, "GET", "/health") == 200
    assert ask(host, "GET", "/llama_cpp/health") == 200
    assert ask(host, "POST", "/health") == 404


# All that each engine serves, from its source: see tests/gateway_paths.py, which asks real engines the same.
LISTS = Path(__file__).parents[3] / "tests/unit/fixtures/gateway/paths"


@pytest.mark.parametrize("name", sorted(path.name for path in LISTS.glob("*.txt")))
def test_of_all_that_an_engine_serves_nothing_passes_that_is_not_listed(host, key, name):
    engine, where = name.split("-")[0], address(host)
    here = host.check_output("ls /etc/dsdeploy/deployments").split()
    at = {"": set(paths.ALLOWED["llama_cpp"])}
    at["/" + engine] = set(paths.ALLOWED[engine]) if engine + ".json" in here else set()
    lines = [line.split(" ", 1) for line in (LISTS / name).read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 30
    wrong = []
    for prefix, passes in at.items():
        for method, path in lines:
            if (method, path) == ("GET", paths.HEALTH):
                continue
            asked = prefix + re.sub(r"\{[^}]*\}|:\w+", "x", path)
            body = b"{}" if method in ("POST", "PUT") else b""
            if (method, path) in passes:
                # With a key a question would be answered; that it is not, one test shows.
                good = ask(host, method, asked, body=body) == 401
            else:
                said = raw(where, request(method, asked, bearer(key), body=body))
                good = status(said) == 404 and (b'"code":"not_found"' in said or method == "HEAD")
            if not good:
                wrong.append(f"{method} {asked}")
    assert not wrong


# Ways to write a path that passes, or one that does not.
TRICKS = [
    "//v1/models",
    "/v1//models",
    "/v1/models/",
    "/v1/models/.",
    "/v1/models/..",
    "/v1/chat/completions/..",
    "/v1/../slots",
    "/v1/models/../../slots",
    "/v1/models%2f..%2f..%2fslots",
    "/%76%31/models",
    "/v1/models;x",
    "/v1/models%00",
    "/V1/MODELS",
    "/v1/models.",
    "/slots?/v1/models",
    "/slots#/v1/models",
    "/llama_cpp/../slots",
    "/llama_cpp",
    "/llama_cpp//v1/models",
    "/vllm/v1/models",
    "http://127.0.0.1:8080/slots",
    "https://gateway/slots",
    "\\v1\\models",
    "*",
]


@pytest.mark.parametrize("path", TRICKS)
def test_a_path_that_is_written_in_another_way_is_not_there(host, key, path):
    for method in ("GET", "POST"):
        found = ask(host, method, path, bearer(key), body=b"{}" if method == "POST" else b"")
        assert found in (400, 404), f"{method} {path}: {found}"


@pytest.mark.parametrize(
    "method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "get", "PROPFIND", "POST "]
)
def test_another_method_is_another_request(host, key, method):
    assert ask(host, method, "/v1/models", bearer(key)) in (400, 404)


def test_an_absolute_uri_and_a_query_are_cut_to_the_path_that_passes(host, key):
    where = address(host)
    # Where its host is another than the Host header's, HAProxy refuses it.
    assert status(raw(where, request("GET", "http://gateway/v1/models", bearer(key)))) == 200
    assert status(raw(where, request("GET", "http://evil.example/v1/models", bearer(key)))) in (200, 400)
    assert ask(host, "GET", "/v1/models?autoload=1&/slots", bearer(key)) == 200


def test_no_web_socket_and_no_other_protocol_passes(host, key):
    for name in ("websocket", "h2c"):
        upgrade = (f"Upgrade: {name}", "Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
        # 200: HAProxy 3 drops what "Connection" does not name, and the request is an ordinary one.
        assert ask(host, "GET", "/v1/models", bearer(key), *upgrade) in (200, 400)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Authorization:",),
        ("Authorization: Bearer",),
        ("Authorization: Bearer ",),
        ("Authorization: Basic KEY",),
        ("Authorization: KEY",),
        ("Authorization: Bearer KEY x",),
        ("Authorization: Bearer xKEY",),
        ("Authorization: Bearer KEYx",),
        ("Authorization: Bearer KEY\u00e4",),
        ("Authorization: Bearer KEY\t",),
        ("Authorization: Bearer \u212aEY",),
        ("Authorization: Bearer HASH",),
        ("Authorization: Bearer KEY", "Authorization: Bearer KEY"),
        ("Authorization: Bearer x", "Authorization: Bearer KEY"),
        ("Authorization: Bearer x", "x-api-key: KEY"),
        ("Authorization: Bearer x, Bearer KEY",),
        ("x-api-key:",),
        ("x-api-key: KEY", "x-api-key: KEY"),
        ("x-api-key: HASH",),
        ("Cookie: key=KEY",),
        ("Authorization : Bearer KEY",),
        ("Authorization: Bearer KEY\x00",),
    ],
)
def test_what_is_not_exactly_one_key_is_refused(host, key, headers):
    digest = hashlib.sha256(key.encode()).hexdigest()
    headers = [line.replace("KEY", key).replace("HASH", digest) for line in headers]
    found = ask(host, "GET", "/v1/models", *headers)
    # A tab or a space at the end is no part of a header's value (RFC 9110, 5.5).
    assert found in ((200,) if headers and headers[0].endswith("\t") else (400, 401)), found


def test_a_megabyte_for_a_key_and_a_thousand_headers_are_refused_and_others_are_served(host, key):
    where = address(host)
    assert status(raw(where, request("GET", "/v1/models", "Authorization: Bearer " + "x" * 1_000_000))) in (0, 400)
    assert status(raw(where, request("GET", "/v1/models", bearer(key), *(f"x-{n}: y" for n in range(1000))))) in (
        0,
        400,
    )
    assert status(raw(where, request("GET", "/v1/models", bearer(key), "x-long: " + "y" * 30_000))) == 400
    assert ask(host, "GET", "/v1/models", bearer(key)) == 200


SMUGGLED = b"GET /slots HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 4"),
        ("Content-Length: 4", "Content-Length: 40"),
        ("Content-Length: 4, 40",),
        ("Content-Length: +4",),
        ("Content-Length: -1",),
        ("Content-Length: 0x4",),
        ("Content-Length: 4 4",),
        ("Transfer-Encoding: chunked",),
        ("Transfer-Encoding: xchunked", "Content-Length: 4"),
        ("Transfer-Encoding : chunked", "Content-Length: 4"),
        ("Transfer-Encoding:\tchunked",),
        ("Transfer-Encoding: identity, chunked",),
        (" Content-Length: 4",),
        ("X: y\nTransfer-Encoding: chunked",),
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused_and_nothing_comes_after_it(host, key, headers):
    head = ["POST /v1/completions HTTP/1.1", "Host: gateway", bearer(key), *headers]
    said = raw(address(host), "\r\n".join(head).encode() + b"\r\n\r\n" + b"0\r\n\r\n" + SMUGGLED, timeout=1.5)
    # 401: a line that begins with a space goes on with the header before it, the key.
    assert status(said) in (0, 400, 401, 411, 422), said[:200]
    # Neither the engine nor the gateway took what followed for a request of its own that passes.
    assert b"n_ctx" not in said and said.count(b"HTTP/1.1 200") == 0


def test_http_1_0_and_http_2_are_served(host, key):
    where = address(host)
    assert status(raw(where, request("GET", "/v1/models", bearer(key), version="1.0"))) == 200
    assert status(raw(where, request("GET", "/v1/models", bearer(key), version="0.9"))) in (0, 400)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection((where, PORT), 10) as plain, context.wrap_socket(plain) as channel:
        assert channel.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_and_plain_http_are_refused(host, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection((address(host), PORT), 10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)
    with socket.create_connection((address(host), PORT), 10) as plain:
        plain.sendall(request("GET", "/health"))
        assert not plain.recv(100).startswith(b"HTTP/1.1 200")


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(host, key):
    # HAProxy 3 waits for the rest of the body before it closes.
    huge = request("POST", CHAT, bearer(key), "Content-Length: 1073741824", body=b"{")
    assert status(raw(address(host), huge, timeout=2)) == 413
    assert ask(host, "POST", CHAT, bearer(key)) == 411


def test_what_a_client_says_of_itself_does_not_reach_the_engine(host, key):
    # llama.cpp answers an Origin with headers that let its pages in (CORS).
    said = raw(address(host), request("GET", "/v1/models", bearer(key), "Origin: https://evil.example"))
    assert status(said) == 200
    assert b"access-control" not in said.lower()
    assert b"\r\nserver:" not in said.lower()


def test_keys_outlast_a_restart_and_the_host_s_own_is_for_the_host_alone(host, key):
    listed = key_command(host, "list")
    assert listed.returncode == 0 and "tests" in listed.stdout and key not in listed.stdout
    own = host.check_output("sudo cat /etc/dsdeploy/gateway/probe.key").strip()
    assert ask(host, "GET", "/v1/models", bearer(own)) == 401


def test_the_log_says_who_asked_what_and_no_more(host, key):
    raw(address(host), request("POST", CHAT + "?secret-of-a-query", bearer(key), body=QUESTION))
    journal = "sudo journalctl -u dsdeploy-gateway -n 200 --no-pager 2>/dev/null"
    log = host.check_output(f"{journal}; sudo cat /var/log/dsdeploy/dsdeploy-gateway.log 2>/dev/null; true")
    line = [line for line in log.splitlines() if "key=tests" in line and CHAT in line][-1]
    for part in (
        "model=smollm2-135m-instruct",
        "method=POST",
        "status=200",
        "first_byte_ms=",
        "total_ms=",
        "bytes_out=",
    ):
        assert part in line
    for secret in (key, "secret-of-a-query", '"content"', "Hi", "key-for-tests-100"):
        assert secret not in log


def test_its_files_are_for_root_and_for_it(host):
    for line in host.check_output("sudo find /etc/dsdeploy/gateway -printf '%m %u %g %f\\n'").splitlines():
        mode, user, group, name = line.split()
        assert user == "root"
        assert (mode, group) in (("640", "dsdeploy-gateway"), ("750", "dsdeploy-gateway"), ("600", "root")), line
        assert name not in ("keys.json", "probe.key", "self-signed.pem") or mode == "600"
    config = host.check_output("sudo cat /etc/dsdeploy/gateway/haproxy.cfg")
    assert "key-for-tests" not in config


def test_metrics_are_for_the_host_and_only_it_and_the_gateway_listen(host):
    assert "haproxy_backend_status" in host.check_output(
        "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8405/metrics\").read().decode())'"
    )
    with pytest.raises(OSError):
        socket.create_connection((address(host), 8405), 5)
    with pytest.raises(OSError):
        socket.create_connection((address(host), 8080), 5)
