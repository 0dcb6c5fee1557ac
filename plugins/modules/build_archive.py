#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: build_archive
short_description: Carry a finished build from one host to another of the same kind
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Packs what M(dsdeploy.llm.cmake_build) has built into an archive, or unpacks such an archive on another host, where
    it then counts as built.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - With O(state=packed), the archive is written again each time, with the same content.
options:
  state:
    description:
      - With V(packed), the build at O(prefix) is in O(archive).
      - With V(unpacked), the build in O(archive) is at O(prefix), and its programs run on this host.
    type: str
    choices: [packed, unpacked]
    required: true
  prefix:
    description: Where the build is, or goes.
    type: path
    required: true
  identity:
    description: The identity that the build must have.
    type: str
    required: true
  archive:
    description: The archive (tar.gz).
    type: path
    required: true
  checksum:
    description: The sha256 that the archive must have. Needed to unpack it.
    type: str
  check:
    description: A program of the build, and arguments with which it must run and succeed once it is unpacked.
    type: list
    elements: str
    default: []
seealso:
  - module: dsdeploy.llm.cmake_build
"""

EXAMPLES = r"""
- name: Pack the build
  dsdeploy.llm.build_archive:
    state: packed
    prefix: /opt/llama.cpp
    identity: b11434 without CUDA
    archive: /var/tmp/llama.cpp.tar.gz
  register: packed

- name: Unpack it on another host
  dsdeploy.llm.build_archive:
    state: unpacked
    prefix: /opt/llama.cpp
    identity: b11434 without CUDA
    archive: /var/tmp/llama.cpp.tar.gz
    checksum: "{{ packed.checksum }}"
    check: [llama-server, --version]
"""

RETURN = r"""
checksum:
  description: The sha256 of the archive. In check mode it is null when the archive is still to be packed.
  type: str
  returned: success
check_output:
  description: What the program of O(check) printed.
  type: str
  returned: when the build is at O(prefix), and O(check) is given
hint:
  description: What to do next.
  type: str
  returned: failure
log_tail:
  description: The last lines that the program of O(check) printed.
  type: list
  elements: str
  returned: failure
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import prefix as build_prefix
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.hints import hint_for


def pack(module: AnsibleModule) -> dict[str, Any]:
    prefix, archive = module.params["prefix"], module.params["archive"]
    if module.check_mode:
        return {"changed": not os.path.exists(archive), "checksum": None}
    if not build_prefix.is_finished(prefix, module.params["identity"]):
        raise Failure("%s is not a finished build of %s" % (prefix, module.params["identity"]), "Build it first.")
    before = build_prefix.sha256_of(archive) if os.path.isfile(archive) else None
    checksum = build_prefix.pack(prefix, archive)
    return {"changed": checksum != before, "checksum": checksum}


def checked(module: AnsibleModule, prefix: str) -> dict[str, str]:
    """What its program prints, as of a build that was made here: who serves it goes by that."""
    command = module.params["check"]
    return {"check_output": build_prefix.start(prefix, command)} if command else {}


def unpack(module: AnsibleModule) -> dict[str, Any]:
    prefix, identity, checksum = (module.params[name] for name in ("prefix", "identity", "checksum"))
    if build_prefix.is_finished(prefix, identity):
        return {"changed": False, "checksum": checksum, **checked(module, prefix)}
    if module.check_mode:
        return {"changed": True, "checksum": checksum}
    with build_prefix.locked(prefix, waiting=lambda: None):
        build_prefix.clean(prefix)
        if build_prefix.is_finished(prefix, identity):
            return {"changed": True, "checksum": checksum, **checked(module, prefix)}
        try:
            build_prefix.check_sha256(module.params["archive"], checksum)
            # Not to <prefix>.new with its stamp: what is there counts as seen to run.
            build_prefix.unpack(module.params["archive"], prefix + ".work")
            stamp = build_prefix.read_stamp(prefix + ".work")
            if stamp is None or stamp["identity"] != identity:
                raise Failure(
                    "%s holds no build of %s" % (module.params["archive"], identity), "Remove it; it is made anew."
                )
            os.unlink(os.path.join(prefix + ".work", build_prefix.STAMP))
            os.rename(prefix + ".work", prefix + ".new")
            said = checked(module, prefix + ".new")
            build_prefix.publish(prefix, identity, stamp["cmake_args"])
        finally:
            build_prefix.clean(prefix)
    return {"changed": True, "checksum": checksum, **said}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["packed", "unpacked"], "required": True},
            "prefix": {"type": "path", "required": True},
            "identity": {"type": "str", "required": True},
            "archive": {"type": "path", "required": True},
            "checksum": {"type": "str"},
            "check": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[("state", "unpacked", ("checksum",))],
        supports_check_mode=True,
    )
    try:
        result = pack(module) if module.params["state"] == "packed" else unpack(module)
    except Failure as error:
        module.fail_json(msg=str(error), hint=error.hint, log_tail=error.log_tail)
    except OSError as error:
        hint = hint_for(error, "Check the path and its permissions.")
        module.fail_json(msg="build archive: %s" % error, hint=hint, log_tail=[])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
