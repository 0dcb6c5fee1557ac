# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import socket
import ssl
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import chat as chat_api
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import (
    Endpoint,
    EngineFailure,
    ask,
    chat_request,
    explain_status,
    judge,
    list_models,
    wait_healthy,
)

sys.path.append(str(Path(__file__).resolve().parents[4] / "standins"))
from standin_chat_server import NGINX_404, StandinChatServer

ENGINES = ["llama.cpp", "vllm", "ollama"]


def api_of(engine):
    return "ollama" if engine == "ollama" else "openai"


def health_of(engine):
    return chat_api.HEALTH_PATHS[api_of(engine)]


def probe(server, timeout=5.0, **options):
    return ask(Endpoint(server.url, server.api_key), api_of(server.engine), "q?", timeout, **options)


def failure(server, timeout=5.0, **options):
    with pytest.raises(EngineFailure) as caught:
        probe(server, timeout, **options)
    assert "\n" not in str(caught.value)
    return caught.value


# --- the good case


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("chunk_bytes", [None, 5])
@pytest.mark.parametrize("engine", ENGINES)
def test_answer(engine, chunk_bytes, close):
    deltas = [("content", text) for text in ("<thi", "nk>\n乞?", "</th", "ink>\n", "\n杚", "。")]
    with StandinChatServer(engine, deltas, chunk_bytes=chunk_bytes, close=close, delay=0.005) as server:
        result = probe(server, system="Be brief.", max_tokens=99, temperature=0.0)
    assert (result["answer"], result["reasoning"]) == ("杚。", "乞?")
    assert (result["model"], result["finish_reason"]) == ("deepseek-r1", "stop")
    assert result["usage"]["completion_tokens"] == 6
    assert 0 < result["ttft_s"] < 60
    source = {"llama.cpp": "timings", "vllm": "usage", "ollama": "eval_duration"}[engine]
    assert result["tokens_per_s_source"] == source
    if engine == "vllm":
        assert result["tokens_per_s"] > 0  # how many, the machine decides; test_chat_stream.py has a clock of its own
    else:
        assert result["tokens_per_s"] == {"llama.cpp": 50.0, "ollama": 40.0}[engine]


@pytest.mark.parametrize(("engine", "field"), [("vllm", "reasoning"), ("vllm", "reasoning_content"), ("ollama", "")])
def test_separated_reasoning(engine, field):
    with StandinChatServer(engine, [("reasoning", "hm"), ("content", "杚")], reasoning_field=field) as server:
        result = probe(server)
    assert (result["answer"], result["reasoning"]) == ("杚", "hm")


def test_without_usage_there_is_no_speed():
    with StandinChatServer(deltas=[("content", "a"), ("content", "b")], usage=False) as server:
        result = probe(server)
    assert (result["answer"], result["usage"], result["tokens_per_s"]) == ("ab", None, None)


def test_requests_are_what_the_apis_define():
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "q?"}]
    assert chat_request("openai", "m", "q?", "s", 9, 0.0) == {
        "model": "m",
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "temperature": 0.0,
    }
    assert chat_request("ollama", "m", "q?", "s", 9, 0.0) == {
        "model": "m",
        "messages": messages,
        "stream": True,
        "options": {"num_predict": 9, "temperature": 0.0},
    }
    assert "temperature" not in chat_request("openai", "m", "q?", None, None, None)
    assert chat_request("openai", "m", "q?", None, None, None)["messages"] == messages[1:]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_base_url_with_and_without_v1(suffix):
    with StandinChatServer() as server:
        assert list_models(Endpoint(server.url + suffix), "openai") == ["deepseek-r1"]


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "http://[::1", "http://host/?a=1", ""],
)
def test_what_is_no_base_url(url):
    with pytest.raises(ValueError, match="is not a base URL such as"):
        Endpoint(url)


