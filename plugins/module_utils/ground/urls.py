# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An address to listen on, and the URL at which this host asks it. Pure."""

from __future__ import annotations

import ipaddress
from typing import Union

# A server that listens on every address is asked over loopback.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def is_loopback(host: str) -> bool:
    """Whether nobody beyond this host reaches a server that listens on `host`, an address or a name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def host_port(host: str, port: Union[int, str]) -> str:
    """`127.0.0.1:8000`, `[::1]:8000`: an IPv6 address stands in brackets (RFC 3986, 3.2.2)."""
    return "%s:%s" % ("[%s]" % host if ":" in host else host, port)


def base_url(host: str, port: Union[int, str], tls: bool = False) -> str:
    """The URL at which this host reaches a server that listens on `host`: `http://[::1]:8080`."""
    return "%s://%s" % ("https" if tls else "http", host_port(_EVERYWHERE.get(host, host), port))
