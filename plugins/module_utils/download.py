# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Download one file of known size and sha256, resuming where an earlier run was cut."""

from __future__ import annotations

import http.client
import os

from ansible_collections.dsdeploy.llm.plugins.module_utils.http_client import HttpError, shown
from ansible_collections.dsdeploy.llm.plugins.module_utils.model_store import CHUNK, StoreError, sha256_of


def download(client, url, headers, path, size, sha256):
    """Fetch ``url`` into ``path``; returns the bytes that were transferred.

    A ``path`` that exists is a part of the file from an earlier run and is continued.

    :raises HttpError: the server would not, after all retries.
    :raises StoreError: the server gave something else than the file.
    """
    transferred = 0

    def attempt():
        nonlocal transferred
        have = os.path.getsize(path) if os.path.exists(path) else 0
        if have > size:
            os.unlink(path)
            have = 0
        if have == size:
            return
        ranged = {"Range": "bytes=%d-" % have} if have else {}
        with client.open(url, dict(headers, **ranged)) as response:
            if have and response.status != 206:
                have = 0  # the server does not continue: start again
            with open(path, "r+b" if have else "wb") as handle:
                handle.seek(have)
                while have < size:
                    try:
                        block = response.read(min(CHUNK, size - have))
                    except (http.client.HTTPException, OSError) as error:
                        raise HttpError("%s broke off at byte %d of %d: %s" % (shown(url), have, size, error)) from None
                    if not block:
                        raise HttpError("%s ended at byte %d of %d" % (shown(url), have, size))
                    handle.write(block)
                    have += len(block)
                    transferred += len(block)
                handle.flush()
                os.fsync(handle.fileno())

    client.retrying(attempt)
    found = sha256_of(path)
    if found != sha256:
        os.unlink(path)
        raise StoreError(
            ["%s gave %s with sha256 %s, expected %s" % (shown(url), os.path.basename(path), found, sha256)],
            "the mirror serves another file; use another mirror, or correct the sha256 if the file was replaced",
        )
    return transferred
