"""The last: nothing is left of it, its copy of the model among it."""

import json

import pytest
from _ollama import MODEL, SERVICE
from _play import play


@pytest.fixture(scope="session")
def purged():
    """Both hosts at once."""
    play(None, "down", "-e", json.dumps({"dsdeploy_purge": True, "dsdeploy_purge_models": [MODEL]}))


def test_purge(host, purged):
    assert not host.socket("tcp://127.0.0.1:11434").is_listening
    for path in ("/opt/dsdeploy/ollama", "/data/ollama/env", "/etc/dsdeploy/deployments/ollama.json"):
        assert not host.file(path).exists
    assert not host.user(SERVICE).exists
    assert not host.file(f"/etc/systemd/system/{SERVICE}.service").exists
    assert not host.file(f"/var/lib/dsdeploy/models/{MODEL}").exists
    assert host.check_output("sudo find /data/ollama/models -size +10M") == ""
