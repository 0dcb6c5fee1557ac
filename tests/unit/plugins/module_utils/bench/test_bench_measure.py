# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The figures of a load point, from requests whose times are known to the millisecond."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import measure, prompts, sweep, thresholds, watch
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench.measure import Request
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import sampling


def request(sent, ttft, tpot, tokens=11, prompt=100, **other):
    """One answer of `tokens` tokens, each in an event of its own."""
    first = sent + ttft
    last = first + tpot * (tokens - 1)
    values = {
        "events": tokens,
        "gaps": [tpot] * (tokens - 1),
        "prompt_tokens": prompt,
        "output_tokens": tokens,
        **other,
    }
    return Request(sent, first, last, last, **values)


def test_figures_are_those_of_the_definitions():
    requests = [request(0.0, 0.1 * (i + 1), 0.010) for i in range(4)]
    found = measure.summarise(requests, 0.0, 1.0, 4)
    assert found["completed"] == 4 and found["failed"] == 0
    assert found["output_throughput"] == 44.0 and found["request_throughput"] == 4.0
    assert found["total_token_throughput"] == 444.0
    assert found["mean_ttft_ms"] == 250.0 and found["median_ttft_ms"] == 250.0
    assert found["p90_ttft_ms"] == pytest.approx(370.0) and found["p99_ttft_ms"] == pytest.approx(397.0)
    assert found["median_tpot_ms"] == found["p99_tpot_ms"] == 10.0
    assert found["median_itl_ms"] == 10.0 and found["median_e2el_ms"] == 350.0
    assert found["tokens_per_event"] == 1.0


def test_tokens_that_come_together_count_for_tpot_and_not_for_itl():
    # 20 tokens in 5 events, 40 ms apart: 160 ms for the 19 tokens after the first.
    one = Request(0.0, 0.1, 0.26, 0.26, 5, [0.04] * 4, 10, 20)
    found = measure.summarise([one], 0.0, 1.0, 1)
    assert found["median_tpot_ms"] == pytest.approx(160 / 19, abs=0.001)
    assert found["median_itl_ms"] == 40.0 and found["tokens_per_event"] == 4.0


def test_tokens_that_nobody_counted_give_no_rate():
    silent = request(0.0, 0.1, 0.01, output_tokens=None)
    found = measure.summarise([silent, request(0.0, 0.1, 0.01)], 0.0, 1.0, 2)
    assert found["output_throughput"] is None and found["total_output_tokens"] is None
    assert found["tokens_per_event"] is None and found["median_ttft_ms"] == 100.0


def test_failures_are_counted_and_named():
    broken = Request(0.0, None, None, 0.5, 0, (), None, None, error="HTTP 429")
    found = measure.summarise([broken, broken, request(0.0, 0.1, 0.01)], 0.0, 1.0, 3)
    assert (found["completed"], found["failed"], found["errors"]) == (1, 2, {"HTTP 429": 2})
    nothing = measure.summarise([broken], 0.0, 1.0, 1)
    assert nothing["completed"] == 0 and nothing["median_ttft_ms"] is None and nothing["output_throughput"] is None


def test_goodput_asks_for_all_of_the_service_level_and_of_all_requests():
    requests = [request(0.0, 0.1, 0.01), request(0.0, 0.9, 0.01), request(0.0, 0.1, 0.9)]
    failed = Request(0.0, None, None, 0.5, 0, (), None, None, error="HTTP 500")
    found = measure.summarise([*requests, failed], 0.0, 2.0, 4, {"ttft": 500.0, "tpot": 50.0})
    assert found["request_goodput"] == 0.5
    assert found["slo_attainment"] == {"ttft": 0.5, "tpot": 0.5}


def test_the_timeline_spreads_tokens_over_the_answers_time():
    steps = measure.timeline([request(0.0, 1.0, 0.2)], 0.0, 3.0)
    assert [step["at_s"] for step in steps] == [0.0, 1.0, 2.0]
    assert [step["tokens_s"] for step in steps] == pytest.approx([0.0, 5.5, 5.5])
    assert [step["running"] for step in steps] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("wanted", "value"), [(0, 1.0), (50, 2.5), (100, 4.0), (90, 3.7)])
def test_percentiles_lie_between_ranks_as_numpy_has_them(wanted, value):
    assert measure.percentile([1.0, 2.0, 3.0, 4.0], wanted) == pytest.approx(value)


def point(streams, rate, ttft=10.0, tpot=1.0, completed=10):
    return {
        "max_concurrency": streams,
        "output_throughput": rate,
        "median_ttft_ms": ttft,
        "median_tpot_ms": tpot,
        "p99_ttft_ms": ttft * 2,
        "mean_e2el_ms": 1000.0,
        "completed": completed,
    }


def walk(rates, slo=None, **shape):
    """The streams of each point of a sweep whose rates are given by streams, and why it ended."""
    profile, points = sweep.PROFILES["chat"]._replace(**shape), []
    while True:
        step = sweep.following(profile, points, 10.0 * len(points), slo)
        if step.concurrency is None:
            return [item["max_concurrency"] for item in points], step.why
        points.append(point(step.concurrency, **rates(step.concurrency)))


