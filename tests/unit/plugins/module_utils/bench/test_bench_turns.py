# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rounds of two load generators in turns, and what they say of each other."""

import json

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import turns
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench.turns import OURS, TOOL, Load, Round

LOAD = Load(64, 128, 10, 1)


def rounds(ours, its, name="output_throughput", **more):
    """Rounds in the order that they are measured in, with `name` alone."""
    values = {OURS: iter(ours), TOOL: iter(its)}
    return [Round(who, {name: next(values[who])}, **more) for who in turns.order(len(ours))]


def test_each_is_first_as_often_as_it_is_second():
    assert turns.order(1) == [OURS, TOOL]
    assert turns.order(3) == [OURS, TOOL, TOOL, OURS, OURS, TOOL]
    for count in (2, 4, 20):
        order = turns.order(count)
        assert order.count(OURS) == order.count(TOOL) == count
        # What drifts in a straight line is the same in the mean of both.
        assert sum(i for i, who in enumerate(order) if who == OURS) == sum(
            i for i, who in enumerate(order) if who == TOOL
        )


def test_a_server_that_drifts_is_not_taken_for_a_difference():
    """One after the other they would be 33 % apart: 100, 110, 120 and 130, 140, 150."""
    speeds = iter([100.0, 110.0, 120.0, 130.0, 140.0, 150.0])
    done = [Round(who, {"output_throughput": next(speeds)}) for who in turns.order(3)]
    found = turns.compare("vllm", LOAD, 3, done)
    assert found["ratio"]["output_throughput"] == pytest.approx(130 / 120, abs=1e-3)
    assert found["within"]["output_throughput"] is True and "problem" not in found and found["notes"] == []


def test_a_difference_is_one_only_beyond_the_spread_of_either():
    found = turns.compare("vllm", LOAD, 3, rounds([99.0, 100.0, 101.0], [94.0, 95.0, 96.0]))
    assert (found["ours"]["output_throughput"], found["figures"]["output_throughput"]) == (100.0, 95.0)
    assert found["spread"][OURS]["output_throughput"] == pytest.approx(0.02)
    assert found["within"]["output_throughput"] is False and found["whole"] == {OURS: 3, TOOL: 3}
    assert turns.compare("vllm", LOAD, 3, rounds([99.0, 100.0, 101.0], [90.0, 95.0, 96.0]))["within"][
        "output_throughput"
    ]
    # What the other has not is no figure, and none that says anything.
    assert found["ratio"]["median_ttft_ms"] is None and found["within"]["median_ttft_ms"] is None
    json.dumps(found, allow_nan=False)


def test_one_round_of_each_has_no_spread_and_says_so():
    found = turns.compare("vllm", LOAD, 1, rounds([100.0], [95.0]))
    assert found["ratio"]["output_throughput"] == pytest.approx(1.0526)
    assert found["within"]["output_throughput"] is None and found["spread"][TOOL]["output_throughput"] is None
    assert found["notes"] == ["fewer than 2 whole rounds of each: what a difference is worth is not known"]
    assert "problem" not in found


def test_a_round_that_is_not_whole_does_not_count_and_is_named():
    done = rounds([100.0, 102.0, 101.0], [95.0, 5.0, 96.0])
    done[2] = done[2]._replace(problem="9 of 10 requests were answered")
    found = turns.compare("vllm", LOAD, 3, done)
    assert found["figures"]["output_throughput"] == 95.5 and found["whole"] == {OURS: 3, TOOL: 2}
    assert found["problem"] == (
        "against vllm: at 1 streams round 3 of 6 (its): 9 of 10 requests were answered; "
        "3 of 3 rounds of ours and 2 of 3 of its count"
    )


def test_rounds_that_are_missing_are_named():
    done = rounds([100.0, 102.0, 101.0], [95.0, 94.0, 96.0])
    found = turns.compare("vllm", LOAD, 3, done[:4], "broken off")
    assert "broken off: rounds 5 to 6 are missing; 2 of 3 rounds of ours and 2 of 3 of its" in found["problem"]
    assert "broken off: round 6 is missing" in turns.compare("vllm", LOAD, 3, done[:5], "broken off")["problem"]
    none = turns.compare("vllm", LOAD, 3, done[:1], "broken off")
    assert none["ratio"]["output_throughput"] is None and none["whole"] == {OURS: 1, TOOL: 0} and none["notes"]
    assert turns.problems([{"against": found}, {}, {"against": found}]) == [found["problem"]]


