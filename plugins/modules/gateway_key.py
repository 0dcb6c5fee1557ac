#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_key
short_description: The API keys of the gateway of a host
version_added: 1.0.0
description:
  - Adds a key by its SHA-256, takes one away, or lists them. No key itself comes to the host.
  - A gateway that runs knows at once, in all its processes. No stream ends, also not of a key that is taken away; its
    next request is refused.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - The name of the key alone.
  idempotent:
    support: none
    details:
      - A key that is there is not added again, and one that is not there cannot be taken away. Both are failures.
options:
  state:
    description: V(listed) changes nothing.
    type: str
    choices: [present, absent, listed]
    default: present
  name:
    description: Name of the key, by which the access log calls who uses it. Needed but for V(state=listed).
    type: str
  sha256:
    description:
      - SHA-256 of the key, 64 hexadecimal digits. Needed for V(state=present).
      - The key is to be random, such as C(openssl rand -hex 32) makes.
        Of a word that somebody chose the SHA-256 is no secret.
    type: str
  requests_per_minute:
    description: Requests a minute, else as the gateway's O(ignore:gateway_key_requests_per_minute).
    type: int
  streams:
    description: Requests under way, else as the gateway's O(ignore:gateway_key_streams).
    type: int
  models:
    description:
      - Models that it may use, by their names in the deployment records; all by default.
      - Which model Ollama is asked for stands in the body alone, which is not looked at.
        A key with models does not pass there.
    type: list
    elements: str
    default: []
  replace:
    description: Whether a key of that name may be there already.
    type: bool
    default: false
seealso:
  - module: dsdeploy.llm.gateway
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
# key=$(openssl rand -hex 32); printf %s "$key" | sha256sum
- name: Let a team in
  dsdeploy.llm.gateway_key:
    name: search-team
    sha256: "{{ search_team_sha256 }}"
    streams: 8

- name: Lock it out
  dsdeploy.llm.gateway_key:
    name: search-team
    state: absent
"""

RETURN = r"""
keys:
  description: The keys afterwards, sorted by name, without their hashes and without the host's own.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    created:
      description: When it was added, UTC.
      type: str
    requests_per_minute:
      description: Its own limit, or V(null).
      type: int
    streams:
      description: Its own limit, or V(null).
      type: int
    models:
      description: The models that it may use, or V(null) for all.
      type: list
      elements: str
changes:
  description: What was changed, or would be in check mode, one line each.
  returned: success
  type: list
  elements: str
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(usage) for a name that is there already, or is not there; V(preflight) where there is no gateway.
  returned: failure
  type: str
"""

import datetime

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import apply, keyring, keys
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent", "listed"], "default": "present"},
            "name": {"type": "str"},
            "sha256": {"type": "str", "no_log": True},
            "requests_per_minute": {"type": "int"},
            "streams": {"type": "int"},
            "models": {"type": "list", "elements": "str", "default": []},
            "replace": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ["name", "sha256"]), ("state", "absent", ["name"])],
        supports_check_mode=True,
    )
    p = module.params
    desired = Desired(module.check_mode)
    try:
        if p["state"] == "listed":
            found = [key for key in keyring.read() if key["name"] not in keys.OWN]
        else:
            created = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            limits = {name: p[name] for name in ("requests_per_minute", "streams", "models")}
            found = apply.change_key(
                p["state"], keys.check_name(p["name"]), desired, p["sha256"] or "", created, limits, p["replace"]
            )
    except Failure as failure:
        module.fail_json(**failure.fields())
    except OSError as error:
        module.fail_json(msg="gateway: %s: %s" % (error.filename or "a file", error.strerror), error_kind="preflight")
    shown = [
        {name: value for name, value in key.items() if name != "sha256"}
        for key in sorted(found, key=lambda key: key["name"])
    ]
    # One change for people: which files hold it is not their business.
    changed = bool(desired.changes)
    what = "%s key %s" % ("add" if p["state"] == "present" else "revoke", p["name"])
    module.exit_json(changed=changed, changes=[what] if changed else [], keys=shown, diff={"prepared": what + "\n"})


if __name__ == "__main__":
    main()