def test_secrets_do_not_belong_into_the_url_and_keys_have_no_line_breaks():
    with pytest.raises(ValueError, match="use api_key"):
        Endpoint("http://user:s3cret@host")
    with pytest.raises(ValueError, match="line break") as caught:
        Endpoint("http://host", "s3cret\nX: y")
    assert "s3cret" not in str(caught.value)


# --- waiting for health


@pytest.mark.parametrize("engine", ENGINES)
def test_healthy_at_once(engine):
    with StandinChatServer(engine) as server:
        assert wait_healthy(Endpoint(server.url), health_of(engine), 5) < 2


def test_loading_counts_as_alive_and_is_reported():
    seen = []
    with StandinChatServer("llama.cpp", loading_replies=3) as server:
        waited = wait_healthy(Endpoint(server.url), "/health", 10, on_wait=lambda *args: seen.append(args))
    assert 0.7 < waited < 8
    assert len(seen) == 3
    elapsed, deadline, state = seen[-1]
    assert deadline == 10 and 0.4 < elapsed < waited
    assert state.endswith("/health: HTTP 503: Loading model")


def test_loading_until_the_deadline():
    with StandinChatServer("llama.cpp", loading_replies=1000) as server:
        with pytest.raises(EngineFailure, match="not healthy within 1 s: GET .*HTTP 503: Loading model") as caught:
            wait_healthy(Endpoint(server.url), "/health", 1)
    assert "Raise health_timeout" in caught.value.hint


def test_refused_until_the_deadline():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(EngineFailure, match="not healthy within 1 s: .*connection refused") as caught:
            wait_healthy(Endpoint(url), "/health", 1)
    assert 1 <= time.monotonic() - started < 15
    assert "Nothing listens there" in caught.value.hint


def test_a_server_that_comes_up_late():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    calls = []

    def start_on_second_call(*_args):
        calls.append(1)
        if len(calls) == 2:
            server.httpd = type(server.httpd)(("127.0.0.1", port), server.httpd.RequestHandlerClass)
            server.__enter__()

    server = StandinChatServer()
    server.httpd.server_close()
    wait_healthy(Endpoint(f"http://127.0.0.1:{port}"), "/health", 10, on_wait=start_on_second_call)
    server.__exit__()
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("settings", "path", "message", "hint"),
    [
        ({"fault": "html"}, "/health", "a web page, not an engine", "Another program listens"),
        ({"fault": "garbage"}, "/health", "the server does not speak HTTP", "Another program listens"),
        ({"fault": "redirect"}, "/health", "HTTP 308", "redirects elsewhere"),
        ({}, "/healthz", "HTTP 404 with an HTML page", "Set health_path"),
        ({"api_key": "k"}, "/v1/models", "HTTP 401", "wants an API key"),
    ],
)
def test_what_waiting_cannot_cure_fails_at_once(settings, path, message, hint):
    started = time.monotonic()
    with StandinChatServer(**settings) as server:
        with pytest.raises(EngineFailure) as caught:
            wait_healthy(Endpoint(server.url), path, 60)
    assert time.monotonic() - started < 10
    assert message in str(caught.value) and hint in caught.value.hint
    assert not caught.value.retry


def test_a_server_that_accepts_and_never_answers_is_waited_for(monkeypatch):
    monkeypatch.setattr(chat_api, "HTTP_TIMEOUT", 1.0)
    with StandinChatServer(fault="hang") as server:
        with pytest.raises(EngineFailure, match="not healthy within 2 s: .*no answer within 1 s"):
            wait_healthy(Endpoint(server.url), "/health", 2)


def test_a_dead_service_ends_the_wait():
    def dead():
        raise EngineFailure("x: the service is failed: exit status 3", "hint")

    started = time.monotonic()
    with pytest.raises(EngineFailure, match="exit status 3; GET .*connection refused"):
        wait_healthy(Endpoint("http://127.0.0.1:9"), "/health", 60, dead)
    assert time.monotonic() - started < 15


