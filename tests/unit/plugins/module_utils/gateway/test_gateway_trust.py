# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a gateway sends requests, and the engine's key: who proves the name that is known of him."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import certificate, config, trust
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from test_gateway_config import pool, want

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
# Of an authority, to the year 2126.
OTHER = """-----BEGIN CERTIFICATE-----
MIIBgDCCASWgAwIBAgIUYbUL6EeoQyM8ZMW+3CP9xZYk5EwwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJYXV0aG9yaXR5MCAXDTI2MTEyODA2MTMwMloYDzIxMjYxMTA0
MDYxMzAyWjAUMRIwEAYDVQQDDAlhdXRob3JpdHkwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATvhQbg4XqstbrAJQaeKYJiOX7iikcdUt4RhxbGxaDWeq/5sfpCOuCc
Vyvu6meOx67yQd4oiElgk96mMDPNQ5/co1MwUTAdBgNVHQ4EFgQUly7lr0Z9Uvwb
JAV9WCWuHP3hXIUwHwYDVR0jBBgwFoAUly7lr0Z9UvwbJAV9WCWuHP3hXIUwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAvsomV+9ZEY8AY7QLC3mg
QAbHvgTdE1AnVCjBXvpsJf4CIQCwvexrI7ErK8wJz+muF+rr2JUxurcOrGMj6+Pg
eDMlpQ==
-----END CERTIFICATE-----
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The gateway's directory, in which the tests are at home."""
    monkeypatch.setattr(trust.places, "CONFIG", str(tmp_path))
    monkeypatch.setattr(trust.places, "GATEWAY", str(tmp_path))
    monkeypatch.setattr(trust, "OWN", str(tmp_path / "replica-own.pem"))
    monkeypatch.setattr(trust, "SERVED", str(tmp_path / "replica.pem"))
    monkeypatch.setattr(trust, "KNOWN", str(tmp_path / "replicas"))
    monkeypatch.setattr(Desired, "directory", lambda self, path, *_rights, **_more: Path(path).mkdir(exist_ok=True))
    monkeypatch.setattr(Desired, "file", lambda self, path, text, *_rights, **_more: _write(self, Path(path), text))
    return tmp_path


def _write(desired: Desired, path: Path, text: str) -> bool:
    changed = not path.exists() or path.read_text() != text
    if changed:
        desired.change(f"write {path.name}", lambda: path.write_text(text))
    return changed


def peer(**more: Any) -> dict[str, Any]:
    return {"name": "gpu2", "engine": "vllm", "host": "10.0.0.2", "port": 8443, "tls": True, **more}


KNOWN = peer(server_name="gpu2.replica.dsdeploy.internal", ca_file="/etc/dsdeploy/gateway/replicas/gpu2.pem")


def servers(replicas: list[dict[str, Any]], **more: Any) -> list[str]:
    text = config.render(want(pools=[pool(replicas=[*pool()["replicas"], *replicas])], **more))
    return re.findall(r"^  server (\S+ .+)", text, re.M)


def test_a_replica_on_another_host_proves_its_name_and_its_certificate() -> None:
    line = servers([KNOWN])[1]
    assert line == (
        "gpu2 10.0.0.2:8443 ssl verify required ca-file '/etc/dsdeploy/gateway/replicas/gpu2.pem' "
        "sni str(gpu2.replica.dsdeploy.internal) check-sni gpu2.replica.dsdeploy.internal maxconn 60"
    )
    named = peer(host="llm2.example.org", ca_file="/x.pem")
    assert "sni str(llm2.example.org) check-sni llm2.example.org" in servers([named])[1]
    # The engine of this very host has no name to prove over loopback.
    own = dict(pool()["replicas"][0], tls=True, own=True)
    assert "ssl verify none" in config.render(want(pools=[pool(replicas=[own])]))
    assert "verify none" not in config.render(want(pools=[pool(replicas=[*pool()["replicas"], KNOWN])]))
    with pytest.raises(KeyError):
        servers([peer(server_name="gpu2.example.org")])  # nothing to tell it by: no line without it


def test_other_gateways_are_shown_a_certificate_of_their_own() -> None:
    text = config.render(want(own_certificate="/etc/dsdeploy/gateway/replica.pem"))
    assert "ssl crt '/etc/dsdeploy/gateway/certificate.pem' crt '/etc/dsdeploy/gateway/replica.pem' alpn" in text
    assert "replica.pem" not in config.render(want())


