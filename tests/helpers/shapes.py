# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shape of a model that the catalog does not know, on the way that the product takes to it."""

import json
from types import SimpleNamespace

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import own_numbers


def of_config(config, weight_bytes=10**10, name="m"):
    """Of a config.json, a dict."""
    return shape.from_catalog(dict(own_numbers.of_config(json.dumps(config)), name=name, bytes=weight_bytes))


def of_keys(keys, tensors=(), name="m"):
    """Of the keys of a GGUF header, a dict, and the names of the tensors."""
    pairs = {key.encode(): value for key, value in keys.items()}
    header = SimpleNamespace(
        value=keys.get, pairs=pairs, tensors=[SimpleNamespace(name=one.encode()) for one in tensors]
    )
    return shape.from_catalog(dict(own_numbers.of_header(header), name=name, bytes=10**10))
