# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An address to listen on, and the URL at which this host asks it. Pure."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from typing import Any, Iterator, Set, Union

# A server that listens on every address is asked over loopback.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_BROADCAST = ipaddress.ip_address("255.255.255.255")


def is_loopback(host: str) -> bool:
    """Whether nobody beyond this host reaches a server that listens on `host`, an address or a name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_one_host(address: str) -> bool:
    """Whether an address means one host: not all addresses of this one, a group, or a whole network; a name is not."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (found.is_unspecified or found.is_multicast or found == _BROADCAST)


def is_private(address: str) -> bool:
    """Whether an address is of a network of one's own (RFC 1918, 4193, 6598) and means one host; a name is not."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if not is_one_host(address) or found.is_loopback or found.is_link_local:
        return False
    return found.is_private or (found.version == 4 and found in ipaddress.ip_network("100.64.0.0/10"))


def host_port(host: str, port: Union[int, str]) -> str:
    """`127.0.0.1:8000`, `[::1]:8000`: an IPv6 address stands in brackets (RFC 3986, 3.2.2)."""
    return "%s:%s" % ("[%s]" % host if ":" in host else host, port)


def base_url(host: str, port: Union[int, str], tls: bool = False) -> str:
    """The URL at which this host reaches a server that listens on `host`: `http://[::1]:8080`."""
    return "%s://%s" % ("https" if tls else "http", host_port(_EVERYWHERE.get(host, host), port))


# User and password of a URL, anywhere in a text: RFC 3986, 3.2.1.
_USERINFO = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#\s@]*(?:@[^/?#\s@]*)*)@", re.IGNORECASE)


def has_userinfo(text: str) -> bool:
    """Whether a text holds a URL with a user, a password or a token in it."""
    return _USERINFO.search(text) is not None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def secrets_in(*values: Any) -> Set[str]:
    """The passwords of the URLs in any values, however deep, and tokens that stand in the place of a user; as they are
    written and decoded. For what is to be masked wherever it is said."""
    found = set()
    for text in _texts(values):
        for userinfo in _USERINFO.findall(text):
            user, colon, password = userinfo.partition(":")
            secret = password if colon else user
            found |= {secret, urllib.parse.unquote(secret)}
    return found - {""}
