#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_model
short_description: A model in Ollama's store, over its HTTP API
version_added: 1.0.0
description:
  - Makes a model out of a GGUF file of the host or of a model that Ollama pulls, with the parameters and texts that a
    Modelfile would hold, and loads it.
  - What the server has decides whether anything is done. The file is read to hash it once only, and sent only where
    the server has no blob of its digest.
  - An upload that is cut is begun again; Ollama's API cannot continue one. Nothing of a cut upload is ever served.
  - Ollama from 0.30 on writes a model's weights anew when it is made. They are then told by the digest of the model
    that this module has noted in O(state_file).
  - Shows its progress while it runs.
author:
  - The dsdeploy developers (@dsdeploy)
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.progress
  - dsdeploy.llm.supervisor
attributes:
  check_mode:
    support: full
    details:
      - Reads what the server has. Where it does not answer yet, or a file is not hashed yet, it says so.
  diff_mode:
    support: full
    details:
      - Shows the model before and after, as lines of a Modelfile.
  idempotent:
    support: full
    details:
      - Loading a model is no change.
options:
  name:
    description: Name of the model in Ollama, with or without a tag.
    type: str
    required: true
  state:
    description: Whether the model is there.
    type: str
    choices: [present, absent]
    default: present
  url:
    description: Base URL of the server.
    type: str
    default: http://127.0.0.1:11434
  path:
    description: GGUF file on the host, one that is not split.
    type: path
  sha256:
    description:
      - The sha256 of O(path), where it is known. Else it is taken from the model store's manifest or O(state_file), as
        long as the file is unchanged since, and computed where neither knows it.
    type: str
  of:
    description: The model's name in the catalog, by which M(dsdeploy.llm.ollama_store) finds it again.
    type: str
  pull:
    description: Model to pull from Ollama's registry, to be served as it is or to make O(name) from.
    type: str
  parameters:
    description:
      - Parameters of the Modelfile, such as V(num_ctx), V(num_gpu), V(temperature), V(stop).
      - A name that Ollama does not know is refused, since Ollama would ignore it.
    type: dict
    default: {}
  template:
    description: Prompt template, in Go's template language. Without it Ollama takes the one that the file has.
    type: str
  system:
    description: System message.
    type: str
  license:
    description: Texts of the licence.
    type: list
    elements: str
  state_file:
    description: File in which digests of files and models are noted. Its directory must exist.
    type: path
    default: /var/lib/dsdeploy/ollama-models.json
  models_dir:
    description:
      - The server's store (OLLAMA_MODELS), where it is on this host. With it, what a cut upload has left there is
        removed before the next one, and the other models there are told.
    type: path
  load:
    description:
      - Load the model into memory. One that was made anew, or that is loaded as it was before, is loaded again.
      - Weights that are loaded by another name are unloaded first, since a server runs them once only.
    type: bool
    default: false
  load_timeout:
    description: Seconds that loading, or one step of making the model, may take.
    type: int
    default: 3600
  cpu_share:
    description:
      - The share (0 to 1) of the model that may lie in the host's memory, as RV(dsdeploy.llm.model_fit#module:fit)
        predicts it. More is a failure, which says why. Negative is not checked. Needs O(load).
    type: float
    default: -1
  layers:
    description: Layers of the model with its output layer, for the reason of such a failure. V(0) is unknown.
    type: int
    default: 0
  context:
    description: Tokens of context of a request that were planned, for the reason of such a failure. V(0) is unknown.
    type: int
    default: 0
  start_timeout:
    description: Seconds to wait for the server to answer. V(0) does not wait.
    type: int
    default: 0
  service:
    description: The server's service, watched while it is waited for. One that keeps dying is a failure at once.
    type: dict
    suboptions:
      name:
        description: Name of the systemd unit (without C(.service)) or of the supervisor program.
        type: str
        required: true
      manager:
        description: The service manager.
        type: str
        choices: [systemd, supervisor]
        default: systemd
      log:
        description: File of its log. Without it the journal is read.
        type: path
  probe:
    description:
      - Change nothing. Answers C(complete=false) where something is to be done.
      - The action plugin asks so first, because a run with nothing to do needs no job in the background.
    type: bool
    default: false
seealso:
  - module: dsdeploy.llm.gguf_merge
  - module: dsdeploy.llm.model_fit
