# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One benchmark: its points in turn, each warmed up first, until its profile, its budget or the user ends it."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import load, measure, prompts, sweep, turns, watch
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress

LAG_LIMIT_MS = 50.0  # of the client's own loop, at the 99th percentile
OWN_S = 60.0  # beside `SLOWER` times the first, that a later round of ours may take
SLOWER = 4.0
SCHEMA = 1


class Plan(NamedTuple):
    profile_name: str
    profile: sweep.Profile
    slo_ms: Dict[str, float]
    stall_s: float = load.STALL_S
    streams_a_process: int = load.STREAMS_A_PROCESS


class Beside(NamedTuple):
    """The engine's own tool, which measures in turns with ours."""

    tool: str
    rounds: int  # of each, at each number of streams
    # One round of it, for which ours took so many s; None where `stop`, asked four times a second, broke it off.
    measure: Callable[[turns.Load, float, Callable[[], bool]], Optional[turns.Round]]


def benchmark(
    target: load.Target,
    plan: Plan,
    progress: Progress,
    watching: watch.Watch,
    stop: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    beside: Optional[Beside] = None,
) -> Dict[str, Any]:
    """Returns ``{points, ended, interrupted, prompts, profile, …}``; raises Failure where nothing could be measured.

    :param beside: measures each point in turns with ours; what `turns.compare` says of it stands in the point as
        ``against``. The budget is that of the warm-up and of our first round.
    """
    started = clock()
    profile = plan.profile
    deadline = started + profile.budget_s
    pool = load.token_pool(target)
    supply = prompts.Prompts(profile.prompt_tokens, pool, round(profile.prompt_tokens * profile.shared_prefix))
    work = _Work(target, plan, supply, progress, watching, stop)
    points: List[Dict[str, Any]] = []
    interrupted = False
    beside_s = 0.0
    while True:
        step = sweep.following(profile, points, clock() - started - beside_s, plan.slo_ms)
        if step.concurrency is None:
            ended = step.why
            break
        begun = clock()
        point = work.point(step.concurrency, deadline, beside)
        if point is None or point["interrupted"]:
            interrupted = stop()
            ended = "interrupted" if interrupted else "the budget of %d s is spent" % profile.budget_s
            if point is not None and point["completed"]:
                points.append(point)
                if beside:
                    load_ = _load_of(profile, point)
                    first = turns.of_ours(point, load_)
                    point["against"] = turns.compare(beside.tool, load_, beside.rounds, [first], ended)
            break
        if beside:
            ours = clock() - begun
            point = work.in_turns(point, beside)
            aside = clock() - begun - ours
            beside_s += aside
            deadline += aside
        points.append(point)
        if beside and stop():
            interrupted, ended = True, "interrupted"
            break
        if work.gone:
            ended = work.gone
            break
    if not interrupted and ended != work.gone and turns.problems(points):
        ended += ", but not all rounds of both"
    if not any(point["completed"] for point in points):
        errors = [error for point in points for error in point["errors"]]
        if interrupted and not errors:
            raise Failure("nothing was measured: stopped before an answer was complete", "", "interrupted")
        said = errors[0] if errors else "no answer was complete by then"
        raise Failure("nothing could be measured: %s" % said, _hint(said, bool(pool)), "verify")
    return {
        "schema": SCHEMA,
        "profile": {
            "name": plan.profile_name,
            "prompt_tokens": profile.prompt_tokens,
            "output_tokens": profile.output_tokens,
            "shared_prefix": profile.shared_prefix,
            "range_ratio": profile.range_ratio,
            "budget_s": profile.budget_s,
            "api": target.api,
            "prompts": "token ids, unique" if supply.exact else "text, unique, of about that length",
            "ignore_eos": target.ignore_eos and target.api != "ollama",
        },
        "points": points,
        "ended": ended,
        "interrupted": interrupted,
        "duration_s": round(clock() - started, 3),
        "warnings": warnings(points, target),
    }


def _hint(said: str, exact: bool) -> str:
    if "context" in said or "length" in said:
        return "Give shorter requests with --prompt-tokens and --output-tokens."
    if exact:
        return ""
    return "`dsdeploy status` says whether it answers, `dsdeploy logs` what it says."


