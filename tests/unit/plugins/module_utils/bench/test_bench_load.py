# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The load generator against a server whose every delay is scripted."""

import asyncio
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import (
    load,
    measure,
    prompts,
    stream_client,
    sweep,
    turns,
    watch,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import run as run_module
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench.run import Beside, Plan, benchmark
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import EngineFailure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress

ROOT = Path(__file__).resolve().parents[5]


@pytest.fixture(scope="module")
def port():
    program = [sys.executable, str(ROOT / "tests" / "standins" / "scripted_stream.py")]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        yield int(server.stdout.readline())
        server.kill()


def run(port, concurrency=2, count=4, api="completions", limit_s=300.0, **options):
    script = {"ttft": 0.02, "gap": 0.005, "tokens": 10, **options.pop("script", {})}
    output_tokens = options.pop("output_tokens", 10)
    target = load.Target("127.0.0.1", port, "", {}, None, api, json.dumps(script))
    supply = prompts.Prompts(50, pool=range(1000) if api == "completions" else None)
    begin = time.monotonic()
    point = load.run_point(target, supply, output_tokens, concurrency, count, begin + limit_s, **options)
    return point, measure.summarise(point.requests, begin, time.monotonic(), concurrency, None, point.lags)


@pytest.mark.parametrize("api", ["completions", "chat", "ollama"])
def test_an_answer_is_never_faster_than_its_server(port, api):
    point, found = run(port, api=api, script={"ttft": 0.1, "gap": 0.02})
    assert found["completed"] == 4 and found["total_output_tokens"] == 40 and found["tokens_per_event"] == 1.0
    for request in point.requests:
        # Sooner would be a wrong measurement; later is what a busy machine does.
        assert request.ttft >= 0.0995 and request.e2el >= 0.1 + 9 * 0.02 - 0.001
        assert request.ended >= request.last and len(request.gaps) == 9
    assert found["natural_stops"] == 0


def test_tokens_in_one_event_are_counted_by_the_server(port):
    _point, found = run(port, script={"per_event": 5})
    assert found["total_output_tokens"] == 40 and found["tokens_per_event"] == 5.0


@pytest.mark.parametrize(
    ("fail", "said"),
    [
        ("429", "HTTP 429: the engine reports: too many requests"),
        ("drop", "the connection was cut in the middle of the answer"),
        ("stall", "no byte for 0 s"),
        ("error", "the engine reports: out of memory"),
        ("500", "HTTP 500: " + "x" * 79 + "…"),
        ("junk", "not HTTP: it answers b'SSH-2.0-OpenSSH_9.2p1'"),
        ("unfinished", "malformed stream: an event of more than 4194304 bytes"),
    ],
)
def test_what_goes_wrong_is_counted_and_named_and_ends(port, fail, said):
    stall_s = 0.4 if fail == "stall" else 60
    _point, found = run(port, concurrency=1, count=2, stall_s=stall_s, script={"fail": fail})
    assert found["errors"] == {said: 2} and found["completed"] == 0


def test_a_body_without_end_is_not_read_to_its_end(port):
    # The rest is announced and never comes: who reads on waits until it is taken for a stall.
    _point, found = run(port, concurrency=1, count=3, stall_s=30, script={"fail": "500", "announced": 2**40})
    assert found["errors"] == {"HTTP 500: " + "x" * 79 + "…": 3}


def test_an_answer_without_an_end_is_none(port):
    _point, found = run(port, concurrency=1, count=2, script={"fail": "endless", "ttft": 0, "gap": 0})
    assert found["errors"] == {"an answer without an end: more than 84 events": 2}


def test_clocks_of_the_wall_do_not_matter(port, monkeypatch):
    jumps = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(time, "time", lambda: -next(jumps))
    _point, found = run(port)
    assert found["completed"] == 4 and 20 <= found["median_ttft_ms"] < 5000


def test_figures_are_those_that_the_server_sent(port, tmp_path):
    """Beside what the stand-in says it sent, which on a busy machine is later than scripted."""
    log = tmp_path / "log"
    point, found = run(port, concurrency=4, count=16, script={"ttft": 0.1, "gap": 0.01, "tokens": 20, "log": str(log)})
    sent = sorted(tuple(map(float, line.split())) for line in log.read_text().splitlines())
    assert len(sent) == found["completed"] == 16
    # Never sooner than it was sent; how much later, the machine decides (benchmarks/load_generators.py exact).
    for number, name in enumerate(("ttft", "e2el")):
        truth = sorted(row[number] for row in sent)
        seen = sorted(getattr(request, name) for request in point.requests)
        assert all(mine >= theirs - 0.001 for mine, theirs in zip(seen, truth, strict=True))


def test_many_events_in_one_read(port):
    _point, found = run(port, count=4, script={"tokens": 3000, "burst": 3000, "ttft": 0, "gap": 0}, output_tokens=3000)
    assert found["completed"] == 4 and found["total_output_tokens"] == 12000 and found["tokens_per_event"] == 1.0


def answers(rng, kind):
    """The chunks of one answer: mostly alike, some odd."""
    names = ("content", "content", "reasoning_content")
    texts = ["a", " the", "\\n", '\\"', "\\\\", '\\"text\\": \\"', "", "木", "error", "_reason", "data: "]
    created, chunks = 1, []
    for _i in range(rng.randrange(1, 60)):
        created += rng.random() < 0.05  # llama.cpp writes the time into each
        text = rng.choice(texts)
        field = f'"text": "{text}"'
        if kind == "chat":
            field = f'"delta": {{"{rng.choice(names)}": "{text}"}}'
        events = [f'data: {{"created": {created}, "choices": [{{{field}, "finish_reason": null}}]}}\n\n']
        if rng.random() < 0.05:
            events.append(rng.choice((": ping\n\n", events[0], 'data: {"choices": []}\n\n', "event: x\r\n\r\n")))
        chunks.append("".join(events))
    if rng.random() < 0.1:
        chunks.append('data: {"error": {"message": "out of memory"}}\n\n')
    chunks.append('data: {"choices": [{"text": "", "finish_reason": "length"}]}\n\n')
    chunks.append('data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}\n\n')
    chunks.append("data: [DONE]\n\n")
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk.encode()), chunk.encode()) for chunk in chunks) + b"0\r\n\r\n"


