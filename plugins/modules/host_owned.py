#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_owned
short_description: Note packages of the distribution that are installed for dsdeploy
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Notes in C(/etc/dsdeploy/owned.json) which packages were missing and are installed now, so that the last
    C(down --purge) names them. They are not removed, as others may need them by then.
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
  packages:
    description: Their names.
    type: list
    elements: str
    required: true
seealso:
  - module: dsdeploy.llm.service
"""

EXAMPLES = r"""
- name: Note what is about to be installed
  dsdeploy.llm.host_owned:
    packages: [zstd]
"""

RETURN = r"""
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(preflight), where the notes cannot be read or written.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import owned


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"packages": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    try:
        notes = owned.load()
        new = [name for name in module.params["packages"] if name not in notes["packages"]]
        if new and not module.check_mode:
            notes["packages"].update({name: {} for name in new})
            owned.save(notes)
    except Failure as failure:
        module.fail_json(**failure.fields())
    except OSError as error:
        module.fail_json(msg="%s cannot be written: %s" % (places.OWNED, error.strerror), error_kind="preflight")
    module.exit_json(changed=bool(new))


if __name__ == "__main__":
    main()
