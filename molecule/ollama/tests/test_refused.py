"""What is refused before anything is done, on one host."""

from _play import deploy

testinfra_hosts = ["ssh://ollama-systemd"]


def test_what_is_refused_before_anything_is_done(host):
    refused = {"ollama_version": "0.5.11", "ollama_host": "0.0.0.0", "ollama_sha256": "", "ollama_cloud": True}
    said = deploy(host, fails=True, **refused, dsdeploy_mirrors={"air_gapped": True})
    assert "CVE-2026-7482" in said
    assert "has no API keys" in said
    assert "/v0.5.11/sha256sum.txt and set ollama_sha256" in said
    assert "Ollama's cloud is on (ollama_cloud, OLLAMA_NO_CLOUD), but dsdeploy_mirrors.air_gapped is set" in said