@pytest.mark.parametrize("kind", ["completions", "chat"])
def test_events_that_are_known_by_their_likeness_are_counted_as_those_that_are_looked_through(kind):
    """However the bytes are cut into reads. `Plain` looks through each."""

    class Plain(stream_client.Connection):
        def _learn(self, data):
            return None

    class Wire:
        def writelines(self, _parts):
            pass

        def abort(self):
            pass

    async def read(made, pieces):
        made.connection_made(Wire())
        asked = asyncio.ensure_future(made.ask(stream_client.Job(b"", b"", kind)))
        await asyncio.sleep(0)
        for piece in pieces:
            made.data_received(piece)
            if asked.done() or made.closed:
                break
        return await asyncio.wait_for(asked, 5)

    quick = 0
    for seed in range(150):
        rng = random.Random(seed)
        data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + answers(rng, kind)
        ends = [place + 3 for place in range(len(data)) if data.startswith(b"\n\r\n", place)]
        cuts = sorted({0, len(data), *rng.sample(ends, len(ends) // 2), *rng.sample(range(len(data)), seed % 4)})
        pieces = [data[low:high] for low, high in zip(cuts, cuts[1:], strict=False)]
        made = stream_client.Connection(lambda: 1.0)
        seen = asyncio.run(read(made, pieces))
        plain = asyncio.run(read(Plain(lambda: 1.0), pieces))
        assert seen._replace(sent=0.0) == plain._replace(sent=0.0), seed
        quick += made._like is not None
    assert quick > 100


def test_usage_is_that_of_the_last_event_that_has_one():
    lines = b'data: {"usage": {"completion_tokens": 1}}\n\ndata: {"text": "completion_tokens"}\n\ndata: [DONE]\n\n'
    assert stream_client.last_usage(lines) == {"completion_tokens": 1}
    assert stream_client.last_usage(b'{"done": true, "eval_count": 7}') == {"done": True, "eval_count": 7}
    assert stream_client.last_usage(b"completion_tokens\neval_count") == {}


def test_the_key_is_sent_to_nobody_else(port):
    def trust(address, at):
        assert (address, at) == ("127.0.0.1", port)
        raise EngineFailure("port is held by user mallory: the API key was not sent")

    script = json.dumps({"ttft": 0, "gap": 0, "tokens": 1})
    target = load.Target("127.0.0.1", port, "", {"Authorization": "Bearer k"}, None, "completions", script, trust=trust)
    point = load.run_point(target, prompts.Prompts(5, pool=range(9)), 1, 1, 2, time.monotonic() + 20)
    assert [request.error for request in point.requests] == [
        "port is held by user mallory: the API key was not sent"
    ] * 2
    assert load.token_pool(target) == []
    with pytest.raises(EngineFailure):
        load.trusted(target)


def test_a_connection_that_the_server_closes_is_opened_again(port):
    _point, found = run(port, count=6, script={"fail": "close"})
    assert found["completed"] == 6


def test_several_processes_share_the_streams(port):
    point, found = run(port, concurrency=6, count=13, streams_a_process=2)
    assert found["completed"] == 13 and len(point.requests) == 13


def test_nobody_listens():
    _point, found = run(9, concurrency=1, count=1)
    assert found["failed"] == 1 and list(found["errors"]) == ["cannot connect: Connection refused"]


def test_what_is_broken_off_by_the_user_is_no_failure(port):
    stops = iter([False, True, True, True])
    point, found = run(port, concurrency=2, count=50, script={"ttft": 0.2}, stop=lambda: next(stops, True))
    assert point.interrupted and found["failed"] == 0 and found["completed"] < 50


def test_the_deadline_ends_a_point(port):
    begin = time.monotonic()
    point, _found = run(port, count=1000, script={"ttft": 0.1}, limit_s=2)
    assert point.interrupted and 0 < len(point.requests) < 1000 and time.monotonic() - begin < 30


def test_a_server_that_makes_no_tokens_of_text(port):
    target = load.Target("127.0.0.1", port, "", {}, None, "completions", "model")
    assert load.token_pool(target) == []


def test_the_key_is_sent_and_a_line_break_is_not_made_of_it():
    target = load.Target("::1", 80, "/p", {"Authorization": "Bearer k"}, None, "completions", "m")
    job = load.job_of(target, [1, 2], 5)
    assert job.head.startswith(b"POST /p/v1/completions HTTP/1.1\r\nHost: [::1]:80\r\n")
    assert b"\r\nAuthorization: Bearer k\r\n" in job.head and json.loads(job.body)["prompt"] == [1, 2]


@pytest.mark.parametrize("trusted", [True, False])
def test_a_connection_is_trusted_before_the_key_goes_over_it(port, trusted):
    asked = []

    def trust(address, number):
        asked.append((address, number))
        if not trusted:
            raise EngineFailure("port 1 is held by user mallory: the API key was not sent")

    script = json.dumps({"ttft": 0.01, "gap": 0.002, "tokens": 2})
    headers = {"Authorization": "Bearer sk-1"}
    target = load.Target("127.0.0.1", port, "", headers, None, "completions", script, trust=trust)
    supply = prompts.Prompts(8, pool=range(1000))
    found = load.run_point(target, supply, 2, 2, 4, time.monotonic() + 20)
    assert asked and set(asked) == {("127.0.0.1", port)}
    wrong = {request.error for request in found.requests}
    assert wrong == ({None} if trusted else {"port 1 is held by user mallory: the API key was not sent"})
    asked.clear()
    load.token_pool(target)
    assert asked == [("127.0.0.1", port)]


SCRIPT = json.dumps({"ttft": 0.01, "gap": 0.001, "tokens": 8})


def in_turns(
    port, theirs, rounds=1, clock=time.monotonic, script=SCRIPT, concurrency=(1,), stop=lambda: False, told=None,
    metrics=None,
):  # fmt: skip
    target = load.Target("127.0.0.1", port, "", {}, None, "completions", script)
    plan = Plan("quick", sweep.Profile(50, 8, concurrency, 600), {}, 30.0)
    with Progress("bench", unit="requests", report=told) as progress, watch.Watch(None, metrics) as watching:
        return benchmark(target, plan, progress, watching, stop, clock, Beside("vllm", rounds, theirs))


def test_what_measures_beside_has_time_of_its_own(port):
    """The engine's own tool starts a Python that imports an engine, longer than `quick` has at all."""
    hours = []

    def theirs(asked, ours_s, stop):
        hours.append((asked.count, asked.concurrency))
        assert asked[:2] == (50, 8) and 0 < ours_s < 600 and not stop()
        return turns.Round(turns.TOOL, {"output_throughput": 100.0})

    found = in_turns(port, theirs, 2, lambda: time.monotonic() + 3600 * len(hours), concurrency=(1, 2))
    assert hours == [(10, 1)] * 2 + [(20, 2)] * 2
    assert [point["against"]["whole"] for point in found["points"]] == [{"ours": 2, "tool": 2}] * 2
    assert found["ended"] == "all points measured" and found["points"][1]["client_cpus"] is not None


def test_what_each_found_in_the_servers_cache(port):
    """The counters of the server are read around each round: 100 tokens looked up and 70 found in each of theirs."""
    counted = [0, 0]

    def theirs(*_asked):
        counted[0] += 100
        counted[1] += 70
        return turns.Round(turns.TOOL, {"output_throughput": 100.0})

    def metrics():
        return f"vllm:prefix_cache_queries_total {counted[0]}\nvllm:prefix_cache_hits_total {counted[1]}\n"

    (point,) = in_turns(port, theirs, 2, metrics=metrics)["points"]
    assert [(one["who"], one["cached_tokens_ratio"]) for one in point["against"]["rounds"]] == [
        ("ours", 0.0), ("tool", 0.7), ("tool", 0.7), ("ours", 0.0),
    ]  # fmt: skip
    assert [note[:27] for note in point["against"]["notes"]] == ["70% of vllm's prompts were "]
    assert point["cached_tokens_ratio"] == 0.0
    # Without metrics nothing is known of it.
    (point,) = in_turns(port, theirs, 2)["points"]
    assert {one["cached_tokens_ratio"] for one in point["against"]["rounds"]} == {None}
    assert point["cached_tokens_ratio"] is None


def test_all_rounds_of_a_point_are_one_stage_whose_time_is_told(port):
    told = []
    in_turns(port, lambda *_asked: turns.Round(turns.TOOL, {}), 2, told=lambda report: told.append(dict(report)))
    seen = list(dict.fromkeys((one["what"], one["total"]) for one in told if "round" in one["what"]))
    assert seen == [
        ("measure 1 streams, round 1 of 4", 40),
        ("measure 1 streams, round 2 of 4 (vllm's own tool)", 40),
        ("measure 1 streams, round 3 of 4 (vllm's own tool)", 40),
        ("measure 1 streams, round 4 of 4", 40),
    ]
    third = next(one for one in told if "round 3" in one["what"])
    assert third["done"] == 20 and third["eta_s"] is not None


def test_broken_off_between_rounds_it_keeps_the_whole_ones(port):
    ended = []

    def theirs(*_asked):
        ended.append(1)
        return turns.Round(turns.TOOL, {"output_throughput": 100.0})

    found = in_turns(port, theirs, 3, stop=lambda: len(ended) == 2)
    (point,) = found["points"]
    assert found["interrupted"] and found["ended"] == "interrupted" and point["completed"] == 10
    assert point["against"]["whole"] == {"ours": 1, "tool": 2}
    assert "broken off: rounds 4 to 6 are missing" in point["against"]["problem"]


def test_half_a_round_of_ours_is_none(port):
    """Broken off in it: what was answered until then is no round, and is not told as one."""
    begun = []
    slow = json.dumps({"ttft": 0.3, "gap": 0.001, "tokens": 8})

    def theirs(*_asked):
        begun.append(time.monotonic())
        return turns.Round(turns.TOOL, {"output_throughput": 100.0})

    def stop():
        return len(begun) == 2 and time.monotonic() - begun[1] > 1.0

    found = in_turns(port, theirs, 2, script=slow, stop=stop)
    assert found["interrupted"] and found["points"][0]["against"]["whole"] == {"ours": 1, "tool": 2}
    assert "broken off: round 4 is missing" in found["points"][0]["against"]["problem"]


def test_a_budget_that_ends_in_the_first_round_leaves_no_comparison(port):
    slow = json.dumps({"ttft": 0.3, "gap": 0.001, "tokens": 8})
    target = load.Target("127.0.0.1", port, "", {}, None, "completions", slow)
    beside = Beside("vllm", 2, lambda *_asked: pytest.fail("there was no time left"))
    with Progress("bench", unit="requests") as progress, watch.Watch(None, None) as watching:
        found = benchmark(
            target, Plan("quick", sweep.Profile(50, 8, (1,), 2), {}), progress, watching, lambda: False, beside=beside
        )
    (point,) = found["points"]
    assert "the budget of 2 s is spent: rounds 2 to 4 are missing" in point["against"]["problem"]
    assert "0 of 2 rounds of ours" in point["against"]["problem"] and point["interrupted"]


def test_an_engine_that_hangs_between_rounds_is_not_waited_for(port, monkeypatch):
    monkeypatch.setattr(run_module, "OWN_S", 1.0)
    monkeypatch.setattr(run_module, "SLOWER", 0.0)
    model = {"now": SCRIPT}
    target = load.Target("127.0.0.1", port, "", {}, None, "completions", SCRIPT)

    def body(asked, prompt, output_tokens, body_of=load.body_of):
        return dict(body_of(asked, prompt, output_tokens), model=model["now"])

    def theirs(*_asked):
        model["now"] = json.dumps({"ttft": 600.0, "gap": 0.001, "tokens": 8})
        return turns.Round(turns.TOOL, {"output_throughput": 100.0})

    monkeypatch.setattr(load, "body_of", body)
    plan = Plan("quick", sweep.Profile(50, 8, (1,), 600), {}, 30.0)
    with Progress("bench", unit="requests") as progress, watch.Watch(None, None) as watching:
        found = benchmark(target, plan, progress, watching, lambda: False, beside=Beside("vllm", 4, theirs))
    said = found["points"][0]["against"]["problem"]
    assert "round 4 of 8 (ours): 0 of 10 requests were answered in 1 s" in said and "rounds 5 to 8 are missing" in said


def test_lengths_lie_around_what_was_asked_for_as_far_as_that_is_told(port, monkeypatch):
    sent = []

    def noted(target, prompt, output_tokens, job_of=load.job_of):
        sent.append((len(prompt), output_tokens))
        return job_of(target, prompt, output_tokens)

    monkeypatch.setattr(load, "job_of", noted)
    script = {"ttft": 0, "gap": 0, "tokens": 1}
    run(port, concurrency=8, count=400, script=script, range_ratio=0.5)
    prompt, answer = (sorted(lengths) for lengths in zip(*sent, strict=True))
    assert 25 <= prompt[0] < 30 and 70 < prompt[-1] <= 75 and 5 <= answer[0] < 7 and 13 < answer[-1] <= 15
    # Eight standard deviations of the mean.
    assert abs(sum(prompt) / 400 - 50) < 6 and abs(sum(answer) / 400 - 10) < 1.2
    sent.clear()
    run(port, concurrency=8, count=40, script=script)
    assert set(sent) == {(50, 10)}


def test_the_shortest_length_is_a_token_and_the_shared_part_stays_whole():
    supply = prompts.Prompts(8, pool=range(1000), shared=6)
    assert {len(supply.take(0.9)) for _number in range(200)} == set(range(6, 17))
    assert {supply.around(1, 0.95) for _number in range(50)} == {1, 2}
