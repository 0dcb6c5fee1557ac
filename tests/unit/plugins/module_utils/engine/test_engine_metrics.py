# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import metrics as engine_metrics

TEXT = """# HELP vllm:inter_token_latency_seconds Histogram of inter-token latency in seconds.
# TYPE vllm:inter_token_latency_seconds histogram
vllm:inter_token_latency_seconds_bucket{engine="0",le="0.01",model_name="tiny"} 40.0
vllm:inter_token_latency_seconds_count{engine="0",model_name="tiny"} 60.0
vllm:inter_token_latency_seconds_sum{engine="0",model_name="tiny"} 0.5
vllm:inter_token_latency_seconds_count{engine="1",model_name="tiny"} 40.0
vllm:inter_token_latency_seconds_sum{engine="1",model_name="tiny"} 0.5
python_info{implementation="CPython"} 1.0
nonsense
"""


def test_samples_are_summed_over_their_labels():
    found = engine_metrics.parse(TEXT)
    assert found["inter_token_latency_seconds_count"] == 100.0
    assert found["inter_token_latency_seconds_sum"] == 1.0
    assert found["python_info"] == 1.0


def test_the_speed_is_that_between_two_readings():
    after = engine_metrics.parse(TEXT)
    assert engine_metrics.tokens_per_s({}, after) == 100.0
    before = {"inter_token_latency_seconds_count": 50.0, "inter_token_latency_seconds_sum": 0.9}
    assert engine_metrics.tokens_per_s(before, after) == 500.0
    assert engine_metrics.tokens_per_s(after, after) is None
    assert engine_metrics.tokens_per_s({}, {}) is None


def test_the_older_name_is_understood():
    older = {"time_per_output_token_seconds_count": 10.0, "time_per_output_token_seconds_sum": 0.5}
    assert engine_metrics.tokens_per_s({}, older) == 20.0


def test_names_as_a_collector_without_colons_writes_them():
    name = "request_time_per_output_token_seconds"
    for prefix in ("vllm:", "vllm_", "sglang:", "sglang_", ""):
        text = f'{prefix}{name}_sum{{model="a{{b}},c"}} 0.02\n{prefix}{name}_count{{model="a{{b}},c"}} 1\n'
        assert engine_metrics.tokens_per_s({}, engine_metrics.parse(text)) == 50.0