def test_another_program_on_the_port_is_not_the_service():
    looks = []

    def restarting():
        looks.append(1)
        if len(looks) < 3:
            raise EngineFailure("x: the service is activating (auto-restart)", retry=True)

    with StandinChatServer() as server:
        wait_healthy(Endpoint(server.url), "/health", 20, restarting)
    assert len(looks) == 3


# --- answers that fail


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("fault", ["cut", "cut_line", "reset"])
def test_cut_streams(engine, fault, close):
    with StandinChatServer(engine, [("content", "half"), ("content", "whole")], fault=fault, close=close) as server:
        error = failure(server)
    # A connection that dies inside a chunked body is seen by HTTP, any other by the missing end of the stream.
    dead = fault == "reset" and not close
    assert ("cut in the middle of the response" if dead else "the stream was cut after 4 characters") in str(error)
    assert error.result["answer"] == "half"
    assert error.result["model"] == "deepseek-r1"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("malformed", "malformed stream: not JSON"),
        ("no_choices", "malformed stream: "),
        ("error_in_stream", "the engine reports: "),
        ("overloaded", "HTTP 500: CUDA out of memory"),
        ("not_a_stream", "not a stream but application/json"),
        ("html", "not a list of models: <!DOCTYPE html>"),
        ("garbage", "does not speak HTTP"),
        ("bad_models", 'not a list of models: {"hello": "world"}'),
    ],
)
def test_faults(engine, fault, message):
    with StandinChatServer(engine, [("content", "a"), ("content", "b")], fault=fault) as server:
        assert message in str(failure(server))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stalled_stream_ends_at_the_time_out(engine):
    started = time.monotonic()
    with StandinChatServer(engine, [("content", "half"), ("content", "whole")], fault="stall") as server:
        error = failure(server, 1.0)
    assert 0.9 < time.monotonic() - started < 15
    assert "the answer was not complete within 1 s (4 characters so far)" in str(error)
    assert "answer_timeout" in error.hint
    assert error.result["answer"] == "half"


def test_a_slow_stream_ends_at_the_time_out_too():
    with StandinChatServer(deltas=[("content", "x")] * 100, delay=0.1) as server:
        started = time.monotonic()
        assert "was not complete within 1 s" in str(failure(server, 1.0))
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("engine", ENGINES)
def test_keys(engine):
    with StandinChatServer(engine, api_key="sk-right") as server:
        assert probe(server)["answer"] == "杚"
        for key, hint in ((None, "wants an API key"), ("sk-wrong", "refuses this API key")):
            with pytest.raises(EngineFailure, match="HTTP 401") as caught:
                ask(Endpoint(server.url, key), api_of(engine), "q?", 5)
            assert hint in caught.value.hint
            with pytest.raises(EngineFailure, match="HTTP 401"):
                ask(Endpoint(server.url, key), api_of(engine), "q?", 5, model="deepseek-r1")


@pytest.mark.parametrize("engine", ["vllm", "ollama"])
def test_unknown_model(engine):
    with StandinChatServer(engine, models=["r1", "v3"]) as server:
        error = failure(server, model="r2")
    assert "HTTP 404: " in str(error) and "r2" in str(error)
    assert error.hint == "Asked for model 'r2'; served there: r1, v3."


@pytest.mark.parametrize("engine", ENGINES)
def test_no_model(engine):
    with StandinChatServer(engine, models=[]) as server:
        assert "serves no model" in str(failure(server))


def test_statuses():
    assert explain_status(502, "text/html", NGINX_404, False) == ("HTTP 502 with an HTML page", "", True)
    assert explain_status(429, "application/json", b'{"error": "busy"}', False) == ("HTTP 429: busy", "", True)
    text, _hint, retry = explain_status(400, "text/plain", b"gzip is not\nsupported", False)
    assert (text, retry) == ("HTTP 400: gzip is not supported", False)


