# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an engine does now, by its metrics."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import gauges

VLLM = """# HELP vllm:num_requests_running Number of requests
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a{b} c"} 3.0
vllm:num_requests_running{engine="1",model_name="a{b} c"} 4.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prompt_tokens_total{engine="0",model_name="m"} 1000.0
vllm:generation_tokens_total{engine="0",model_name="m"} 500.0
vllm:generation_tokens_created{engine="0",model_name="m"} 1.7e+09
"""
SGLANG = """sglang:num_running_reqs{model_name="m"} 5
sglang:num_queue_reqs{model_name="m"} 0
sglang:token_usage{model_name="m"} 0.28
sglang:generation_tokens_total{model_name="m"} 7
"""
# Public samples: two data-parallel ranks of two tensor-parallel ones each; eight ranks of context parallelism.
RANKS = """sglang:num_running_reqs{dp_rank="0",engine_type="unified",model_name="glm",tp_rank="0"} 2.0
sglang:num_running_reqs{dp_rank="0",engine_type="unified",model_name="glm",tp_rank="1"} 2.0
sglang:num_running_reqs{dp_rank="1",engine_type="unified",model_name="glm",tp_rank="2"} 1.0
sglang:num_running_reqs{dp_rank="1",engine_type="unified",model_name="glm",tp_rank="3"} 1.0
sglang:num_queue_reqs{engine_type="unified",model_name="glm",pp_rank="0",tp_rank="0"} 5
sglang:num_queue_reqs{engine_type="unified",model_name="glm",pp_rank="1",tp_rank="0"} 4
"""
LLAMA = """llamacpp:requests_processing 1
llamacpp:requests_deferred 9
llamacpp:tokens_predicted_total 12
llamacpp:prompt_tokens_total 34
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (VLLM, (7.0, 2.0, 0.75, 500.0, 1000.0)),
        (SGLANG, (5.0, 0.0, 0.28, 7.0, None)),
        (LLAMA, (1.0, 9.0, None, 12.0, 34.0)),
        (RANKS, (3.0, 5.0, None, None, None)),
        (RANKS + 'sglang:num_running_reqs{dp_rank="1",tp_rank="2"} NaN', (None, 5.0, None, None, None)),
        # As a collector that allows no colon writes them, and as Ray does.
        ("vllm_num_requests_running 2\nray_vllm:num_requests_waiting 3", (2.0, 3.0, None, None, None)),
        ("", (None,) * 5),
        ("<html>no metrics</html>", (None,) * 5),
        # The older name of the same figure, and a figure that is none.
        (
            "vllm:gpu_cache_usage_perc 0.5\nvllm:num_requests_running NaN\nvllm:num_requests_waiting -1",
            (None, None, 0.5, None, None),
        ),
        ("vllm:kv_cache_usage_perc 45", (None,) * 5),
    ],
)  # fmt: skip
def test_read(text, expected):
    assert tuple(gauges.read(text)) == expected


def reading(generated, prompted=0.0):
    return gauges.Gauges(None, None, None, generated, prompted)


def test_rates():
    rates = gauges.Rates(10.0)
    assert rates.see(reading(100.0), 0.0) == {"generated_s": None, "prompted_s": None}
    assert rates.see(reading(150.0, 20.0), 2.0) == {"generated_s": 25.0, "prompted_s": 10.0}
    # A step every ten seconds is spread over them.
    for now in range(4, 12, 2):
        rates.see(reading(150.0, 20.0), float(now))
    assert rates.see(reading(250.0, 20.0), 12.0)["generated_s"] == 10.0
    # The engine was started anew: what was before says nothing.
    assert rates.see(reading(5.0), 14.0)["generated_s"] is None
    assert rates.see(reading(25.0), 16.0)["generated_s"] == 10.0
    # Nobody counts any more; two readings in one moment.
    assert rates.see(reading(None, None), 18.0) == {"generated_s": None, "prompted_s": None}


def test_no_rate_of_no_time():
    rates = gauges.Rates()
    rates.see(reading(1.0), 5.0)
    assert rates.see(reading(2.0), 5.0)["generated_s"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # vLLM 0.32.0; its prompts that were computed are not what was looked up.
        (
            'vllm:prefix_cache_queries_total{engine="0"} 900.0\nvllm:prefix_cache_queries_total{engine="1"} 100.0\n'
            'vllm:prefix_cache_hits_total{engine="0"} 250.0\nvllm:prefix_cache_hits_total{engine="1"} 50.0\n'
            "vllm:prompt_tokens_total 7.0",
            (1000.0, 300.0),
        ),
        ("vllm:gpu_prefix_cache_queries_total 10\nvllm:gpu_prefix_cache_hits_total 4", (10.0, 4.0)),
        ("sglang:prompt_tokens_total 40\nsglang:cached_tokens_total 10", (40.0, 10.0)),
        (VLLM, None),
        (LLAMA, None),
        ("", None),
        ("vllm:prefix_cache_queries_total 5\nvllm:prefix_cache_hits_total NaN", None),
        ("vllm:prefix_cache_hits_total 5", None),
    ],
)
def test_cached(text, expected):
    found = gauges.cached(text)
    assert (None if found is None else tuple(found)) == expected


def test_share_of_the_prompts_that_were_found():
    before = gauges.Cached(100.0, 10.0)
    assert gauges.Cached(300.0, 60.0).share_since(before) == 0.25
    assert before.share_since(before) == 0.0  # without a cache nothing is looked up
    # Started anew in between.
    assert gauges.Cached(50.0, 10.0).share_since(before) is None
    assert gauges.Cached(300.0, 5.0).share_since(before) is None
