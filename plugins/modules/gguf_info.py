#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gguf_info
short_description: Describe a GGUF model by its headers
version_added: 1.0.0
description:
  - Reads the headers of a GGUF file, or of all shards of a set, and checks them on the way as
    M(dsdeploy.llm.gguf_merge) does. The tensor data is not read.
  - Fails, naming the file and the reason, where a file is damaged or cut off, or a set is not complete.
author:
  - The dsdeploy developers (@dsdeploy)
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
options:
  src:
    description: A GGUF file; of a set the first shard, or the directory that holds the set.
    type: path
    required: true
seealso:
  - module: dsdeploy.llm.gguf_merge
"""

EXAMPLES = r"""
- name: Look at a model
  dsdeploy.llm.gguf_info:
    src: /data/models/DeepSeek-R1-Q4_K_M-00001-of-00009.gguf
  register: model

- name: Say how much of it is which type
  ansible.builtin.debug:
    var: model.gguf.tensor_types
"""

RETURN = r"""
gguf:
  description: The model. What the file does not say is null.
  returned: success
  type: dict
  contains:
    architecture:
      description: Architecture, such as V(deepseek2) or V(qwen2).
      type: str
    name:
      description: Name of the model.
      type: str
    version:
      description: Version of the GGUF format.
      type: int
    parameters:
      description: Elements of all tensors together.
      type: int
    quantization:
      description: Quantisation, such as V(Q4_K_M).
      type: str
    tensor_types:
      description: Bytes of tensor data by tensor type.
      type: dict
    tensors:
      description: Number of tensors.
      type: int
    tensor_bytes:
      description: Bytes of tensor data, without padding.
      type: int
    chat_template:
      description: Whether a chat template is present.
      type: bool
    vocabulary:
      description: Number of tokens.
      type: int
    bytes:
      description: Bytes of all files together.
      type: int
    shards:
      description: The files, with V(path), V(bytes) and the number of V(tensors).
      type: list
      elements: dict
    layers:
      description: Number of layers.
      type: int
    context_length:
      description: Longest context in tokens that the model was made for.
      type: int
    embedding_length:
      description: Width of the embedding.
      type: int
    heads:
      description: Attention heads; a list where layers differ.
      type: raw
    kv_heads:
      description: Key/value heads; a list where layers differ.
      type: raw
    key_length:
      description: Elements of a key head.
      type: int
    value_length:
      description: Elements of a value head.
      type: int
    kv_lora_rank:
      description: Rank of the compressed key/value cache, for models with multi-head latent attention.
      type: int
    key_length_mla:
      description: Elements of a key head before compression, for files with split MLA tensors.
      type: int
    value_length_mla:
      description: Elements of a value head before compression, for files with split MLA tensors.
      type: int
    rope_dimensions:
      description: Elements of a head that are rotated.
      type: int
    experts:
      description: Experts in each layer.
      type: int
    experts_used:
      description: Experts used for each token.
      type: int
    experts_shared:
      description: Experts that every token uses.
      type: int
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(preflight).
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import GGUFError
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.summary import summarise


def main():
    module = AnsibleModule(argument_spec=dict(src=dict(type="path", required=True)), supports_check_mode=True)
    try:
        gguf = summarise(module.params["src"])
    except GGUFError as error:
        module.fail_json(msg=str(error), hint="replace the file by a complete one", error_kind="preflight")
    except OSError as error:
        module.fail_json(
            msg="cannot read the model: %s" % error, hint="check the path and its permissions", error_kind="preflight"
        )
    module.exit_json(changed=False, gguf=gguf)


if __name__ == "__main__":
    main()