@pytest.mark.parametrize(
    ("answer", "reasoning", "finish", "expect", "message", "hint"),
    [
        ("杚", "", "stop", None, None, None),
        ("这个字是杚。", "", "stop", "杚", None, None),
        ("", "", "stop", None, "the answer is empty", "chat template"),
        ("", "a long thought", "length", None, "reasoned (14 characters) but gave no answer", "max_tokens"),
        ("", "a long thought", "stop", "杚", "reasoned (14 characters) but gave no answer", "max_tokens"),
        ("枫", "is it 杚?", "stop", "杚", "does not match /杚/: 枫", "right model"),
        ("The answer", "", "length", "杚", "does not match", "max_tokens"),
    ],
)
def test_judge(answer, reasoning, finish, expect, message, hint):
    verdict = judge({"answer": answer, "reasoning": reasoning, "finish_reason": finish}, expect)
    if message is None:
        assert verdict is None
    else:
        assert message in verdict[0] and hint in verdict[1]


# --- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """(CA file, server's key and certificate file), as made by an admin with two openssl commands: the certificate
    for 127.0.0.1 has no authority key identifier, which Python 3.13 refuses by default."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def make(name, issuer, issuer_key, key, *extensions):
        names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (issuer, name)]
        start = datetime.datetime(2020, 1, 1)
        builder = x509.CertificateBuilder(*names, key.public_key(), len(name), start, start.replace(year=2120))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    ca, server = tmp_path_factory.mktemp("tls") / "ca.pem", tmp_path_factory.mktemp("tls") / "server.pem"
    ca.write_bytes(make("standin-ca", "standin-ca", ca_key, ca_key, x509.BasicConstraints(True, None)))
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    server.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none)
        + make("standin", "standin-ca", ca_key, key, address)
    )
    return str(ca), str(server)


@pytest.fixture
def tls_server(certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates[1])
    with StandinChatServer(tls=context) as server:
        yield server


@pytest.mark.parametrize("close", [False, True])
def test_tls_with_its_ca_or_without_validation(tls_server, certificates, close):
    tls_server.close = close
    for trust in ({"ca_path": certificates[0]}, {"validate_certs": False}):
        endpoint = Endpoint(tls_server.url, **trust)
        wait_healthy(endpoint, "/health", 5)
        assert ask(endpoint, "openai", "q?", 5)["answer"] == "杚"


def test_tls_stall_ends_at_the_time_out(tls_server):
    tls_server.deltas, tls_server.fault, tls_server.close = [("content", "a"), ("content", "b")], "stall", True
    with pytest.raises(EngineFailure, match="not complete within 1 s"):
        ask(Endpoint(tls_server.url, validate_certs=False), "openai", "q?", 1.0)


def test_tls_faults_fail_at_once(tls_server, certificates):
    for url, trust, message, hint in (
        (tls_server.url, {}, "TLS: unable to get local issuer certificate", "ca_path"),
        (
            tls_server.url.replace("127.0.0.1", "localhost"),
            {"ca_path": certificates[0]},
            "TLS: Hostname mismatch",
            "url",
        ),
    ):
        with pytest.raises(EngineFailure, match=message) as caught:
            wait_healthy(Endpoint(url, **trust), "/health", 60)
        assert hint in caught.value.hint


def test_https_asked_of_a_plain_server():
    with StandinChatServer() as server:
        with pytest.raises(EngineFailure, match="the server does not speak TLS") as caught:
            wait_healthy(Endpoint(server.url.replace("http:", "https:")), "/health", 60)
    assert caught.value.hint == "Use http:// in url."


def test_plain_asked_of_a_tls_server(tls_server):
    with pytest.raises(EngineFailure, match="closed without an answer") as caught:
        wait_healthy(Endpoint(tls_server.url.replace("https:", "http:")), "/health", 1)
    assert "https://" in caught.value.hint