def _load_of(profile: sweep.Profile, point: Dict[str, Any]) -> turns.Load:
    return turns.Load(
        profile.prompt_tokens, profile.output_tokens, point["asked"], point["max_concurrency"], profile.range_ratio
    )


class _Work:
    """Sends the load of one point after the other.

    :ivar useless: why the engine's own tool is not asked again; `gone`: why nothing is. None: there is no such reason.
    """

    useless: Optional[str] = None
    gone: Optional[str] = None

    def __init__(
        self,
        target: load.Target,
        plan: Plan,
        supply: prompts.Prompts,
        progress: Progress,
        watching: watch.Watch,
        stop: Callable[[], bool],
    ) -> None:
        self._target, self._plan, self._supply = target, plan, supply
        self._progress, self._watching, self._stop = progress, watching, stop

    def point(self, concurrency: int, deadline: float, beside: Optional[Beside]) -> Optional[Dict[str, Any]]:
        """One point, warmed up; None where it was broken off before anything of it was measured."""
        count = sweep.requests_of(concurrency)
        warm = sweep.WARM_UP * concurrency
        self._progress.begin("warm up %d streams" % concurrency, warm)
        # A prompt of text tells how many tokens its words are only while its length is known.
        ratio = self._plan.profile.range_ratio if self._supply.exact else 0.0
        warmed = self._send(concurrency, warm, deadline, self._progress.update, ratio)
        if not self._supply.exact:
            for request in warmed.requests:
                if request.prompt_tokens:
                    self._supply.learn_ratio(request.prompt_tokens)
                    break
        if warmed.interrupted:
            return None
        what = "measure %d streams" % concurrency
        if beside:
            # All rounds are one stage: what they have taken so far says how long the others will.
            self._progress.begin("%s, round 1 of %d" % (what, 2 * beside.rounds), 2 * beside.rounds * count)
        else:
            self._progress.begin(what, count)
        return self._measured(concurrency, count, deadline, self._progress.update)

    def in_turns(self, first: Dict[str, Any], beside: Beside) -> Dict[str, Any]:
        """The point in the middle of our rounds, with its ``against``. `first`: our first round."""
        load_ = _load_of(self._plan.profile, first)
        points, rounds = [first], [turns.of_ours(first, load_)]
        ended = self.useless
        order = turns.order(beside.rounds)
        for at, who in enumerate(order[1:], 1):
            if ended or rounds[-1].fatal:
                break
            if self._stop():
                ended = "broken off"
                break
            done = at * load_.count
            self._progress.what = "measure %d streams, round %d of %d" % (load_.concurrency, at + 1, len(order))
            self._progress.what += " (%s's own tool)" % beside.tool if who == turns.TOOL else ""
            self._progress.update(done, force=True)
            if who == turns.TOOL:
                one = self._theirs(beside, load_, first["duration"], done)
            else:
                point, one = self._ours(load_, first["duration"], done)
                if point is not None:
                    points.append(point)
            if one is None:
                ended = "broken off"
                break
            rounds.append(one)
        if rounds[-1].fatal and not ended:
            gone = load.unreachable(self._target)
            if gone:
                ended = self.gone = "the engine does not answer any more (%s)" % gone
            if rounds[-1].who == turns.TOOL:
                self.useless = "not tried again after it failed at %d streams" % load_.concurrency
        whole = [one for one in rounds if one.who == turns.OURS]
        point = turns.middle(points, whole)
        point["against"] = turns.compare(beside.tool, load_, beside.rounds, rounds, ended)
        return point

    def _theirs(self, beside: Beside, load_: turns.Load, ours_s: float, done: int) -> Optional[turns.Round]:
        def stop() -> bool:
            self._progress.update(done)  # it takes its time to start: the estimate follows
            return self._stop()

        before = self._watching.cached()
        one = beside.measure(load_, ours_s, stop)
        return one._replace(cached=self._watching.cached_since(before)) if one else None

    def _ours(
        self, load_: turns.Load, first_s: float, done: int
    ) -> "tuple[Optional[Dict[str, Any]], Optional[turns.Round]]":
        """Our next round, (None, None) where it was broken off: half of one says nothing."""
        longest_s = OWN_S + SLOWER * first_s
        told: Callable[[int], None] = lambda more: self._progress.update(done + more)  # noqa: E731
        point = self._measured(load_.concurrency, load_.count, time.monotonic() + longest_s, told)
        if point is not None and not point["interrupted"]:
            return point, turns.of_ours(point, load_)
        if self._stop():
            return None, None
        answered = point["completed"] if point else 0
        said = "%d of %d requests were answered in %.0f s, the first took %.0f s" % (
            answered, load_.count, longest_s, first_s)  # fmt: skip
        return None, turns.Round(turns.OURS, {}, said, fatal=True)

    def _send(
        self, concurrency: int, requests: int, deadline: float, told: Callable[[int], None], range_ratio: float
    ) -> load.Point:
        return load.run_point(
            self._target, self._supply, self._plan.profile.output_tokens, concurrency, requests, deadline,
            self._stop, told, self._plan.stall_s, self._plan.streams_a_process, range_ratio,
        )  # fmt: skip

    def _measured(
        self, concurrency: int, count: int, deadline: float, told: Callable[[int], None]
    ) -> Optional[Dict[str, Any]]:
        """The figures of `count` requests; None where it was broken off before the first was answered."""
        cached = self._watching.cached()
        before = sum(os.times()[:4])
        measured = self._send(concurrency, count, deadline, told, self._plan.profile.range_ratio)
        taken = sum(os.times()[:4]) - before
        if not measured.requests:
            return None
        begin, end = load.span(measured.requests)
        point = measure.summarise(measured.requests, begin, end, concurrency, self._plan.slo_ms, measured.lags)
        # Where its answers do not say, its metrics do, of all that it was asked in this time.
        if point["cached_tokens_ratio"] is None:
            point["cached_tokens_ratio"] = self._watching.cached_since(cached)
        point["interrupted"] = measured.interrupted
        point["asked"] = count
        point["client_cpus"] = round(taken / (end - begin), 3) if end - begin > 0.1 else None
        point.update(watch.summarise_gpus(self._watching.gpus, begin, end))
        point["gpu_strip"] = watch.strip_of(self._watching.gpus, begin, end)
        point["queue"] = [
            {"at_s": round(item["at"] - begin, 1), "running": item["running"], "waiting": item["waiting"]}
            for item in self._watching.queue
            if begin <= item["at"] <= end
        ]
        if point["energy_j"] and point["total_output_tokens"]:
            point["tokens_per_joule"] = round(point["total_output_tokens"] / point["energy_j"], 4)
        return point