@pytest.mark.parametrize(
    ("replica", "said"),
    [
        (peer(), "gateway_replicas: gpu2: server_name is missing: HAProxy compares a certificate's names"),
        (peer(server_name="10.0.0.2"), "gpu2: server_name is missing"),
        (peer(server_name="a b) verify none"), "gpu2: server_name: 'a b) verify none' is not a host name"),
        (peer(host="x y"), "gpu2: host: 'x y' is neither a host name nor an address"),
        (peer(tls=False, ca_file="/x.pem"), "gpu2: ca_file and server_name are of a replica that speaks TLS"),
        (peer(port=0, server_name="a"), "gpu2: port: 0 is not a port"),
        (peer(name="a b", server_name="a"), "'a b' is not a replica's name"),
    ],
)
def test_a_replica_that_cannot_be_told_from_others_is_refused_by_name(replica: dict[str, Any], said: str) -> None:
    assert any(said in line for line in config.problems(want(replicas=[replica])))
    assert config.problems(want(replicas=[KNOWN, peer(tls=False), peer(host="llm2.example.org")])) == []


def test_its_own_certificate_is_made_once_and_again_only_where_all_hear_of_it(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def make(names: list[str], _directory: str, days: int, loopback: bool) -> str:
        assert (names, loopback) == (["gpu1.replica.dsdeploy.internal"], False)
        made.append(days)
        return PEM + "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"

    left = {"days": 3650}
    monkeypatch.setattr(certificate, "make", make)
    monkeypatch.setattr(
        certificate, "days_left", lambda path, names, loopback: left["days"] if Path(path).exists() else -1
    )
    check = Desired(True)
    assert trust.own_certificate(check, "GPU1", True) == {"certificate": "", "ends_soon": False}
    assert check.changes == ["make the certificate by which other replicas know this gateway"]
    assert made == []
    found = trust.own_certificate(Desired(), "GPU1", False)
    assert found == {"certificate": PEM, "ends_soon": False}  # its key stays
    assert "PRIVATE KEY" in Path(trust.OWN).read_text()
    for days, renew, count, soon in ((400, True, 1, False), (300, False, 1, False), (20, False, 1, True)):
        left["days"] = days
        assert trust.own_certificate(Desired(), "GPU1", renew)["ends_soon"] is soon
        assert len(made) == count
    # The gateway shows the old one until its turn: the others take both until then.
    Path(trust.SERVED).write_text(OTHER + "-----BEGIN PRIVATE KEY-----\nold\n-----END PRIVATE KEY-----\n")
    assert trust.own_certificate(Desired(), "GPU1", True)["certificate"] == PEM + OTHER
    assert made == [3650, 3650]
    left["days"] = 3650
    assert trust.own_certificate(Desired(), "GPU1", True)["certificate"] == PEM + OTHER
    Path(trust.SERVED).write_text(Path(trust.OWN).read_text())
    assert trust.own_certificate(Desired(), "GPU1", True)["certificate"] == PEM


def test_what_is_known_is_kept_apart_by_replica_and_goes_with_it(places: Path) -> None:
    desired = Desired()
    assert trust.know(desired, {"gpu2": PEM, "gpu3": OTHER})
    assert not trust.know(desired, {"gpu2": PEM})
    assert (places / "replicas/gpu2.pem").read_text() == PEM
    known = [
        dict(KNOWN, ca_file=trust.known_file("gpu2")),
        dict(KNOWN, name="gpu4", ca_file=trust.known_file("gpu4")),
        peer(name="far", ca_file=str(places / "authority.pem")),
        peer(name="plain", tls=False),
    ]
    (places / "authority.pem").write_text(OTHER)
    found = trust.settle(desired, known)
    # Of gpu4 nothing is known: it is left out, and named. gpu3 is no replica any more.
    assert [one["name"] for one in found["replicas"]] == ["gpu2", "far", "plain"]
    assert (found["unknown"], found["changed"]) == (["gpu4"], True)
    assert sorted(path.name for path in (places / "replicas").iterdir()) == ["far.pem", "gpu2.pem"]
    assert found["replicas"][1]["ca_file"] == trust.known_file("far")
    assert not trust.settle(desired, known)["changed"]


def test_without_a_file_it_is_the_host_s_own_list_of_authorities(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "SYSTEM", ("/nonexistent", str(places / "list.crt")))
    with pytest.raises(Failure, match="has no list of certificate authorities"):
        trust.settle(Desired(), [peer(host="llm2.example.org")])
    (places / "list.crt").write_text(OTHER)
    found = trust.settle(Desired(), [peer(host="llm2.example.org")])
    assert found["replicas"][0]["ca_file"] == str(places / "list.crt")


@pytest.mark.parametrize(
    "content", [None, b"", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n"]
)
def test_a_file_that_is_no_authority_is_refused_by_name(places: Path, content: bytes | None) -> None:
    path = places / "own-ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Failure, match=f"gateway_replicas: ca_file of far: {path}: "):
        trust.read_authority("far", str(path))
