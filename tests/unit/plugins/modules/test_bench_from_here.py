# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module bench from another machine: over TLS, to the very certificate that the record tells of."""

import datetime
import hashlib
import http.server
import json
import ssl
import threading

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import remote
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

EVENT = b'data: {"choices": [{"index": 0, "text": "a"}]}\n\n'
END = b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}\n\ndata: [DONE]\n\n'


def certificate(directory, signed_by_another):
    """(PEM file with its key, SHA-256 as openssl shows it); for a name that no test asks for."""
    key, authority = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in ("authority", "llm.example")]
    start = datetime.datetime(2020, 1, 1)
    issuer = names[0] if signed_by_another else names[1]
    builder = x509.CertificateBuilder(issuer, names[1], key.public_key(), 7, start, start.replace(year=2120))
    made = builder.sign(authority if signed_by_another else key, hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "server.pem"
    path.write_bytes(pem)
    digest = hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest().upper()
    return path, ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        allowed = self.headers.get("Authorization") == "Bearer client-key" and self.path == "/llm/v1/completions"
        body = EVENT * 2 + END if allowed else b"{}"
        self.send_response(200 if allowed else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@pytest.fixture(params=[False, True], ids=["self-signed", "signed by another"])
def served(request, tmp_path):
    """(record of a deployment behind a gateway, what its server has been asked)."""
    path, fingerprint = certificate(tmp_path, request.param)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    record = {
        "engine": "vllm", "version": "1", "model": "m", "api": "openai", "endpoint": "http://127.0.0.1:1",
        "public_endpoint": f"https://127.0.0.1:{server.server_address[1]}/llm", "fingerprint": fingerprint,
        "api_key_file": "/etc/dsdeploy/keys/none-here",
    }  # fmt: skip
    yield record, server.seen
    server.shutdown()
    server.server_close()


@pytest.fixture
def bench(run_module, tmp_path):
    key = tmp_path / "client.key"
    key.write_text("client-key\n")
    ours = {"lock": str(tmp_path / "lock"), "key_file": str(key), "from_here": True, "concurrency": [2]}
    return lambda **options: run_module("bench", **{**ours, "output_tokens": 2, **options})


def test_it_is_measured_through_the_gateway_with_a_client_s_key(bench, served):
    record, seen = served
    result = bench(record=record)
    found = result["bench"]
    assert (found["points"][0]["completed"], found["points"][0]["total_output_tokens"]) == (20, 40)
    assert {key for _path, key in seen} == {"Bearer client-key"}
    environment = found["environment"]
    assert environment["measured_from"] == "another host, through the gateway"
    # Nothing of this machine is told as if it were the one that serves.
    assert [environment[name] for name in ("gpus", "driver", "served", "model")] == [None] * 4
    assert "client-key" not in result["printed"]


def test_another_certificate_gets_nothing(bench, served):
    record, seen = served
    result = bench(record=dict(record, fingerprint="00:" * 31 + "00"))
    assert result["failed"] and "shows another certificate than the one that was deployed" in result["msg"]
    assert result["error_kind"] == "verify" and seen == []


def test_what_cannot_be_meant_is_refused(bench, served):
    record, _seen = served
    assert "wants the key of a client" in bench(record=record, key_file=None)["msg"]
    assert "against" in bench(record=record, against="vllm")["msg"]
    assert "cannot be reached from here" in bench(record=dict(record, public_endpoint="https://127.0.0.1:1"))["msg"]
    assert "key_file" in bench(record=record, key_file="/nonexistent/key")["msg"]


@pytest.mark.parametrize(
    ("record", "has_key", "said"),
    [
        ({"endpoint": "http://127.0.0.1:8000"}, False, "http://127.0.0.1:8000 is reached from its host alone"),
        ({"endpoint": "http://[::1]:8000"}, False, "is reached from its host alone"),
        ({"endpoint": "http://10.0.0.1:8000"}, True, "the key would go over the network in the clear"),
        ({"endpoint": "http://[::"}, True, "is reached from its host alone"),
        ({}, True, "vllm at no URL is reached from its host alone"),
    ],
)
def test_no_way_leads_to_loopback_or_in_the_clear(record, has_key, said):
    with pytest.raises(Failure) as caught:
        remote.way_to({"engine": "vllm", **record}, has_key)
    assert said in str(caught.value)
    assert caught.value.error_kind == "usage"


def test_the_gateway_comes_before_the_engine_s_own_address():
    record = {"engine": "vllm", "endpoint": "https://10.0.0.1:8000", "public_endpoint": None}
    assert remote.way_to(record, True) == ("https://10.0.0.1:8000", "engine", "")
    record.update(public_endpoint="https://10.0.0.1:8443/vllm", fingerprint="AB")
    assert remote.way_to(record, True) == ("https://10.0.0.1:8443/vllm", "gateway", "AB")
    assert json.dumps(remote.way_to(dict(record, fingerprint=None), True)[2]) == '""'
