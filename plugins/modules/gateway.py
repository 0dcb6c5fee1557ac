#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway
short_description: The gateway before the engines, its files as they are wanted
version_added: 1.0.0
description:
  - Writes what HAProxy needs to stand before the engines of a host.
    Its configuration, its certificate, the maps of its keys.
  - What it stands before it reads from the deployment records of the host.
  - A gateway that runs takes up what changed, without an end to its streams. It is started by M(dsdeploy.llm.service).
  - Of a missing certificate a self-signed one is made, and made anew thirty days before it ends.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Of files with secrets the path is shown, not the content.
  idempotent:
    support: full
options:
  state:
    description:
      - V(checked) looks whether the values can be meant.
      - V(verified) asks the gateway that runs, with the host's own key and without one.
      - Neither changes anything.
    type: str
    choices: [present, checked, verified]
    default: present
  found:
    description: What V(state=present) has returned as RV(gateway). Needed for V(state=verified).
    type: dict
  timeout:
    description: Seconds that V(state=verified) waits for engines that answer at most.
    type: int
    default: 60
  program:
    description: Path of HAProxy.
    type: path
    default: /usr/sbin/haproxy
  user:
    description: System user that it runs as, made when it is missing.
    type: str
    default: dsdeploy-gateway
  data_dir:
    description: Its own directory is made in this one, with its sockets.
    type: path
    default: /var/lib/dsdeploy
  engine:
    description: Engine that answers at the root of the URL. Each one answers below its name, too.
    type: str
    required: true
  exposed:
    description: Whether others than this host can reach it.
    type: bool
    default: false
  host:
    description: Address that it listens on where it is exposed, else it is 127.0.0.1.
    type: str
    default: 0.0.0.0
  port:
    description: TCP port.
    type: int
    default: 8443
  networks:
    description: Networks that may come where it is exposed. Connections of others are closed.
    type: list
    elements: str
    default: []
  open_to_all:
    description: Whether O(networks) may be everybody.
    type: bool
    default: false
  metrics_port:
    description: TCP port on loopback of its metrics for Prometheus.
    type: int
    default: 8405
  names:
    description:
      - Host names and addresses by which others come, the first for the public URL. Its own address by default.
    type: list
    elements: str
    default: []
  certificate:
    description: PEM file on the host with a certificate and its chain. Self-signed without one.
    type: path
  certificate_key:
    description: PEM file on the host with its key.
    type: path
  replicas:
    description: Engines on other addresses, beside that of this host.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name.
        type: str
        required: true
      engine:
        description: Which engine it is one more of.
        type: str
        required: true
      host:
        description: Its address.
        type: str
        required: true
      port:
        description: Its port.
        type: int
        required: true
      tls:
        description: Whether it speaks TLS. It must prove its name, or it gets nothing.
        type: bool
        default: false
      ca_file:
        description:
          - PEM file on the host with the authorities that may have signed its certificate, or with that certificate
            itself where it is self-signed. By default it is the host's own list.
        type: path
      server_name:
        description: The name that its certificate must be for, O(replicas[].host) by default. It is no address.
        type: str
      streams:
        description: Requests that it gets at a time.
        type: int
  replica_key:
    description:
      - The engine's API key, where the gateways of O(replicas) come here as this one goes to them.
        What they bring is answered by this host.
    type: str
  extra_paths:
    description: What else passes, such as C(POST /v1/embeddings).
    type: list
    elements: str
    default: []
  max_body_mib:
    description: Largest body, in MiB.
    type: int
    default: 64
  max_connections:
    description: Connections at a time.
    type: int
    default: 8000
  address_connections:
    description: Connections at a time of one address.
    type: int
    default: 1024
  max_streams:
    description: Requests that one replica gets at a time, where the engine does not say less. More wait.
    type: int
    default: 1024
  queue_timeout:
    description: Seconds that a request waits for its turn at most.
    type: int
    default: 300
  header_timeout:
    description: Seconds in which a request's header, and a body of up to 64 KiB, must be here.
    type: int
    default: 15
  client_timeout:
    description: Seconds after which a client that takes nothing of its answer is cut.
    type: int
    default: 60
  server_timeout:
    description: Seconds that an engine may be silent.
    type: int
    default: 3600
  key_streams:
    description: Requests under way of one key, where the key says nothing else.
    type: int
    default: 256
  key_requests_per_minute:
    description: Requests a minute of one key, where the key says nothing else.
    type: int
    default: 6000
