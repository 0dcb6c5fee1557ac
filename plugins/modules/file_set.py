# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several small files with given contents, in one process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: file_set
short_description: Several small files with given contents, in one process
version_added: 1.0.0
description:
  - Compares contents, owners and modes with the files on the host and writes those that differ, each by a rename.
  - Directories that are missing are made for everybody to enter, whatever the umask is.
  - What O(files[].content) holds is rendered on the controller, as with the lookup P(ansible.builtin.template#lookup).
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Of secrets the path alone.
  idempotent:
    support: full
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      content:
        description: What it is to hold. One of O(files[].content) and O(files[].secret) is required.
        type: str
      secret:
        description: As O(files[].content), for what neither output nor diffs may show.
        type: str
      owner:
        description: Name of the user that it belongs to.
        type: str
        default: root
      group:
        description: Name of its group.
        type: str
        default: root
      mode:
        description: Its mode, octal digits in quotes.
        type: str
        default: "0644"
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: What starts the engine, and its place on the PATH
  dsdeploy.llm.file_set:
    files:
      - path: /opt/dsdeploy/llama_cpp/bin/llama-server
        content: "{{ lookup('ansible.builtin.file', 'llama-server', rstrip=false) }}"
        mode: "0755"
      - path: /etc/profile.d/dsdeploy-llama-cpp.sh
        content: |
          PATH="/opt/dsdeploy/llama_cpp/bin:$PATH"
"""

RETURN = r"""
changes:
  description: The files that were written, or given another owner or mode, a line each.
  type: list
  elements: str
  returned: always
hint:
  description: What to do next.
  type: str
  returned: failure
"""

import grp
import os
import pwd
from typing import Any, Callable, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import make_directory


def number_of(kind: str, name: str, look_up: Callable[[str], Any], wanted: Dict[str, Any], check: bool) -> int:
    """The number of a user or group; -1 in check mode for one that is still to be made."""
    try:
        return look_up(name)[2]
    except KeyError:
        if check:
            return -1
        raise Failure("%s: this host has no %s %s" % (wanted["path"], kind, name)) from None


def put(desired: Desired, wanted: Dict[str, Any]) -> None:
    """One of O(files). Raises Failure."""
    path, secret = wanted["path"], wanted["secret"] is not None
    if not path.startswith("/"):
        raise Failure("file_set: '%s' is not an absolute path" % path, error_kind="usage")
    try:
        mode = int(wanted["mode"], 8)
    except ValueError:
        raise Failure("file_set: '%s' is not an octal mode" % wanted["mode"], error_kind="usage") from None
    uid = number_of("user", wanted["owner"], pwd.getpwnam, wanted, desired.check_mode)
    gid = number_of("group", wanted["group"], grp.getgrnam, wanted, desired.check_mode)
    try:
        if not desired.check_mode:
            make_directory(os.path.dirname(path))
        desired.file(path, wanted["secret"] if secret else wanted["content"], mode, uid, gid, secret)
    except OSError as error:
        raise Failure(
            "%s cannot be written: %s" % (path, error.strerror), "Is the file system full, or read-only?"
        ) from None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str"},
                    "secret": {"type": "str", "no_log": True},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str", "default": "0644"},
                },
                "required_one_of": [["content", "secret"]],
                "mutually_exclusive": [["content", "secret"]],
            },
        },
        supports_check_mode=True,
    )
    desired = Desired(module.check_mode)
    try:
        for wanted in module.params["files"]:
            put(desired, wanted)
    except Failure as failure:
        module.fail_json(**failure.fields())
    module.exit_json(changed=bool(desired.changes), changes=desired.changes, diff=desired.diffs)


if __name__ == "__main__":
    main()
