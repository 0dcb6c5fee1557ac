# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By what a gateway knows the replicas that it sends requests, and the engine's key, to.

Gateways of dsdeploy have a certificate for each other besides the one that clients see. Each is self-signed, for a name
that nobody else has, and known to the others by itself: it is their only authority for that replica. So a renewed
certificate for clients, whoever signed it, is nothing to them. Other replicas are known by an authority's file.
"""

from __future__ import annotations

import os
import ssl
from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import certificate
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

OWN = places.GATEWAY + "/replica-own.pem"  # with its key, for root alone
SERVED = places.GATEWAY + "/replica.pem"  # the same for HAProxy
KNOWN = places.GATEWAY + "/replicas"  # NAME.pem: what a replica's certificate must be, or be signed by
DOMAIN = ".replica.dsdeploy.internal"
DAYS = 3650
RENEW_DAYS = 365  # with less than this left it is made anew, in a run with all the replicas
WARN_DAYS = 30
# Debian and Ubuntu; RHEL and what is made of it.
SYSTEM = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


def server_name(host: str) -> str:
    """The name that the certificate of a host's gateway is for, towards other replicas."""
    return host.lower() + DOMAIN


def known_file(name: str) -> str:
    """The file by which a replica is known here."""
    return "%s/%s.pem" % (KNOWN, name)


def system_file() -> str:
    """The host's own list of authorities. Failure where it has none."""
    found = next((path for path in SYSTEM if os.path.isfile(path)), "")
    if not found:
        raise Failure(
            "this host has no list of certificate authorities (%s)" % " or ".join(SYSTEM),
            hint="Install ca-certificates, or name an authority's file: ca_file of the replica in gateway_replicas.",
            error_kind="preflight",
        )
    return found


def own_certificate(desired: Desired, host: str, renew: bool) -> Dict[str, Any]:
    """`{certificate, ends_soon}`: the certificate by which other replicas know this gateway, without its key; made
    where it is missing. It is "" in check mode, where it is still to be made. Where the gateway that runs shows another
    one still, that comes after it: the others take both until the new one is shown.

    :param renew: whether it may be another one than before, as all that know it are told in this run.
    """
    name = server_name(host)
    left = certificate.days_left(OWN, [name], loopback=False)
    if left > (RENEW_DAYS if renew else 0):
        return {"certificate": _with_shown(_read(OWN)), "ends_soon": left <= WARN_DAYS}
    what = "make the certificate by which other replicas know this gateway"
    if desired.check_mode:
        desired.change(what)
        return {"certificate": "", "ends_soon": False}
    desired.directory(places.CONFIG, 0o755)
    desired.directory(places.GATEWAY, 0o750, keep_mode=True)
    text = certificate.make([name], places.GATEWAY, DAYS, loopback=False)
    desired.file(OWN, text, 0o600, secret=True, what="certificate for other replicas")
    return {"certificate": _with_shown(text), "ends_soon": False}


def _with_shown(text: str) -> str:
    own = certificate.without_key(text)
    try:
        shown = certificate.without_key(_read(SERVED))
    except (OSError, UnicodeDecodeError):
        shown = ""
    return own if shown == own else own + shown


def know(desired: Desired, certificates: Dict[str, str]) -> bool:
    """Note by what these replicas are known from now on; whether one of them was known by another before.

    :param certificates: PEM by the replica's name.
    """
    changed = False
    for name, text in sorted(certificates.items()):
        try:
            certificate.fingerprint(text)
        except Failure as failure:
            raise Failure("the certificate of %s: %s" % (name, failure)) from None
        desired.directory(places.CONFIG, 0o755)
        desired.directory(places.GATEWAY, 0o750, keep_mode=True)
        desired.directory(KNOWN, 0o755)
        changed |= desired.file(known_file(name), certificate.without_key(text), 0o644)
    return changed


def settle(desired: Desired, replicas: List[Dict[str, Any]]) -> Dict[str, Any]:
    """`{replicas, changed, unknown}`: the replicas, each with the file by which it is known (`ca_file`); whether one of
    these files changed; the names of those that are left out, as nothing is known to tell them from others.

    :param replicas: as variable `gateway_replicas` has them.
    """
    kept, unknown, changed = [], [], False
    for replica in replicas:
        given: Optional[str] = replica.get("ca_file")
        if not replica.get("tls"):
            kept.append(replica)
        elif given and given != known_file(replica["name"]):
            # A copy: the gateway's user may not read everywhere.
            changed |= know(desired, {replica["name"]: read_authority(replica["name"], given)})
            kept.append(dict(replica, ca_file=known_file(replica["name"])))
        elif not given:
            kept.append(dict(replica, ca_file=system_file()))
        elif desired.check_mode or os.path.isfile(given):
            kept.append(replica)
        else:
            unknown.append(replica["name"])
    wanted = {os.path.basename(str(replica.get("ca_file"))) for replica in kept}
    for name in sorted(os.listdir(KNOWN)) if os.path.isdir(KNOWN) else []:
        if name not in wanted:
            changed |= desired.absent(os.path.join(KNOWN, name))
    return {"replicas": kept, "changed": changed, "unknown": unknown}


def read_authority(name: str, path: str) -> str:
    """The certificates in a file that a user names. Failure where there are none."""
    try:
        text = certificate.without_key(_read(path))
        certificate.fingerprint(text)
        ssl.create_default_context(cadata=text)
    except ssl.SSLError:
        raise Failure(
            "gateway_replicas: ca_file of %s: %s: its certificates cannot be read" % (name, path), error_kind="usage"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a PEM file"
        raise Failure("gateway_replicas: ca_file of %s: %s: %s" % (name, path, reason), error_kind="usage") from None
    except Failure as failure:
        raise Failure("gateway_replicas: ca_file of %s: %s: %s" % (name, path, failure), error_kind="usage") from None
    return text


def _read(path: str) -> str:
    with open(path, encoding="ascii") as handle:
        return handle.read()
