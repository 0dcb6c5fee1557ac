# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.vllm_graphs import vllm_graphs


@pytest.mark.parametrize(
    ("settings", "graphs"),
    [
        ({}, 51),  # "Capturing CUDA graphs (FULL): 51/51" of 0.32.0 on H200
        ({"max_num_seqs": 1024}, 51),
        ({"max_num_seqs": "128"}, 35),
        ({"max_num_seqs": 4}, 4),
        ({"max_num_seqs": 1}, 2),
        ({"enforce_eager": True}, 0),
        ({"extra_args": ["--enforce-eager"]}, 0),
        ({"extra_args": ["--cudagraph-capture-sizes", "1", "2"]}, None),
        ({"extra_args": ["--compilation-config", "{}"]}, None),
    ],
)
def test_sizes_with_graphs(settings, graphs):
    assert vllm_graphs("0.32.0", settings) == graphs


def test_an_older_version_does_not_count_them():
    assert vllm_graphs("0.19.1", {}) is None
    assert vllm_graphs("", {}) is None
    assert vllm_graphs("0.26.0", {"enforce_eager": True}) is None


def test_the_recipe_says_the_sequences_where_nothing_is_set():
    assert vllm_graphs("0.32.0", {}, 128) == 35
    assert vllm_graphs("0.32.0", {"max_num_seqs": 4}, 128) == 4
