# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of the gateway's keys (`keys.py`), and who may change it."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator, List

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import keys
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import locked
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

FILE = places.GATEWAY + "/keys.json"
TIMEOUT = 120.0  # s; until who changes the keys is done


def read() -> List[keys.Key]:
    """The keys of this host, its own among them. Failure for a file that is none: nobody is locked out in silence."""
    try:
        with open(FILE, encoding="utf-8") as handle:
            return keys.parse(handle.read())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Failure(
            "%s, which holds the hashes of the gateway's keys, cannot be read: %s" % (FILE, reason),
            hint="Put back a copy of it, or remove it and make the keys anew (dsdeploy key add).",
        ) from None


@contextlib.contextmanager
def alone(check_mode: bool) -> Iterator[None]:
    """While it is entered, nobody else changes the keys, on disk or in the gateway that runs. A key is revoked at once,
    also while a run that holds the host's lock fetches a model for hours. Failure where somebody holds it for long."""
    if check_mode:
        yield
        return
    descriptor = locked.open_lock(places.KEYS_LOCK)
    try:
        locked.hold(descriptor, places.KEYS_LOCK, TIMEOUT)
        yield
    finally:
        os.close(descriptor)