"""

EXAMPLES = r"""
- name: Serve DeepSeek R1 with all its layers on the GPUs
  dsdeploy.llm.ollama_model:
    name: DeepSeek-R1-Q4_K_M
    path: /data/models/DeepSeek-R1-Q4_K_M.gguf
    parameters:
      num_gpu: 62
      num_ctx: 8192
      temperature: 0.6
    template: "<｜User｜>{{ '{{ .System }} {{ .Prompt }}' }}<｜Assistant｜>"
    load: true
    cpu_share: 0

- name: Pull one
  dsdeploy.llm.ollama_model:
    name: deepseek-r1:7b
    pull: deepseek-r1:7b

- name: Remove it
  dsdeploy.llm.ollama_model:
    name: deepseek-r1:7b
    state: absent
"""

RETURN = r"""
digest:
  description: Digest of the model in Ollama. Null where it is not there, or not yet.
  returned: success
  type: str
differences:
  description: What was not as wanted, or is not in check mode.
  returned: success
  type: list
  elements: str
  sample: [parameter num_gpu]
hashed_bytes:
  description: Bytes of O(path) that were read to hash it.
  returned: success
  type: int
uploaded_bytes:
  description: Bytes that were sent to the server.
  returned: success
  type: int
loaded:
  description: The model's entry in C(/api/ps). Null where it was not to be loaded.
  returned: success
  type: dict
copies:
  description:
    - Other models in O(models_dir), with the bytes that would get free with them, and whether this module made them.
  returned: success
  type: list
  elements: dict
  sample: [{name: "old:latest", bytes: 404430188544, ours: true}]
complete:
  description: Whether nothing was to be done.
  returned: with O(probe)
  type: bool
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: >-
    V(usage), V(preflight), or V(verify) for a server that does not start and a model that was loaded elsewhere than
    predicted.
  returned: failure
  type: str
log_tail:
  description: The last lines of the service's log.
  returned: failure, with O(service)
  type: list
  elements: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import ollama
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import HEALTH_PATHS
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama_api import Api
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama_job import Job
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.watched import log_tail, wait_for


def run(module: AnsibleModule, api: Api, wanted: ollama.Modelfile) -> Dict[str, Any]:
    params = module.params
    with Progress("model %s" % params["name"]) as progress:
        if params["start_timeout"] and not module.check_mode:
            path, config = HEALTH_PATHS["ollama"], params["supervisor_config"]
            wait_for(api.endpoint, path, params["start_timeout"], params["service"], config)
        job = Job(params, api, wanted, progress, module.warn, module.check_mode)
        return job.present() if params["state"] == "present" else job.absent()


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            name=dict(type="str", required=True),
            state=dict(type="str", choices=["present", "absent"], default="present"),
            url=dict(type="str", default="http://127.0.0.1:11434"),
            path=dict(type="path"),
            sha256=dict(type="str"),
            of=dict(type="str"),
            pull=dict(type="str"),
            parameters=dict(type="dict", default={}),
            template=dict(type="str"),
            system=dict(type="str"),
            license=dict(type="list", elements="str"),
            state_file=dict(type="path", default="/var/lib/dsdeploy/ollama-models.json"),
            models_dir=dict(type="path"),
            load=dict(type="bool", default=False),
            load_timeout=dict(type="int", default=3600),
            cpu_share=dict(type="float", default=-1),
            layers=dict(type="int", default=0),
            context=dict(type="int", default=0),
            start_timeout=dict(type="int", default=0),
            service=dict(
                type="dict",
                options=dict(
                    name=dict(type="str", required=True),
                    manager=dict(type="str", choices=["systemd", "supervisor"], default="systemd"),
                    log=dict(type="path"),
                ),
            ),
            supervisor_config=dict(type="path", default=places.SUPERVISOR_CONFIG),
            probe=dict(type="bool", default=False),
        ),
        mutually_exclusive=[("path", "pull")],
        required_if=[("state", "present", ("path", "pull"), True)],
        supports_check_mode=True,
    )
    params = module.params
    try:
        ollama.check_name(params["name"])
        parameters = ollama.typed_parameters(params["parameters"])
        wanted = ollama.Modelfile(parameters, params["template"], params["system"], params["license"])
        api = Api(params["url"])
    except ValueError as error:
        module.fail_json(msg=str(error), hint="Correct it and run this again.", error_kind="usage")
    try:
        result = run(module, api, wanted)
    except Failure as error:
        module.fail_json(**dict(dict(log_tail=log_tail(params["service"])), **error.fields()))
    except OSError as error:
        module.fail_json(
            msg="ollama_model: %s" % error, hint="Check the path and its permissions.", error_kind="preflight"
        )
    if not params["probe"]:
        del result["complete"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
