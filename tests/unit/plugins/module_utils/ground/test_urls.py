"""The URL at which a host asks its own server, and what it may be called."""

from __future__ import annotations

import pytest
from ansible_collections.dsdeploy.llm.plugins.filter.urls import FilterModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import Endpoint
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import (
    base_url,
    has_userinfo,
    host_port,
    is_loopback,
    secrets_in,
)


@pytest.mark.parametrize(
    "host, tls, url",
    [
        ("127.0.0.1", False, "http://127.0.0.1:8080"),
        ("::1", False, "http://[::1]:8080"),
        ("fd00::7", True, "https://[fd00::7]:8080"),
        ("0.0.0.0", True, "https://127.0.0.1:8080"),
        ("::", False, "http://[::1]:8080"),
        ("gpu1.example.org", False, "http://gpu1.example.org:8080"),
    ],
)
def test_a_server_is_asked_where_it_listens(host, tls, url):
    assert base_url(host, "8080", tls) == url
    assert FilterModule().filters()["base_url"](host, 8080, tls) == url


@pytest.mark.parametrize("host", ["::1", "127.0.0.1", "localhost"])
def test_the_url_is_one_that_the_probe_takes(host):
    endpoint = Endpoint(base_url(host, 8080))
    assert (endpoint.host, endpoint.port) == (host, 8080)


def test_an_address_with_its_port():
    assert host_port("::1", 11434) == "[::1]:11434"
    assert host_port("127.0.0.1", "11434") == "127.0.0.1:11434"


def test_loopback():
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost", "LOCALHOST"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "fd00::7", "localhost.example.org", ""))


def test_secrets_of_urls_wherever_they_stand():
    said = {
        "index": "https://me:p%40ss@index.example/simple",
        "list": ["x", {"y": "see http://tok-1@h/ and ftp://u:two@three@h"}],
        "none": ["https://h/@x", "https://h?x=a:b@c", "me@example.org", "git@host:path", 5, None],
    }
    assert secrets_in(said) == {"p%40ss", "p@ss", "tok-1", "two@three"}
    assert has_userinfo("https://me@h") and not has_userinfo("https://h/a@b")
    assert secrets_in("https://me:@h", "https://:@h") == set()
