# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate that a user brings: what no client would take is refused, each by one line."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import apply, certificate
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from test_gateway_config import want

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
Make = Callable[..., tuple[str, str]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(
        names: tuple[str, ...] = ("llm.example.org",), begin: datetime.datetime = NOW - DAY, days: int = 90
    ) -> tuple[str, str]:
        """The paths of a certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "common.example.org")])
        builder = x509.CertificateBuilder(subject, subject, key.public_key(), 7, begin, begin + days * DAY)
        if names:
            listed = [
                x509.IPAddress(ipaddress.ip_address(name)) if certificate._is_address(name) else x509.DNSName(name)
                for name in names
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
        paths = tmp_path / "given.pem", tmp_path / "given.key"
        paths[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        paths[1].touch(0o600)
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return str(paths[0]), str(paths[1])

    return make


def refused(*arguments: object) -> str:
    with pytest.raises(Failure) as caught:
        certificate.read_given(*arguments)  # type: ignore[arg-type]
    assert caught.value.error_kind == "usage"
    (line,) = caught.value.problems
    assert "\n" not in line
    return line


def test_one_that_clients_take_is_taken(make: Make) -> None:
    pem, key = make(("llm.example.org", "*.gpu.example.org", "10.0.0.1", "fd00::1"))
    names = ["LLM.example.org", "one.gpu.example.org", "10.0.0.1", "FD00:0::1"]
    text = certificate.read_given(pem, key, names)
    assert text.count("BEGIN CERTIFICATE") == text.count("BEGIN PRIVATE KEY") == 1
    assert certificate.is_for(certificate.decoded(make(())[0]), "common.example.org")  # of old: no other names


def test_one_that_is_over_or_has_not_begun(make: Make) -> None:
    pem, key = make(begin=NOW - 100 * DAY)
    assert f"gateway_certificate: {pem}: it expired on " in refused(pem, key, [])
    pem, key = make(begin=NOW + DAY)
    assert f"gateway_certificate: {pem}: it is not valid before " in refused(pem, key, [])


@pytest.mark.parametrize("name", ["llm.example.com", "gpu.example.org", "a.b.gpu.example.org", "10.0.0.2"])
def test_one_for_another_name(make: Make, name: str) -> None:
    pem, key = make(("llm.example.org", "*.gpu.example.org", "10.0.0.1"))
    assert refused(pem, key, ["llm.example.org", name]) == (
        f"gateway_certificate: {pem}: it is for llm.example.org, *.gpu.example.org, 10.0.0.1, "
        f"and not for {name} of gateway_names"
    )


def test_a_key_of_another_and_one_that_everybody_can_read(make: Make, tmp_path: Path) -> None:
    pem, key = make()
    other = tmp_path / "other.pem"
    other.write_text(Path(pem).read_text())
    make()
    assert refused(str(other), key, []) == f"gateway_certificate_key: {key} is not the key of {other}"
    Path(key).chmod(0o644)
    assert refused(pem, key, []) == f"gateway_certificate_key: everybody on the host can read {key} (mode 0644)"
    Path(key).chmod(0o640)
    certificate.read_given(pem, key, [])


def test_files_that_are_cut(make: Make) -> None:
    pem, key = make()
    for path, said in ((key, "gateway_certificate_key: "), (pem, "gateway_certificate")):
        whole = Path(path).read_text()
        Path(path).write_text(whole[:60] + "\n" + whole[-40:])
        assert said in refused(pem, key, [])
        Path(path).write_text(whole)


def test_its_own_names_are_those_by_which_others_come(make: Make) -> None:
    pem, key = make(("*.example.org", "llm.example.org", "localhost"))
    options = {"data_dir": "/d", "replica_key": None, "certificate": pem, "certificate_key": key}
    assert apply.Gateway(want(exposed=True, **options), True, []).names() == ["llm.example.org"]
    assert apply.Gateway(want(exposed=True, names=["a.example.org"], **options), True, []).names() == ["a.example.org"]


def test_secrets_that_somebody_made_readable_are_root_s_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `chmod -R` does, or a copy from a backup; what is there stays."""
    for name in ("PROBE_KEY", "SELF_SIGNED"):
        monkeypatch.setattr(apply, name, str(tmp_path / name))
    monkeypatch.setattr(apply.places, "GATEWAY", str(tmp_path))
    monkeypatch.setattr(apply.keyring, "FILE", str(tmp_path / "keys.json"))

    def configured() -> apply.Gateway:
        options = {"data_dir": "/d", "certificate": None, "certificate_key": None, "user": "u", "replica_key": None}
        found = apply.Gateway(want(names=["llm.example.org"], **options), False, [])
        found._keys()
        found._certificate(None)
        return found

    configured()
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        path.chmod(0o644)
    assert len(configured().desired.changes) == len(before) == 4
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"PROBE_KEY": 0o600, "SELF_SIGNED": 0o600, "keys.json": 0o600, "certificate.pem": 0o640}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    assert configured().desired.changes == []


def test_what_to_do_about_a_certificate_is_said_with_it(make: Make) -> None:
    pem, key = make()
    Path(key).chmod(0o644)
    gateway = apply.Gateway(
        want(data_dir="/d", replicas=[], replica_key=None, certificate=pem, certificate_key=key), True, []
    )
    with pytest.raises(Failure, match="everybody on the host can read") as caught:
        gateway.check()
    assert caught.value.hint.startswith("Restrict it (chmod 600)")
