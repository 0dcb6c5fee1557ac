# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One benchmark: its points in turn, each warmed up first, until its profile, its budget or the user ends it."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import load, measure, prompts, sweep, watch
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress

LAG_LIMIT_MS = 50.0  # of the client's own loop, at the 99th percentile
SCHEMA = 1


class Plan(NamedTuple):
    profile_name: str
    profile: sweep.Profile
    slo_ms: Dict[str, float]
    stall_s: float = load.STALL_S
    streams_a_process: int = load.STREAMS_A_PROCESS


def benchmark(
    target: load.Target,
    plan: Plan,
    progress: Progress,
    watching: watch.Watch,
    stop: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    beside: Optional[Callable[[Dict[str, Any], float], Dict[str, Any]]] = None,
) -> Dict[str, Any]:
    """Returns ``{points, ended, interrupted, prompts, profile, …}``; raises Failure where nothing could be measured.

    :param beside: measures a point, which took us so many s, once more in another way; what it returns stands in the
        point as ``against``. The budget is ours alone.
    """
    started = clock()
    profile = plan.profile
    deadline = started + profile.budget_s
    pool = load.token_pool(target)
    supply = prompts.Prompts(profile.prompt_tokens, pool, round(profile.prompt_tokens * profile.shared_prefix))
    points: List[Dict[str, Any]] = []
    interrupted = False
    beside_s = 0.0
    while True:
        step = sweep.following(profile, points, clock() - started - beside_s, plan.slo_ms)
        if step.concurrency is None:
            ended = step.why
            break
        begun = clock()
        point = _point(target, plan, supply, step.concurrency, points, deadline, progress, watching, stop)
        if point is None or point["interrupted"]:
            interrupted = stop()
            ended = "interrupted" if interrupted else "the budget of %d s is spent" % profile.budget_s
            if point is not None and point["completed"]:
                points.append(point)
            break
        points.append(point)
        if beside:
            progress.begin("measure %d streams with the engine's own tool" % step.concurrency, point["asked"])
            ours = clock() - begun
            point["against"] = beside(point, ours)
            aside = clock() - begun - ours
            beside_s += aside
            deadline += aside
            if stop():
                interrupted, ended = True, "interrupted"
                break
    if not any(point["completed"] for point in points):
        errors = [error for point in points for error in point["errors"]]
        said = errors[0] if errors else "no answer was complete by then"
        raise Failure("nothing could be measured: %s" % said, _hint(said, bool(pool)), "verify")
    return {
        "schema": SCHEMA,
        "profile": {
            "name": plan.profile_name,
            "prompt_tokens": profile.prompt_tokens,
            "output_tokens": profile.output_tokens,
            "shared_prefix": profile.shared_prefix,
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


def _point(
    target: load.Target,
    plan: Plan,
    supply: prompts.Prompts,
    concurrency: int,
    before: List[Dict[str, Any]],
    deadline: float,
    progress: Progress,
    watching: watch.Watch,
    stop: Callable[[], bool],
) -> Optional[Dict[str, Any]]:
    """One point; None where it was broken off before anything of it was measured."""
    profile = plan.profile
    count = sweep.requests_of(concurrency)
    warm = sweep.WARM_UP * concurrency

    def run(what: str, requests: int) -> load.Point:
        progress.begin(what, requests)
        told: Callable[[int], None] = progress.update
        return load.run_point(
            target, supply, profile.output_tokens, concurrency, requests, deadline, stop, told, plan.stall_s,
            plan.streams_a_process,
        )  # fmt: skip

    warmed = run("warm up %d streams" % concurrency, warm)
    if not supply.exact:
        for request in warmed.requests:
            if request.prompt_tokens:
                supply.learn_ratio(request.prompt_tokens)
                break
    if warmed.interrupted:
        return None
    measured = run("measure %d streams" % concurrency, count)
    if not measured.requests:
        return None
    begin, end = load.span(measured.requests)
    point = measure.summarise(measured.requests, begin, end, concurrency, plan.slo_ms, measured.lags)
    point["interrupted"] = measured.interrupted
    point["asked"] = count
    point.update(watch.summarise_gpus(watching.gpus, begin, end))
    point["gpu_strip"] = watch.strip_of(watching.gpus, begin, end)
    point["queue"] = [
        {"at_s": round(item["at"] - begin, 1), "running": item["running"], "waiting": item["waiting"]}
        for item in watching.queue
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
