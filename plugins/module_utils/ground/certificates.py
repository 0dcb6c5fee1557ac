# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate in a file, and the one that a server shows."""

from __future__ import annotations

import hashlib
import ssl
from typing import Any, Dict


def decode(path: str) -> Dict[str, Any]:
    """The first certificate of a PEM file, in the form of `SSLSocket.getpeercert`.

    :raises: OSError (ssl.SSLError is one) or ValueError for what is none. Python has no public way to read one.
    """
    found: Dict[str, Any] = ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined]
    return found


def looking() -> ssl.SSLContext:
    """For a connection whose certificate is looked at afterwards, before anything is sent."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def is_of(channel: ssl.SSLSocket, fingerprint: str) -> bool:
    """Whether a server shows the very certificate with this SHA-256, as browsers and openssl write it."""
    shown = hashlib.sha256(channel.getpeercert(True) or b"").hexdigest()
    return shown.upper() == fingerprint.replace(":", "").upper()
