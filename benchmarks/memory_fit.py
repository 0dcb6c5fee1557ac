#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What public models keep of a token: hf-mem (PyPI) beside the planner, the table of docs/plan.md.

    uv run --with hf-mem==0.5.6 benchmarks/memory_fit.py [CONTEXT]

hf-mem's own function is called with each model's config.json (tests/unit/fixtures/configs), so that no hub is needed.
"""

import json
import sys
from pathlib import Path

from hf_mem.safetensors.kv_cache import compute_safetensors_kv_cache_size

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".collections"))
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape  # noqa: E402
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.config_facts import facts_of  # noqa: E402

MODELS = {
    "llama-3.1-8b": "",
    "qwen2.5-7b": "",
    "qwen3-8b": "",
    "qwen3-235b-a22b": "",
    "minimax-m2": "",
    "deepseek-r1": " (MLA)",
    "deepseek-v3.2": " (MLA, indexer)",
    "gpt-oss-120b": " (half windows of 128)",
    "gemma-3-27b": " (5 of 6 windows of 1,024)",
    "mistral-7b-v0.1": " (windows of 4,096)",
    "qwen3-next-80b-a3b": " (3 of 4 states)",
    "jamba-v0.1": " (7 of 8 states)",
    "deepseek-v4-flash": "",
}


def main():
    context = int(sys.argv[1]) if len(sys.argv) > 1 else 8192
    print("| model | hf-mem | here | hf-mem / here |")
    print("| --- | --- | --- | --- |")
    for name, kind in MODELS.items():
        config = json.loads((ROOT / f"tests/unit/fixtures/configs/{name}.json").read_text())["config"]
        text = config.get("text_config", config)
        theirs = compute_safetensors_kv_cache_size(text, "BF16", context) / context
        kept = model_shape.kept(
            model_shape.from_catalog({"name": name, "architecture": facts_of(config), "bytes": 1}), context
        )["value"]
        ours, ratio = (
            ("not known", "") if kept is None else (f"{kept / context:,.0f}", f"{theirs * context / kept:.2f}")
        )
        print(f"| {name}{kind} | {theirs:,.0f} | {ours} | {ratio} |".replace("|  |", "| |"))


if __name__ == "__main__":
    main()
