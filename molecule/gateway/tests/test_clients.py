"""The public clients of OpenAI and Ollama, from PyPI, chat and stream through TLS, the certificate proven."""

import json
import subprocess
import sys

import pytest
from _gateway import PORT, address, chat, raw, request, status

testinfra_hosts = ["ssh://gateway-systemd"]
CLIENTS = ["openai>=2", "ollama>=0.6"]
OPENAI = """
import json, sys, httpx, openai
url, certificate, key = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key=key, http_client=httpx.Client(verify=certificate), max_retries=0)
ask = dict(model=client.models.list().data[0].id, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
answer = client.chat.completions.create(**ask)
chunks = list(client.chat.completions.create(stream=True, **ask))
try:
    openai.OpenAI(base_url=url, api_key="x", http_client=httpx.Client(verify=certificate)).models.list()
    refused = ""
except openai.AuthenticationError as error:
    refused = error.code
print(json.dumps({"answer": answer.choices[0].finish_reason, "chunks": len(chunks), "refused": refused}))
"""
OLLAMA = """
import json, sys, ollama
url, certificate, key, model = sys.argv[1:]
client = ollama.Client(host=url, headers={"Authorization": "Bearer " + key}, verify=certificate)
parts = list(client.generate(model=model, prompt="Hi", stream=True))
try:
    client.pull("anything")
    pulled = 200
except ollama.ResponseError as error:
    pulled = error.status_code
print(json.dumps({"parts": len(parts), "text": "".join(part.response or "" for part in parts), "pulled": pulled}))
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory, host):
    """Runs a program with the clients, and with the certificate as it was handed over."""
    directory = tmp_path_factory.mktemp("clients")
    python = directory / "venv/bin/python"
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, directory / "venv"], check=True)
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, *CLIENTS], check=True)
    pem = host.check_output("sudo openssl x509 -in /etc/dsdeploy/gateway/self-signed.pem")
    (directory / "gateway.pem").write_text(pem + "\n", encoding="ascii")
    # What a test before may have put there.
    host.check_output("sudo sh -c 'cat /etc/dsdeploy/gateway/self-signed.pem > /etc/dsdeploy/gateway/certificate.pem'")
    host.check_output("sudo systemctl kill -s USR2 --kill-who=main dsdeploy-gateway && sleep 3")

    def run(program, url, *arguments):
        command = [directory / "venv/bin/python", "-c", program, url, directory / "gateway.pem", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_openai_s_client_chats_and_streams_and_is_told_why_it_is_refused(host, key, client):
    seen = client(OPENAI, f"https://{address(host)}:{PORT}/v1", key)
    assert seen["answer"] in ("length", "stop")
    assert seen["chunks"] > 2
    assert seen["refused"] == "invalid_api_key"


def test_ollama_s_client_streams_and_cannot_pull(host, key, client):
    model = json.dumps({"ttft": 0.1, "gap": 0.05, "tokens": 5, "numbered": True})
    seen = client(OLLAMA, f"https://{address(host)}:{PORT}/ollama", key, model)
    assert seen == {"parts": 6, "text": "0 1 2 3 4 ", "pulled": 404}


def test_ollama_s_client_of_another_host_name_is_answered(host, key):
    # Ollama itself answers 403 to a Host that is not its own.
    asked = request(
        "POST", "/ollama/api/generate", f"Authorization: Bearer {key}", body=chat().replace(b"messages", b"prompt")
    )
    assert status(raw(address(host), asked)) == 200