def test_a_sweep_ends_at_saturation():
    streams, why = walk(lambda n: {"rate": min(n, 16) * 10.0})
    assert streams == [1, 2, 4, 8, 16, 32] and "saturated: 32 streams" in why


def test_a_sweep_ends_where_the_service_level_is_broken():
    streams, why = walk(lambda n: {"rate": n * 10.0, "ttft": n * 60.0}, {"ttft": 500.0, "tpot": 50.0})
    assert streams == [1, 2, 4, 8, 16] and why == "at 16 streams the median TTFT is over the service level"


def test_a_sweep_ends_with_its_budget_its_streams_and_what_fails():
    assert walk(lambda n: {"rate": n * 10.0}, budget_s=25)[0] == [1, 2, 4]
    assert walk(lambda n: {"rate": n * 10.0})[0][-1] == sweep.MAX_CONCURRENCY
    streams, why = walk(lambda n: {"rate": n * 10.0, "completed": 0 if n > 2 else 5})
    assert streams == [1, 2, 4] and why == "no request succeeded at 4 streams"


def test_points_that_are_named_are_all_measured():
    streams, why = walk(lambda n: {"rate": 1.0}, concurrency=(1, 64, 8))
    assert streams == [1, 64, 8] and why == "all points measured"


def test_a_request_is_cut_to_the_context():
    cut = sweep.cut_to(sweep.PROFILES["long"], 2048)
    assert cut.prompt_tokens + cut.output_tokens <= 2048 and cut.output_tokens == 512
    assert sweep.cut_to(sweep.PROFILES["long"], None) == sweep.PROFILES["long"]
    # The longest of requests that are not all of one length fits, too.
    varied = sweep.PROFILES["long"]._replace(range_ratio=0.5)
    assert sweep.PROFILES["long"].fits(9300) and not varied.fits(9300)
    for context in (10, 2048, 9300, 13824):
        assert context < 100 or sweep.cut_to(varied, context).fits(context), context
    assert sweep.cut_to(varied, 13824) == varied


def test_wrong_numbers_are_named():
    assert len(sweep.problems({"concurrency": [0, 4096], "prompt_tokens": -1, "budget_s": 0})) == 4
    assert sweep.problems({"concurrency": [1, 1024], "prompt_tokens": 1, "budget_s": 1}) == []
    for wrong in (-0.1, 1.0, float("nan")):
        assert sweep.problems({"range_ratio": wrong}) == [f"range_ratio: {wrong} is not between 0 and 0.95"]


def test_no_two_prompts_are_alike_and_their_length_is_exact():
    supply = prompts.Prompts(256, pool=range(5000))
    taken = [tuple(supply.take()) for _i in range(50)]
    assert len(set(taken)) == 50 and {len(prompt) for prompt in taken} == {256}
    # Nor those of another run: there is no seed that it could share.
    assert tuple(prompts.Prompts(256, pool=range(5000)).take()) not in taken


def test_a_shared_prefix_is_shared_also_by_processes():
    supply = prompts.Prompts(100, pool=range(5000), shared=75)
    first = supply.take()
    supply.reseed()
    second = supply.take()
    assert first[:75] == second[:75] and first[75:] != second[75:] and len(second) == 100


def test_prompts_of_text_learn_how_long_they_are():
    supply = prompts.Prompts(130)
    before = len(supply.take().split())
    supply.learn_ratio(260)
    assert not supply.exact and before == 100 and len(supply.take().split()) == 50


@pytest.mark.parametrize(
    ("rate", "ttft", "limits", "said"),
    [
        (10.0, 5.0, (9.0, 20.0), []),
        (10.0, 5.0, (11.0, None), ["output tokens/s: 10.0, wanted at least 11"]),
        (None, 5.0, (11.0, None), ["output tokens/s: not known, wanted at least 11"]),
        (10.0, 50.0, (None, 99.0), ["p99 TTFT at 1 streams: 100.0 ms, wanted at most 99 ms"]),
    ],
)
def test_thresholds(rate, ttft, limits, said):
    assert thresholds.missed({"points": [point(1, rate, ttft)]}, *limits) == said


LINE = "0, 512.33, 1755, 61, 99, 70123, 81559, 700.00, NVIDIA H100 80GB HBM3, 0x0000000000000024"


def test_gpus_over_a_point():
    samples = [dict(sampling.parse_line(LINE), at=float(at), index=index) for at in range(5) for index in (0, 1)]
    found = watch.summarise_gpus(samples, 1.0, 3.0)
    assert [gpu["index"] for gpu in found["gpus"]] == [0, 1] and found["energy_j"] == pytest.approx(2 * 512.3 * 2.0)
    assert found["gpus"][0]["throttled"] == ["software thermal slowdown"]
    assert watch.summarise_gpus([], 0.0, 1.0) == {"gpus": [], "energy_j": None}
    # Of power that the GPU does not tell there is no energy.
    dark = [dict(sample, power_w=None, throttled=None) for sample in samples]
    assert watch.summarise_gpus(dark, 0.0, 9.0)["energy_j"] is None
    assert watch.summarise_gpus(dark, 0.0, 9.0)["gpus"][0]["throttled"] is None
    assert watch.strip_of(samples, 0.0, 4.0)[0]["power_w"] == pytest.approx(1024.7)
