# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment as it is reached from another machine: at which URL, and how that proves to be it."""

from __future__ import annotations

import socket
import ssl
from typing import Any, Dict, NamedTuple, Optional
from urllib.parse import urlsplit

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import certificates
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import is_loopback

CONNECT_S = 10.0


class Way(NamedTuple):
    """`through`: gateway or engine. `fingerprint`: SHA-256 of the certificate, as the host told it; "" for one that has
    to be signed for its name by an authority that this machine knows."""

    url: str
    through: str
    fingerprint: str


def way_to(record: Dict[str, Any], has_key: bool) -> Way:
    """Pure. Failure where nobody but the host itself reaches it, or a key would go in the clear.

    :param record: as module `deployment_facts` returns it.
    """
    public = record.get("public_endpoint")
    if public:
        if not has_key:
            raise Failure(
                "the gateway before %s wants the key of a client" % record.get("engine"),
                hint="dsdeploy key add bench >bench.key, with umask 077; then --key-file bench.key.",
                error_kind="usage",
            )
        return Way(str(public), "gateway", str(record.get("fingerprint") or ""))
    url = str(record.get("endpoint") or "")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or is_loopback(host):
        raise Failure(
            "%s at %s is reached from its host alone" % (record.get("engine"), url or "no URL"),
            hint="Leave out `--from here`, or let others in through the gateway (docs/gateway.md).",
            error_kind="usage",
        )
    if has_key and parts.scheme != "https":
        raise Failure(
            "%s speaks no TLS: the key would go over the network in the clear" % url,
            hint="Let others in through the gateway (docs/gateway.md), or measure from the host itself.",
            error_kind="usage",
        )
    return Way(url, "engine", "")


def context_of(way: Way) -> Optional[ssl.SSLContext]:
    """Of TLS: with a fingerprint, connections to a server with that very certificate alone. Failure for another one."""
    parts = urlsplit(way.url)
    if parts.scheme != "https":
        return None
    context = ssl.create_default_context()
    if not way.fingerprint:
        return context
    host, port = parts.hostname or "", parts.port or 443
    try:
        with socket.create_connection((host, port), CONNECT_S) as plain:
            with certificates.looking().wrap_socket(plain, server_hostname=host) as channel:
                der = channel.getpeercert(True) or b""
                known = certificates.is_of(channel, way.fingerprint)
    except OSError as error:
        raise Failure(
            "%s cannot be reached from here: %s" % (way.url, error.strerror or error),
            hint="Does a firewall stand between? Is this machine's address in gateway_networks?",
            error_kind="verify",
        ) from None
    if not known:
        raise Failure(
            "%s shows another certificate than the one that was deployed: the key is not sent" % way.url,
            hint="After a renewal run `dsdeploy up --tags configure`; else somebody else answers there.",
            error_kind="verify",
        )
    pinned = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    pinned.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(der))
    # It may be signed by another, whom nobody need know then.
    pinned.verify_flags |= getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0x80000)
    pinned.check_hostname = False  # it is that very one, whatever names are in it
    return pinned
