#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_owned
short_description: Note what is about to be made on a host for dsdeploy
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Notes in C(/etc/dsdeploy/owned.json) which packages were missing and are installed now, so that the last
    C(down --purge) names them. They are not removed, as others may need them by then.
  - Notes there, too, what a deployment is going to make before its record says so, so that C(down --purge) finds what a
    run that did not come to its end has left.
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
    default: []
  begun:
    description:
      - Deployments that are about to be made, as RV(dsdeploy.llm.preflight#module:begun) tells them.
      - Those that are null are left out.
    type: list
    elements: raw
    default: []
seealso:
  - module: dsdeploy.llm.preflight
  - module: dsdeploy.llm.service
"""

EXAMPLES = r"""
- name: Note what is about to be installed
  dsdeploy.llm.host_owned:
    packages: [zstd]

- name: Note what this run is going to make
  dsdeploy.llm.host_owned:
    begun: ["{{ look.begun }}"]
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

import copy

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import begun, owned


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "begun": {"type": "list", "elements": "raw", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        notes = owned.load()
        before = copy.deepcopy(notes)
        for name in module.params["packages"]:
            notes["packages"].setdefault(name, {})
        for wanted in filter(None, module.params["begun"]):
            note = dict(wanted)
            service = note.pop("service")
            begun.check(service, note)
            notes["begun"][service] = begun.joined(notes["begun"].get(service), note)
        changed = notes != before
        if changed and not module.check_mode:
            owned.save(notes)
    except (ValueError, KeyError, TypeError) as error:
        module.fail_json(msg="begun: %s" % error, error_kind="usage")
    except Failure as failure:
        module.fail_json(**failure.fields())
    except OSError as error:
        module.fail_json(msg="%s cannot be written: %s" % (places.OWNED, error.strerror), error_kind="preflight")
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
