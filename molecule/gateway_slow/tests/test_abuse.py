"""Slow, idle and huge clients: they are refused, the engine hears nothing of them, and others are served meanwhile."""

import json
import socket
import ssl
import time

import pytest
from _gateway import PORT, address, bearer, raw, request, status

IDLE = 10_000
CHAT = "/v1/chat/completions"


def served(host, seconds=5.0):
    """Whether another client, on the host itself, is answered."""
    program = (
        "import ssl, urllib.request as u; c = ssl._create_unverified_context(); "
        f"print(u.urlopen('https://127.0.0.1:{PORT}/health', context=c, timeout={seconds}).status)"
    )
    return host.run("python3 -c %s", program).stdout.strip() == "200"


def engine_log(host):
    return host.check_output("sudo journalctl -u dsdeploy-llama-cpp --no-pager | wc -l")


def wrapped(where):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection((where, PORT), 20))


def test_ten_thousand_idle_connections_of_one_address_are_closed_and_others_are_served(host):
    where, opened = address(host), []
    try:
        for _number in range(IDLE):
            channel = socket.socket()
            channel.setblocking(False)
            channel.connect_ex((where, PORT))
            opened.append(channel)
        time.sleep(2)
        assert served(host)
        # Of one address no more than its share is kept.
        shown = host.check_output("ss -Htn state established 'sport = :8443' | wc -l")
        assert int(shown) <= 1100
    finally:
        for channel in opened:
            channel.close()


def test_headers_and_bodies_that_trickle_in_are_cut_by_the_time_limit(host, key):
    where, before = address(host), engine_log(host)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: gateway\r\n{bearer(key)}\r\n".encode()
    slow = [(wrapped(where), head[:40]) for _number in range(100)]
    slow += [(wrapped(where), head + b"Content-Length: 5000\r\n\r\n{") for _number in range(100)]
    for channel, data in slow:
        channel.sendall(data)
    began = time.monotonic()
    assert served(host)
    said = []
    for channel, _data in slow:
        try:
            said.append(status(channel.recv(4096)))
        except OSError:
            said.append(0)
        channel.close()
    assert time.monotonic() - began < 30
    assert set(said) <= {0, 408} and said.count(408) >= 150, said
    assert engine_log(host) == before


def test_a_gibibyte_is_refused_at_once_and_is_not_read(host, key):
    where = address(host)
    with wrapped(where) as channel:
        channel.sendall(request("POST", CHAT, bearer(key), "Content-Length: 1073741824"))
        sent, block = 0, b" " * 1_000_000
        try:
            while sent < 1 << 30:
                channel.sendall(block)
                sent += len(block)
        except OSError:
            pass
        assert sent < 64_000_000
    assert served(host)


def test_a_thousand_header_bombs_leave_it_as_it_was(host, key):
    where = address(host)
    for number in range(200):
        raw(where, request("GET", "/v1/models", bearer(key), *(f"x-{number}-{n}: {'y' * 200}" for n in range(400))), 5)
    assert served(host)
    memory = host.check_output("systemctl show -p MemoryCurrent --value dsdeploy-gateway")
    assert memory == "[not set]" or int(memory) < 1 << 30
    assert status(raw(where, request("GET", "/v1/models", bearer(key)))) == 200


@pytest.mark.parametrize(
    "body", [b"\xff\xfe\x00", b'{"messages": "\xed\xa0\x80"}', b"{" * 60_000, b"[" * 60_000 + b"]"]
)
def test_a_body_that_is_no_text_or_no_json_is_the_engine_s_to_refuse_and_it_lives(host, key, body):
    pid = host.check_output("systemctl show -p MainPID --value dsdeploy-llama-cpp")
    assert status(raw(address(host), request("POST", CHAT, bearer(key), body=body), 60)) in (400, 500)
    question = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}).encode()
    assert status(raw(address(host), request("POST", CHAT, bearer(key), body=question), 60)) == 200
    assert host.check_output("systemctl show -p MainPID --value dsdeploy-llama-cpp") == pid