def warnings(points: List[Dict[str, Any]], target: load.Target) -> List[str]:
    """What makes the figures less than they seem, a line each."""
    found = []
    for point in points:
        at = "at %d streams: " % point["max_concurrency"]
        lag = point["client_lag_p99_ms"]
        if lag is not None and lag > LAG_LIMIT_MS:
            found.append(at + "the client itself was late by %.0f ms (p99): its figures are too bad" % lag)
        theirs = ((point.get("against") or {}).get("client") or {}).get(turns.TOOL) or {}
        late = theirs.get("lag_p99_ms")
        if late is not None and late > LAG_LIMIT_MS:
            found.append(
                at + "beside %s's tool processes were late by %.0f ms (p99): its figures are too bad"
                % (point["against"]["tool"], late)
            )  # fmt: skip
        if point["failed"]:
            worst = max(point["errors"].items(), key=lambda item: item[1])
            found.append(at + "%d of the requests failed (%s)" % (point["failed"], worst[0]))
        if (point["cached_tokens_ratio"] or 0) > 0.5:
            found.append(at + "%.0f %% of the prompt came from the cache" % (100 * point["cached_tokens_ratio"]))
        if point["natural_stops"] and target.ignore_eos:
            found.append(at + "%d answers ended by themselves, shorter than asked" % point["natural_stops"])
        if point["output_throughput"] is None and point["completed"]:
            found.append(at + "the server did not count its tokens")
        throttled = sorted({name for gpu in point["gpus"] for name in gpu["throttled"] or ()})
        if throttled:
            found.append(at + "GPUs were throttled: " + ", ".join(throttled))
        busiest = max(((item["running"] or 0) + (item["waiting"] or 0) for item in point["queue"]), default=0)
        if busiest > point["max_concurrency"]:
            found.append(at + "the engine had %d requests: others use it, too" % busiest)
        per_event = point["tokens_per_event"]
        if per_event is not None and per_event > 1.05:
            found.append(at + "%.1f tokens an event: ITL is between events, not tokens" % per_event)
    return found
