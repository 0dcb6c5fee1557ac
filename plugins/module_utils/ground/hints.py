# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do next, told from an error's own words: one rule for pip, uv, downloads and builds.

The words are those of the C library (``strerror``), Python, pip, uv (Rust), git, curl and OpenSSL.
"""

from __future__ import annotations

import errno
import re
from typing import Any, List, Tuple

_SPACE = "free space there; a temporary directory elsewhere is set with the environment variable TMPDIR"
_WRITE = "check who owns the path, and its mode"

# In this order: the first that matches. What is nearer to the cause comes first: pip says "Could not find a version"
# after every failed connection, and "hash" after a cut one.
_CAUSES: Tuple[Tuple[str, str], ...] = (
    (
        r"no space left on device|errno 28\b|os error 28\b|not enough space|disk is full|enospc",
        "the disk is full: " + _SPACE,
    ),
    (
        r"disk quota exceeded|errno 122\b|os error 122\b|edquot|quota exceeded",
        "the user's disk quota is used up: free space, or raise it",
    ),
    (
        r"read-only file system|errno 30\b|erofs",
        "the file system is mounted read-only: mount it writable, or choose another directory",
    ),
    (
        r"proxyerror|407 proxy|proxy authentication required|tunnel connection failed|cannot connect to proxy"
        r"|unable to connect to proxy|could not resolve proxy|proxyconnect|error.* via proxy",
        "the proxy refuses or is not there: check dsdeploy_mirrors.http_proxy and https_proxy, and the host's own",
    ),
    (
        r"certificate[ _-]?verif|self[ -]?signed certificate|unknownissuer|invalid peer certificate|sslerror|ssl:|tls:"
        r"|tlsv1|wrong_version_number|certificate has expired|unable to get local issuer|server certificate",
        "TLS: check the host's clock and its CA certificates (package ca-certificates; a private CA belongs into them)",
    ),
    (
        r"name or service not known|temporary failure in name resolution|no address associated|getaddrinfo"
        r"|could not resolve host|failed to lookup address|nameresolutionerror|name does not resolve|dns error"
        r"|nodename nor servname",
        "the name cannot be resolved: check the host's DNS, or set a mirror that it can reach in dsdeploy_mirrors",
    ),
    (
        r"do not match the hashes|hash(es)? mismatch|hashmismatch|checksum mismatch|has sha256|expected sha256",
        "what was served is not the file that is pinned: use another mirror, or correct the sha256 if it was replaced",
    ),
    (
        r"network is unreachable|no route to host|connection refused|connect timeout|connection timed out|timed out"
        r"|newconnectionerror|connection reset|connection aborted|remote end closed|error sending request|max retries",
        "the server cannot be reached from this host: check the network, or set a mirror in dsdeploy_mirrors",
    ),
    (
        r"\b401\b|\b403\b|unauthorized|forbidden",
        "the server wants other credentials: check the token or password, and what it may read",
    ),
    (
        r"\b404\b|not found for url|http error 404",
        "it is not there: check the name and version, and that the mirror in dsdeploy_mirrors has it",
    ),
    (
        # pip says so, too, of an index that does not answer, when it is not to try again.
        r"no matching distribution|could not find a version",
        "the index does not have it, or does not answer: check the name and version, and dsdeploy_mirrors.pypi_index",
    ),
    (r"permission denied|errno 13\b|eacces|operation not permitted", "no permission: " + _WRITE),
)
_COMPILED: List[Tuple[Any, str]] = [(re.compile(pattern, re.IGNORECASE), hint) for pattern, hint in _CAUSES]

_BY_ERRNO = {
    errno.ENOSPC: "no space left on device",
    errno.EDQUOT: "disk quota exceeded",
    errno.EROFS: "read-only file system",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
}


def hint_for(said: Any, default: str = "") -> str:
    """One line on what to do next about an error.

    :param said: the error's text, lines of a log, or an exception; of an OSError its number counts, and its file is
        named.
    :param default: the hint where the words tell nothing.
    """
    if isinstance(said, (list, tuple)):
        said = "\n".join(str(line) for line in said)
    words = str(said)
    path = ""
    if isinstance(said, OSError) and said.errno in _BY_ERRNO:
        words = _BY_ERRNO[said.errno]
        path = " (%s)" % said.filename if said.filename else ""
    for pattern, hint in _COMPILED:
        if pattern.search(words):
            return hint + path
    return default
