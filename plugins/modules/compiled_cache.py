#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine has compiled goes along to hosts that are alike."""

from __future__ import annotations

DOCUMENTATION = r"""
module: compiled_cache
short_description: Carry what an engine has compiled to a host that is its like
version_added: 1.0.0
description:
  - Engines compile kernels when they first start, for minutes. What they keep of it serves any host with the same
    release, GPUs, driver and processor.
  - The directory is read and written as the service's user. Nothing that is there is overwritten.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  state:
    description:
      - V(look) says what is there, and in RV(key) what another host must have alike.
      - V(packed) puts it into O(archive).
      - V(unpacked) puts what is in O(archive) at O(path), where nothing is yet.
      - V(forgotten) takes away what came from another host, and leaves what was made here.
    type: str
    choices: [look, packed, unpacked, forgotten]
    required: true
  path:
    description: Directory of what is compiled.
    type: path
    required: true
  about:
    description: What hosts must have alike, by what it is called, for V(state=look) and V(unpacked).
    type: dict
    default: {}
  user:
    description: The service's user. Needed for all but V(state=look), which says whether there is one.
    type: str
  archive:
    description: File in a directory that only root writes to.
    type: path
  checksum:
    description: The sha256 that O(archive) must have, for V(state=unpacked).
    type: str
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: See what is compiled
  dsdeploy.llm.compiled_cache:
    state: look
    path: /var/lib/dsdeploy/dsdeploy-vllm/compiled/0.32.0-cuda-1c0ffee5
    about: {release: 0.32.0-cuda-1c0ffee5, gpus: 8 NVIDIA H200, driver: "580.159.04", architecture: x86_64}
"""

RETURN = r"""
path:
  description: The directory.
  returned: success
  type: str
key:
  description: What hosts must have alike.
  returned: state look
  type: str
files:
  description: Files that are there.
  returned: states look and packed
  type: int
bytes:
  description: Their size.
  returned: states look and packed
  type: int
served:
  description: Whether O(user) exists.
  returned: state look
  type: bool
checksum:
  description: The sha256 of the archive. Empty where there is nothing to pack, and in check mode.
  returned: state packed
  type: str
hint:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import compiled
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.hints import hint_for
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import users


def key_of(path: str, about: dict) -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as handle:
        return compiled.key(path, about, handle.read())


def step(module: AnsibleModule) -> dict:
    p = module.params
    path, user, check = p["path"], p["user"], module.check_mode
    if p["state"] == "unpacked":
        if check:
            return {"changed": compiled.is_free(path)}
        return {"changed": compiled.unpack(p["archive"], p["checksum"], path, user, key_of(path, p["about"]))}
    if p["state"] == "forgotten":
        return {"changed": compiled.has_come(path) if check else compiled.forget(path, user)}
    files, size = compiled.count(path)
    result = {"changed": False, "files": files, "bytes": size}
    if p["state"] == "look":
        return dict(result, key=key_of(path, p["about"]), served=bool(user and users.account(user)))
    return dict(result, checksum=compiled.pack(path, p["archive"], user) if files and not check else "")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["look", "packed", "unpacked", "forgotten"], "required": True},
            "path": {"type": "path", "required": True},
            "about": {"type": "dict", "default": {}},
            "user": {"type": "str"},
            "archive": {"type": "path"},
            "checksum": {"type": "str"},
        },
        required_if=[
            ("state", "packed", ("user", "archive")),
            ("state", "unpacked", ("user", "archive", "checksum")),
            ("state", "forgotten", ("user",)),
        ],
        supports_check_mode=True,
    )
    try:
        result = step(module)
    except Failure as failure:
        module.fail_json(**failure.fields())
    except KeyError as error:
        module.fail_json(msg="there is no user %s" % module.params["user"], hint=str(error))
    except OSError as error:
        module.fail_json(msg="what is compiled: %s" % error, hint=hint_for(error, "Check the path."))
    module.exit_json(path=module.params["path"], **result)


if __name__ == "__main__":
    main()
