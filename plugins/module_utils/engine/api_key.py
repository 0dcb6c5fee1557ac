# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API key of a deployment: what may be one, and what its file on the host holds."""

from __future__ import annotations

import re
from typing import Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

MOST_BYTES = 8192  # engines take no longer headers


def problem(key: str) -> Optional[str]:
    """Why no client could send this key in a header, without the key; None for a good one, and for none."""
    if key and not re.match(r"[\x21-\x7e]+\Z", key):
        return "the API key holds a space, a line break or a character that is not ASCII"
    if len(key) > MOST_BYTES:
        return "the API key has %d characters, more than %d" % (len(key), MOST_BYTES)
    return None


def read(path: str) -> str:
    """The key. Failure, one line that names the file, where it gives none."""
    try:
        key = foreign.read_text(path, MOST_BYTES + 2).strip()
        wrong = "is empty" if not key else problem(key)
    except OSError as error:
        wrong = error.strerror
    except ValueError as error:
        wrong = str(error)
    if wrong:
        raise Failure("api_key_file: %s: %s" % (path, wrong), error_kind="usage")
    return key