seealso:
  - module: dsdeploy.llm.gateway_key
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Stand before what is deployed, for one network
  dsdeploy.llm.gateway:
    engine: vllm
    exposed: true
    networks: [10.0.0.0/8]
    names: [llm.example.org]
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode, one line each.
  returned: success
  type: list
  elements: str
seen:
  description: What was asked, and the HTTP status of each answer.
  returned: state verified
  type: dict
gateway:
  description: The gateway, as it is noted in its deployment record.
  returned: state present
  type: dict
  contains:
    version:
      description: Version of HAProxy; empty where it is still to be installed.
      type: str
    endpoint:
      description: Its URL on the host itself.
      type: str
    public_endpoint:
      description: Its URL for others, or V(null).
      type: str
    fingerprint:
      description: SHA-256 of its certificate.
      type: str
    self_signed:
      description: Whether it made its certificate itself.
      type: bool
    metrics:
      description: URL of its metrics, on the host itself.
      type: str
    engines:
      description: Path below which each engine answers.
      type: dict
    models:
      description: What they serve.
      type: list
      elements: str
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(usage) for a value that is wrong, V(preflight) or V(service).
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import apply, probe
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.users import came_by

_REPLICA = {
    "name": {"type": "str", "required": True},
    "engine": {"type": "str", "required": True},
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "tls": {"type": "bool", "default": False},
    "ca_file": {"type": "path"},
    "server_name": {"type": "str"},
    "streams": {"type": "int"},
}


def arguments() -> dict:
    return {
        "state": {"type": "str", "choices": ["present", "checked", "verified"], "default": "present"},
        "found": {"type": "dict"},
        "timeout": {"type": "int", "default": 60},
        "program": {"type": "path", "default": "/usr/sbin/haproxy"},
        "user": {"type": "str", "default": "dsdeploy-gateway"},
        "data_dir": {"type": "path", "default": "/var/lib/dsdeploy"},
        "engine": {"type": "str", "required": True},
        "exposed": {"type": "bool", "default": False},
        "host": {"type": "str", "default": "0.0.0.0"},
        "port": {"type": "int", "default": 8443},
        "networks": {"type": "list", "elements": "str", "default": []},
        "open_to_all": {"type": "bool", "default": False},
        "metrics_port": {"type": "int", "default": 8405},
        "names": {"type": "list", "elements": "str", "default": []},
        "certificate": {"type": "path"},
        "certificate_key": {"type": "path", "no_log": False},
        "replicas": {"type": "list", "elements": "dict", "default": [], "options": _REPLICA},
        "replica_key": {"type": "str", "no_log": True},
        "extra_paths": {"type": "list", "elements": "str", "default": []},
        "max_body_mib": {"type": "int", "default": 64},
        "max_connections": {"type": "int", "default": 8000},
        "address_connections": {"type": "int", "default": 1024},
        "max_streams": {"type": "int", "default": 1024},
        "queue_timeout": {"type": "int", "default": 300},
        "header_timeout": {"type": "int", "default": 15},
        "client_timeout": {"type": "int", "default": 60},
        "server_timeout": {"type": "int", "default": 3600},
        "key_streams": {"type": "int", "default": 256, "no_log": False},
        "key_requests_per_minute": {"type": "int", "default": 6000, "no_log": False},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=arguments(), required_if=[("state", "verified", ["found"])], supports_check_mode=True
    )
    gateway = apply.Gateway(module.params, module.check_mode, came_by())
    try:
        if module.params["state"] == "checked":
            gateway.check()
            module.exit_json(changed=False, changes=[])
        if module.params["state"] == "verified":
            with open(apply.PROBE_KEY, encoding="ascii") as handle:
                key = handle.read().strip()
            p = module.params
            module.exit_json(changed=False, changes=[], seen=probe.verify(p["found"], p["port"], key, p["timeout"]))
        found = gateway.configure()
    except Failure as failure:
        module.fail_json(**failure.fields())
    except OSError as error:
        module.fail_json(msg="gateway: %s: %s" % (error.filename or "a file", error.strerror), error_kind="preflight")
    for warning in gateway.warnings:
        module.warn(warning)
    changes = gateway.desired.changes
    module.exit_json(changed=bool(changes), changes=changes, diff=gateway.desired.diffs, gateway=found)


if __name__ == "__main__":
    main()
