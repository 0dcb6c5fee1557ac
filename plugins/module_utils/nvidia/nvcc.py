# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CUDA compilers of a host, and which of them compiles the kernels of packages."""

from __future__ import annotations

import glob
import os
import shutil
from typing import Any, Dict, List, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import run
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import cuda

PLACES = ("/usr/local/cuda/bin/nvcc", "/usr/local/cuda-*/bin/nvcc")
TIMEOUT_S = 10.0
SEARCH_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def find(places: Sequence[str] = PLACES) -> List[Dict[str, str]]:
    """Each nvcc of this host, as {path, version}: the one in PATH first; one that tells no version has an empty one."""
    paths = [shutil.which("nvcc") or ""]
    for place in places:
        paths += sorted(glob.glob(place))
    found = []
    for path in dict.fromkeys(paths):
        if path and os.access(path, os.X_OK):
            said = run([path, "--version"], TIMEOUT_S)
            found.append({"path": path, "version": cuda.nvcc_version(said.stdout) or ""})
    return found


def for_packages(found: Sequence[Dict[str, str]], wanted: str, root: str) -> Dict[str, Any]:
    """What an engine at `root` compiles with whose packages are built for CUDA `wanted`, such as "13.0".

    {path, found, environment}: one of another major version does not serve, and the path is then empty; `found` tells
    them all; in the environment the release's own programs, such as ninja, go before the host's.
    """
    major = wanted.split(".")[0]
    path = next((each["path"] for each in found if each["version"].split(".")[0] == major), "")
    directories = [os.path.join(root, "current", "bin"), *([os.path.dirname(path)] if path else []), *SEARCH_PATH]
    environment = {"PATH": ":".join(directories)}
    if path:
        environment["CUDA_HOME"] = os.path.dirname(os.path.dirname(path))
    told = [("%s %s" % (each["path"], each["version"])).strip() for each in found]
    return {"path": path, "found": told, "environment": environment}
