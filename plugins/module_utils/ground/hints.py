# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do next, told from an error's own words: one table for pip, uv, downloads, builds, modules and the command.

The words are those of the C library (``strerror``), Python, pip, uv (Rust), git, curl, apt and OpenSSL. What SSH, sudo
and Ansible itself say is the command's: ``python/dsdeploy/failures.py``.
"""

from __future__ import annotations

import errno
import re
from typing import Any, List, Tuple

# In this order: the first that matches. What is nearer to the cause comes first: pip says "Could not find a version"
# after every failed connection, and "hash" after a cut one. A number such as 404 counts only beside HTTP's words: a
# model can have as many GB.
_CAUSES: Tuple[Tuple[str, str], ...] = (
    (
        r"no space left on device|errno 28\b|os error 28\b|(not|n't have) enough (free |disk )?space"
        r"|disk is full|enospc",
        "The disk is full: free space on that file system, or inodes (df -h, df -i). pip and uv also need space in "
        "TMPDIR.",
    ),
    (
        r"disk quota exceeded|errno 122\b|os error 122\b|edquot|quota exceeded",
        "The user's disk quota is used up: free space, or raise the quota.",
    ),
    (
        r"read-only file system|errno 30\b|erofs",
        "The file system is mounted read-only: mount it writable (dmesg says whether it is damaged), or choose another "
        "directory.",
    ),
    (
        r"failed to map segment from shared object",
        "The file system may be mounted noexec (findmnt): mount it with exec, or choose another directory.",
    ),
    (
        r"cannot allocate memory|memoryerror|out of memory|oom-kill|killed$",
        "The host ran out of memory: free some, or add swap, then run it again.",
    ),
    (
        r"could not get lock|unable to acquire the dpkg|unable to lock directory /var/lib/(apt|dpkg)",
        "Another package installation runs on the host: wait until it is done, then run it again.",
    ),
    (
        r"dpkg was interrupted|fix-broken install|apt(-get)? -f install",
        "An installation of packages was cut off on the host: run dpkg --configure -a and apt-get --fix-broken install "
        "there, then run it again.",
    ),
    (
        r"sub-process /usr/bin/dpkg returned an error",
        "A package on the host cannot be configured, often a kernel module that DKMS cannot build; dpkg --audit names "
        "it. Mend or remove it, then run it again.",
    ),
    (
        r"not valid yet|not yet valid|invalid for another",
        "The host's clock is behind: set it (timedatectl set-ntp true, or install chrony), then run it again.",
    ),
    (
        r"release file .* (is|has) expired",
        "The package source is out of date, or the host's clock ahead (date): use a mirror that is kept, or set the "
        "clock.",
    ),
    (
        r"no_pubkey|public key is not available|repository .* is not signed",
        "The key of a package source is not on the host: add it as the source's own guide says, or remove the source.",
    ),
    (
        r"does not have a release file",
        "A package source on the host has nothing for this release of the distribution: correct or remove it.",
    ),
    (
        r"proxyerror|407 proxy|proxy authentication required|tunnel connection failed|cannot connect to proxy"
        r"|proxy connect aborted"
        r"|unable to connect to proxy|could not resolve proxy|proxyconnect|error.* via proxy",
        "The proxy refuses or does not answer: check dsdeploy_mirrors.http_proxy and https_proxy, and the host's own "
        "settings.",
    ),
    (
        r"certificate[ _-]?verif|self[ -]?signed certificate|unknownissuer|invalid peer certificate|sslerror|ssl:|tls:"
        r"|tlsv1|wrong_version_number|certificate has expired|unable to get local issuer|server certificate",
        "TLS failed: check the host's clock and its CA certificates (package ca-certificates). A private CA has to "
        "be added to them.",
    ),
    (
        r"name or service not known|temporary failure in name resolution|no address associated|getaddrinfo"
        r"|could not resolve host|failed to lookup address|nameresolutionerror|name does not resolve|dns error"
        r"|nodename nor servname|temporary failure resolving",
        "The name cannot be resolved: check the host's DNS (/etc/resolv.conf), or set mirrors that it reaches "
        "in dsdeploy_mirrors.",
    ),
    (
        r"mirror sync in progress",
        "The mirror of a package source is being updated: wait and run it again, or use another mirror.",
    ),
    (
        r"do not match the hashes|hash(es)? mismatch|hashmismatch|hash sum mismatch|checksum mismatch|has sha256"
        r"|expected sha256|sha256 .*(differs|mismatch)",
        "The server sent another file than the pinned one: use another mirror, or correct the sha256 if the file was "
        "replaced.",
    ),
    (
        r"network is unreachable|no route to host|connection refused|connect timeout"
        r"|(connect|read|operation|request|handshake|url.?open error).{0,80}timed out"
        r"|newconnectionerror|connection reset|connection aborted|remote end closed|error sending request|max retries"
        r"|failed to connect to \S+ port|timeout was reached|operation too slow"
        r"|all mirrors were tried|early eof|rpc failed",
        "The server cannot be reached from this host: check its network and firewall, or set a mirror in "
        "dsdeploy_mirrors.",
    ),
    (
        r"(http error|returned error:|status) 40[13]\b|\b40[13] client error|unauthorized|forbidden"
        r"|authentication failed for|could not read username",
        "The server refuses the credentials: check the token or password, and what it may read.",
    ),
    (
        r"(http error|returned error:|status|answered) 429\b|too many requests",
        "The server limits how often it is asked: wait and run it again, or use another mirror; a hub allows more with "
        "a token (model_tokens).",
    ),
    (
        r"(http error|returned error:|status) 404\b|\b404:? +(client error|not found)|not found for url",
        "The server does not have it: check the name and version, and that the mirror in dsdeploy_mirrors has it.",
    ),
    (
        # pip says so, too, of an index that does not answer, when it is not to try again.
        r"no matching distribution|could not find a version",
        "The index does not have it, or does not answer: check the name and version, and dsdeploy_mirrors.pypi_index.",
    ),
    (
        r"too many open files|emfile",
        "Raise the limit of open files (ulimit -n) of the user, then run it again.",
    ),
    (
        r"permission denied|errno 13\b|eacces|operation not permitted",
        "Permission denied: check the owner and mode of the path; root is needed on hosts (--user root, or --become).",
    ),
)
_COMPILED: List[Tuple[Any, str]] = [
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), hint) for pattern, hint in _CAUSES
]

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
