# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's certificate: one that is given, or a self-signed one made on the host."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import ssl
import tempfile
import time
from typing import List, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import run

DAYS = 825  # the longest that Apple's clients take
RENEW_DAYS = 30  # a self-signed one is made anew when it has less than this left
TIMEOUT = 60.0  # s
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.S)


def fingerprint(pem: str) -> str:
    """SHA-256 of the first certificate in a PEM text, as browsers and openssl show it."""
    found = _CERTIFICATE.search(pem)
    if not found:
        raise Failure("there is no certificate (BEGIN CERTIFICATE) in it", error_kind="usage")
    try:
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(found.group())).hexdigest().upper()
    except ValueError as error:
        raise Failure("the certificate cannot be read: %s" % error, error_kind="usage") from None
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def read_given(certificate: str, key: str) -> str:
    """Certificate with chain and key, as one text. Failure where one of them is none."""
    texts = []
    for variable, path in (("gateway_certificate", certificate), ("gateway_certificate_key", key)):
        try:
            with open(path, encoding="ascii") as handle:
                texts.append(handle.read().strip() + "\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a PEM file"
            raise Failure("%s: %s: %s" % (variable, path, reason), error_kind="usage") from None
    chain = "".join(_CERTIFICATE.findall(texts[0]))
    try:
        fingerprint(chain)
    except Failure as failure:
        raise Failure("gateway_certificate: %s: %s" % (certificate, failure), error_kind="usage") from None
    if "PRIVATE KEY-----" not in texts[1]:
        raise Failure(
            "gateway_certificate_key: %s: there is no private key in it" % key,
            hint="Give a PEM file with the key of the certificate.",
            error_kind="usage",
        )
    if "ENCRYPTED" in texts[1]:
        raise Failure(
            "gateway_certificate_key: %s has a passphrase, and nobody is there to type it" % key,
            hint="Take it off: openssl pkey -in KEY -out PLAIN, with umask 077.",
            error_kind="usage",
        )
    key_text = re.findall(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----\n?", texts[1], re.S)
    return chain + "".join(key_text)


def without_key(pem: str) -> str:
    """The certificates alone of a PEM text."""
    return "".join(found.strip() + "\n" for found in _CERTIFICATE.findall(pem))


def subject_names(names: Sequence[str], loopback: bool = True) -> List[str]:
    """The subjectAltName entries of these names and addresses, with `loopback` this host's own among them."""
    found = []
    for name in dict.fromkeys([*(("localhost", "127.0.0.1", "::1") if loopback else ()), *names]):
        try:
            found.append("IP:%s" % ipaddress.ip_address(name))
        except ValueError:
            found.append("DNS:%s" % name)
    return found


def make(names: Sequence[str], directory: str, days: int = DAYS, loopback: bool = True) -> str:
    """A new self-signed certificate with its key, as one text.

    :param directory: in which both lie for a moment, for root alone. `loopback`: see `subject_names`.
    """
    with tempfile.TemporaryDirectory(prefix=".dsdeploy-", dir=directory) as private:
        key, certificate = private + "/key.pem", private + "/certificate.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", str(days), "-subj", "/CN=%s" % (names[0] if names else "localhost")[:64]]
        command += ["-addext", "subjectAltName=" + ",".join(subject_names(names, loopback))]
        command += ["-addext", "extendedKeyUsage=serverAuth", "-keyout", key, "-out", certificate]
        before = os.umask(0o077)
        try:
            done = run(command, TIMEOUT)
        finally:
            os.umask(before)
        if done.rc != 0:
            said = (done.stderr or done.stdout).strip().splitlines() or ["no answer"]
            raise Failure("openssl made no certificate: %s" % said[-1][:300])
        text = ""
        for path in (certificate, key):
            with open(path, encoding="ascii") as handle:
                text += handle.read()
    return text


def is_fresh(path: str, names: Sequence[str], days: int = RENEW_DAYS, loopback: bool = True) -> bool:
    """Whether a self-signed certificate is there, holds these names and lasts so many days."""
    if not os.path.isfile(path):
        return False
    done = run(["openssl", "x509", "-in", path, "-noout", "-enddate", "-ext", "subjectAltName"], TIMEOUT)
    if done.rc != 0:
        return False
    return lasts(done.stdout, time.time(), days) and holds(done.stdout, names, loopback)


def lasts(said: str, now: float, days: int = RENEW_DAYS) -> bool:
    """Whether openssl's `notAfter=` is so many days away. `now`: s since the epoch."""
    found = re.search(r"notAfter=(.+)", said)
    return bool(found) and ssl.cert_time_to_seconds(found.group(1).strip()) - now > days * 86400


def holds(said: str, names: Sequence[str], loopback: bool = True) -> bool:
    """Whether openssl's subjectAltName has all of these names."""
    there = {part.strip().replace("IP Address:", "IP:") for part in re.split(r"[,\n]", said)}
    wanted = {_exploded(name) for name in subject_names(names, loopback)}
    return wanted <= {_exploded(name) for name in there}


def _exploded(name: str) -> str:
    """Addresses in one way of writing: openssl writes IPv6 in full."""
    if name.startswith("IP:"):
        try:
            return "IP:" + ipaddress.ip_address(name[3:]).exploded
        except ValueError:
            return "IP:" + ":".join(part.rjust(4, "0") for part in name[3:].split(":")).lower()
    return name
