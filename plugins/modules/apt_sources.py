#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_sources
short_description: Find the files by which apt uses a repository
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Reads apt's package sources. What apt does not read or use counts for nothing, such as lines that are commented out,
    stanzas with C(Enabled) set to V(no), and copies of files.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
options:
  url:
    description: The repository. A slash at its end does not matter.
    type: str
    required: true
  directory:
    description: Where apt's configuration is.
    type: path
    default: /etc/apt
"""

EXAMPLES = r"""
- name: See whether it is there already
  dsdeploy.llm.apt_sources:
    url: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64
"""

RETURN = r"""
files:
  description: Paths of the files that name it, in the order of their names.
  type: list
  elements: path
  returned: success
"""

import glob
import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.packages import apt_entries

# apt leaves out files of other names.
NAME = re.compile(r"[A-Za-z0-9_.-]+\.(list|sources)")


def files_with(directory: str, url: str) -> list[str]:
    """Paths of the files that have it in use. OSError for one that cannot be read."""
    parts = glob.glob(os.path.join(glob.escape(directory), "sources.list.d", "*"))
    paths = [path for path in sorted(parts) if NAME.fullmatch(os.path.basename(path)) and os.path.isfile(path)]
    found = []
    for path in [os.path.join(directory, "sources.list"), *paths]:
        try:
            with open(path, encoding="utf-8", errors="replace") as handle:
                uris = apt_entries(path, handle.read())
        except FileNotFoundError:
            continue
        if any(uri.rstrip("/") == url.rstrip("/") for uri in uris):
            found.append(path)
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "directory": {"type": "path", "default": "/etc/apt"},
        },
        supports_check_mode=True,
    )
    try:
        files = files_with(module.params["directory"], module.params["url"])
    except OSError as error:
        module.fail_json(msg="apt's sources: %s: %s" % (error.filename, error.strerror), error_kind="preflight")
    module.exit_json(changed=False, files=files)


if __name__ == "__main__":
    main()