@pytest.mark.parametrize(
    ("completed", "tokens", "interrupted", "said"),
    [
        (10, 1280, False, None),
        (10, None, False, None),
        (10, 1275, False, None),
        (9, 1152, False, "9 of 10 requests were answered"),
        (4, 512, True, "broken off: 4 of 10 requests were answered"),
        (11, 1408, False, "11 answers to 10 requests"),
        (10, 640, False, "answers of 64.0 tokens, where 128 were asked for"),
        (10, 2560, False, "answers of 256.0 tokens, where 128 were asked for"),
    ],
)
def test_what_is_not_the_load_that_was_asked_for(completed, tokens, interrupted, said):
    assert turns.short_of(LOAD, completed, tokens, interrupted) == said


def test_prompts_of_other_lengths_are_said():
    done = rounds([100.0, 101.0], [95.0, 96.0], prompt_tokens=64.0)
    assert turns.compare("vllm", LOAD, 2, done)["notes"] == []
    # As vLLM's tool counts its own, with its own tokenizer.
    near = [one._replace(prompt_tokens=66.0) if one.who == TOOL else one for one in done]
    assert turns.compare("vllm", LOAD, 2, near)["notes"] == []
    done = [one._replace(prompt_tokens=70.0) if one.who == TOOL else one for one in done]
    assert turns.compare("vllm", LOAD, 2, done)["notes"] == [
        "prompts of 64.0 tokens, vllm's of 70.0: not the same load"
    ]


@pytest.mark.parametrize("value", [True, "5", None, float("nan"), float("inf"), -1.0, [1]])
def test_what_is_no_figure(value):
    assert turns.number(value) is None and turns.number(1.5) == 1.5 and turns.number(0) == 0


def test_the_point_is_the_round_in_the_middle_of_those_that_are_whole():
    points = [{"output_throughput": value} for value in (3.0, 1.0, 2.0, None)]
    good = Round(OURS, {})
    assert turns.middle(points[:3], [good] * 3) is points[2]
    assert turns.middle(points[:2], [good] * 2) is points[1]
    bad = good._replace(problem="x")
    assert turns.middle(points[:3], [good, bad, bad]) is points[0]
    assert turns.middle([points[3]], [bad]) is points[3]


def test_what_the_clients_took_is_told_where_it_is_known():
    done = rounds([100.0, 101.0], [95.0, 96.0], lag_ms=1.5, cpus=0.25)
    assert turns.compare("vllm", LOAD, 2, done)["client"][TOOL] == {"cpus": 0.25, "lag_p99_ms": 1.5}
    done[1] = done[1]._replace(cpus=None)
    assert turns.compare("vllm", LOAD, 2, done)["client"][TOOL] == {"cpus": None, "lag_p99_ms": 1.5}


def test_lengths_that_differ_are_allowed_what_chance_does_to_their_mean():
    varied = turns.Load(64, 128, 80, 8, 0.5)
    assert 0.12 < varied.by_chance() < 0.14 and LOAD.by_chance() == 0
    assert turns.short_of(varied, 80, 80 * 128 * 1.1) is None
    assert turns.short_of(varied, 80, 80 * 128 * 0.8) == "answers of 102.4 tokens, where 128 were asked for"


def test_a_time_to_the_first_token_that_streams_in_step_make_is_said():
    def said(load, ours, theirs):
        figures = [{"median_ttft_ms": value} for value in (ours, theirs, theirs, ours)]
        rounds = [turns.Round(who, one) for who, one in zip(turns.order(2), figures, strict=True)]
        return [note for note in turns.compare("vllm", load, 2, rounds)["notes"] if "in step" in note]

    assert len(said(turns.Load(64, 128, 80, 8), 75.0, 45.0)) == 1
    assert not said(turns.Load(64, 128, 80, 8), 45.0, 45.0)
    assert not said(turns.Load(64, 128, 80, 8, 0.5), 75.0, 45.0)
    assert not said(LOAD, 75.0, 45.0)  # one stream has none to be in step with


def test_prompts_that_the_server_had_in_its_cache_are_another_load():
    def notes(ours, its):
        done = [one._replace(cached=ours if one.who == OURS else its) for one in rounds([1.0, 1.0], [1.0, 1.0])]
        return turns.compare("vllm", LOAD, 2, done)["notes"]

    (note,) = notes(0.0, 0.4)
    assert note.startswith("40% of vllm's prompts were in the server's cache of equal beginnings, 0% of ours: ")
    assert notes(0.4, 0.0)
    for alike in ((0.0, 0.0), (0.5, 0.51), (None, 0.4), (0.0, None)):
        assert notes(*alike) == []
