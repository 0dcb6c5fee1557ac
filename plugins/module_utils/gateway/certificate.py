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
import stat
import tempfile
import time
from typing import Any, Dict, List, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import certificates
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


def decoded(path: str) -> Dict[str, Any]:
    """The first certificate of a PEM file, in the form of `SSLSocket.getpeercert`. Failure where there is none."""
    try:
        return certificates.decode(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise Failure("the certificate cannot be read: %s" % reason, error_kind="usage") from None


def names_of(found: Dict[str, Any]) -> List[str]:
    """The names and addresses that a certificate is for: its subjectAltName, or its common name without one."""
    # Old releases of Python end an IPv6 address with a line feed.
    names = [str(value).strip() for kind, value in found.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    if not names:
        pairs = [pair for part in found.get("subject", ()) for pair in part]
        names = [str(value) for kind, value in pairs if kind == "commonName"]
    return names


def is_for(found: Dict[str, Any], name: str) -> bool:
    """Whether a client that comes by this name takes the certificate."""
    wanted = _exploded(name) if _is_address(name) else name.lower()
    for listed in names_of(found):
        if _is_address(listed):
            if _exploded(listed) == wanted:
                return True
        elif listed.lower() == wanted or (
            listed.startswith("*.") and "." in wanted and wanted.split(".", 1)[1] == listed[2:].lower()
        ):
            return True
    return False


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def given_problems(found: Dict[str, Any], names: Sequence[str], now: float) -> List[str]:
    """What clients will not take of a certificate, a line each. `names`: by which they come; `now`: s since the epoch.
    Pure."""
    lines = []
    if ssl.cert_time_to_seconds(found["notAfter"]) <= now:
        lines.append("it expired on %s" % found["notAfter"])
    if ssl.cert_time_to_seconds(found["notBefore"]) > now:
        lines.append("it is not valid before %s: is the host's clock right?" % found["notBefore"])
    wrong = [name for name in names if not is_for(found, name)]
    if wrong:
        listed = names_of(found)
        shown = ", ".join(listed[:5]) + (" and %d more" % (len(listed) - 5) if len(listed) > 5 else "")
        lines.append("it is for %s, and not for %s of gateway_names" % (shown or "no name", ", ".join(wrong)))
    return lines


def read_given(certificate: str, key: str, names: Sequence[str] = ()) -> str:
    """Certificate with chain and key, as one text. Failure where one of them is none, they do not belong together, or
    no client would take it.

    :param names: by what names and addresses others come.
    """
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
            "gateway_certificate_key: %s has a passphrase, which a service cannot type" % key,
            hint="Remove it: openssl pkey -in KEY -out PLAIN, with umask 077.",
            error_kind="usage",
        )
    mode = stat.S_IMODE(os.stat(key).st_mode)
    if mode & stat.S_IROTH:
        raise Failure(
            "gateway_certificate_key: everybody on the host can read %s (mode %04o)" % (key, mode),
            hint="Restrict it (chmod 600), and replace the certificate: others may have copied the key.",
            error_kind="usage",
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        mismatch = "MISMATCH" in str(error.reason)
        what = "is not the key of %s" % certificate if mismatch else "cannot be read: %s" % error.reason
        raise Failure(
            "gateway_certificate_key: %s %s" % (key, what),
            hint="Give the certificate's own key. The server's certificate comes first in its file, then its chain.",
            error_kind="usage",
        ) from None
    try:
        lines = given_problems(decoded(certificate), names, time.time())
    except Failure as failure:
        lines = failure.problems
    if lines:
        raise Failure(["gateway_certificate: %s: %s" % (certificate, line) for line in lines], error_kind="usage")
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
            raise Failure("openssl could not make a certificate: %s" % said[-1][:300])
        text = ""
        for path in (certificate, key):
            with open(path, encoding="ascii") as handle:
                text += handle.read()
    return text


def days_left(path: str, names: Sequence[str], loopback: bool = True) -> float:
    """Days that a self-signed certificate lasts from now; -1 where there is none that is for all of these names."""
    try:
        found = certificates.decode(path)
    except (OSError, ValueError):
        return -1.0
    wanted = subject_names(names, loopback)
    if not all(is_for(found, name.partition(":")[2]) for name in wanted):
        return -1.0
    return (ssl.cert_time_to_seconds(found["notAfter"]) - time.time()) / 86400


def _exploded(address: str) -> str:
    """An address in one way of writing: IPv6 has several."""
    return ipaddress.ip_address(address).exploded
