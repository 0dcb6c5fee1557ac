# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What vLLM 0.32.0 logged on a CPU for 1 GiB, a sequence of 65,536 tokens in batches of 8,192, beside what is planned.

On a CPU states have 32 bits, so the configs of the two with states say so here.
"""

import pytest
import shapes
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape

BASE = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 64, "vocab_size": 512, "max_position_embeddings": 65536, "num_hidden_layers": 4}  # fmt: skip
WINDOWS = {**BASE, "model_type": "mistral", "sliding_window": 8192}
MIXED = {**WINDOWS, "num_hidden_layers": 8, "layer_types": ["sliding_attention", "full_attention"] * 4}
DELTA = {**BASE, "model_type": "qwen3_next", "full_attention_interval": 2, "linear_num_key_heads": 2,
         "linear_key_head_dim": 64, "linear_num_value_heads": 4, "linear_value_head_dim": 64,
         "linear_conv_kernel_dim": 4, "mamba_ssm_dtype": "float32"}  # fmt: skip
BOTH = {**BASE, "model_type": "falcon_h1", "mamba_d_ssm": 512, "mamba_n_heads": 8, "mamba_d_head": 64,
        "mamba_n_groups": 1, "mamba_d_state": 64, "mamba_d_conv": 4, "mamba_ssm_cache_dtype": "float32"}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "logged"),
    [(WINDOWS, 2080895), (MIXED, 418776), (DELTA, 1040447), (BOTH, 514118)],
    ids=["windows", "mixed", "delta", "both"],
)
def test_blocks_and_pages_are_counted_as_vllm_takes_them(config, logged):
    shape = shapes.of_config(config)
    kept = model_shape.kept(shape, 65536, more=8192, block=model_shape.CPU_BLOCK)["value"]
    assert kept == pytest.approx(2**30 * 65536 / logged, rel=0.0005)


def test_states_without_attention_are_one_and_of_their_own_size():
    config = {**BASE, "model_type": "mamba2", "state_size": 64, "conv_kernel": 4, "num_heads": 8, "head_dim": 64}
    shape = shapes.of_config(config)
    one = model_shape.kept(shape, 65536)["value"]
    assert model_shape.kept(shape, 65536, block=model_shape.GPU_BLOCK)["value"] == one > 0
