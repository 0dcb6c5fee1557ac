# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where this host's supervisor is, or will be, and whether it is there."""

from __future__ import annotations

import glob
import os
from typing import Dict

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


def read_host() -> Dict[str, str]:
    """Where this host's supervisor and its logs are; empty where that is not noted. It can be found anew."""
    try:
        found = foreign.read(places.HOST)
        return {key: found.text(key, pattern="/[^\\x00-\\x1f]*") for key in ("supervisor", "log_dir")}
    except (OSError, Failure):
        return {}


def place(install_dir: str, log_dir: str) -> Dict[str, str]:
    """`{supervisor, log_dir}`: where it was put first, whatever the variables say now; else where they say."""
    noted = read_host()
    if noted and os.path.exists(noted["supervisor"] + "/bin/supervisord"):
        return noted
    return {"supervisor": install_dir.rstrip("/") + "/supervisor", "log_dir": log_dir.rstrip("/")}


def is_installed(path: str, version: str = "*") -> bool:
    """Whether supervisor is there, in the version that is wanted."""
    found = glob.glob(
        "%s/lib/python3*/site-packages/supervisor-%s.dist-info" % (glob.escape(path), glob.escape(version))
        if version != "*"
        else "%s/lib/python3*/site-packages/supervisor-*.dist-info" % glob.escape(path)
    )
    return bool(found) and os.access(path + "/bin/supervisord", os.X_OK)
