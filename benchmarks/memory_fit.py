#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""KV cache of the catalog's models: dsdeploy beside hf-mem (PyPI), at one context.

    uv run --with hf-mem --with pyyaml benchmarks/memory_fit.py [CONTEXT]

hf-mem's own function is called with each model's config.json numbers, so that no hub is needed.
"""

import sys
from pathlib import Path

import yaml
from hf_mem.safetensors.kv_cache import compute_safetensors_kv_cache_size

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".collections"))
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape  # noqa: E402
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.config_facts import NAMES  # noqa: E402


def config_of(facts):
    """The catalog's numbers under their names in config.json."""
    return {NAMES[key][0]: value for key, value in facts.items() if key in NAMES}


def main():
    context = int(sys.argv[1]) if len(sys.argv) > 1 else 8192
    text = (ROOT / "roles/model/defaults/main/catalog.yml").read_text()
    catalog = yaml.safe_load(text.replace("{{ dsdeploy_data_dir }}", "/var/lib/dsdeploy"))["model_catalog"]
    print(f"| model, bf16 KV of {context} tokens | dsdeploy GiB | hf-mem GiB | hf-mem / dsdeploy |")
    print("|---|---|---|---|")
    for name, entry in catalog.items():
        if name.startswith("tiny-") or entry["format"] != "safetensors":
            continue
        shape = model_shape.from_catalog(dict(entry, name=name))
        ours = model_shape.kv_bytes_per_token(shape)["value"] * context
        theirs = compute_safetensors_kv_cache_size(config_of(entry["architecture"]), "BF16", context)
        print(f"| {name} | {ours / 2**30:.2f} | {theirs / 2**30:.2f} | {theirs / ours:.1f} |")


if __name__ == "__main__":
    main()
