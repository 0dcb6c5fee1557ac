#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By what the gateways of replicas know each other."""

from __future__ import annotations

DOCUMENTATION = r"""
module: replica_certificate
short_description: The certificates by which the gateways of replicas know each other
version_added: 1.0.0
description:
  - Each gateway has a self-signed certificate for the others, besides the one that clients see.
    Its key never leaves the host.
  - A gateway sends requests, and the engine's API key, only to what shows the certificate that is known of a replica.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Of files with a key the path is shown, not the content.
  idempotent:
    support: full
options:
  state:
    description:
      - V(own) makes the host's own where it is missing, and returns it.
      - V(known) notes those of O(certificates). A gateway that runs takes them up, without an end to its streams.
    type: str
    choices: [own, known]
    required: true
  name:
    description: The host's name among the replicas, for V(state=own).
    type: str
  renew:
    description:
      - Whether its own may be made anew, a year before it ends.
      - Not where one of the replicas, which knows it, is not in this run.
    type: bool
    default: false
  certificates:
    description: PEM by the replica's name, for V(state=known).
    type: dict
    default: {}
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Have the certificate by which the other replicas know this one
  dsdeploy.llm.replica_certificate:
    state: own
    name: gpu1
  register: own

- name: Know the others
  dsdeploy.llm.replica_certificate:
    state: known
    certificates:
      gpu2: "{{ hostvars.gpu2.own.certificate }}"
"""

RETURN = r"""
certificate:
  description: The host's own, in PEM, without its key. Empty in check mode where it is still to be made.
  returned: state own
  type: str
place:
  description: What tells this host from others, whatever their names.
  returned: state own
  type: str
changes:
  description: What was changed, or would be in check mode, one line each.
  returned: success
  type: list
  elements: str
hint:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import trust
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway.runtime import Runtime
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import lock
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import deployments


def _know(desired: Desired, certificates: dict) -> None:
    if not trust.know(desired, certificates):
        return
    gateway = next((found for found in deployments.read_records()[0] if found["engine"] == "gateway"), None)
    runtime = Runtime(str(gateway["state_dir"])) if gateway else None
    if runtime and runtime.workers() is not None:
        desired.change("load the other replicas into the gateway; its streams go on", runtime.reload)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["own", "known"], "required": True},
            "name": {"type": "str"},
            "renew": {"type": "bool", "default": False},
            "certificates": {"type": "dict", "default": {}},
        },
        required_if=[("state", "own", ["name"])],
        supports_check_mode=True,
    )
    p = module.params
    desired = Desired(module.check_mode)
    found = {}
    try:
        if p["state"] == "own":
            own = trust.own_certificate(desired, p["name"], p["renew"])
            found.update(certificate=own["certificate"], place=lock.place())
            if own["ends_soon"]:
                module.warn(
                    "%s: the certificate by which the other replicas know it ends in less than %d days: "
                    "run `dsdeploy up` for all hosts of its replicas" % (p["name"], trust.WARN_DAYS)
                )
        else:
            _know(desired, p["certificates"])
    except Failure as failure:
        module.fail_json(**failure.fields())
    except (OSError, UnicodeDecodeError) as error:
        module.fail_json(msg="the certificates of replicas: %s" % error, error_kind="preflight")
    module.exit_json(changed=bool(desired.changes), changes=desired.changes, diff=desired.diffs, **found)


if __name__ == "__main__":
    main()
