#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bench
short_description: Measure a served model under load
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Sends requests over a rising number of streams and returns time to first token, time per output token, throughput
    and more, under the names of C(vllm bench serve), with all that is needed to compare two runs.
  - Prompts are token ids where the engine tells them, else text; no two are alike, so that no cache answers.
  - Runs on the host itself and needs nothing but Python.
  - The result is also kept as a file on the controller, in O(results_dir). Where the run is interrupted, what was
    measured until then is kept.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.progress
  - dsdeploy.llm.supervisor
attributes:
  check_mode:
    support: partial
    details:
      - Nothing is asked in check mode.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: N/A
    details:
      - This action does not modify state; two measurements differ.
options:
  record:
    description:
      - The deployment's record, as M(dsdeploy.llm.deployment_facts) returns it. Its C(endpoint), C(api), C(model),
        C(api_key_file), C(metrics_path) and C(service) are used, all of it is kept with the result.
      - An API key is sent only to a server of the service's own user.
    type: dict
    required: true
  profile:
    description:
      - Shape and number of the requests. V(quick) is under a minute; V(chat), V(long) and V(rag) raise the number of
        streams until more of them bring no more tokens, the service level is broken, or the budget is spent.
    type: str
    choices: [quick, chat, long, rag]
    default: quick
  concurrency:
    description: Streams at a time, one point for each, instead of the profile's.
    type: list
    elements: int
  prompt_tokens:
    description: Tokens of each prompt, instead of the profile's.
    type: int
  output_tokens:
    description: Tokens of each answer, instead of the profile's.
    type: int
  range_ratio:
    description:
      - Prompts and answers are not all as long as O(prompt_tokens) and O(output_tokens), but between (1 - this) and
        (1 + this) times that, each length as likely, as with C(--random-range-ratio) of C(vllm bench serve). From 0,
        the default, to 0.95.
      - Answers of one length keep the streams in step. All of them then send their next request at the same time, which
        independent users do not, and TTFT is longer by what they wait for each other.
    type: float
  budget_s:
    description: Longest time for all, in seconds, instead of the profile's.
    type: int
  context:
    description: Context of the served model in tokens; requests are cut to it.
    type: int
  slo_ttft_ms:
    description: Service level, longest time to the first token in milliseconds.
    type: float
    default: 500
  slo_tpot_ms:
    description: Service level, longest time per output token in milliseconds.
    type: float
    default: 50
  stall_s:
    description: A request without a byte for this long, in seconds, has failed.
    type: float
    default: 600
  min_tokens_s:
    description: Fail with RV(error_kind=verify) unless the best point brings so many output tokens a second.
    type: float
  max_ttft_p99_ms:
    description:
      - Fail with RV(error_kind=verify) when the first point's 99th percentile of TTFT is longer, in milliseconds.
    type: float
  against:
    description:
      - Measure each point in turns with the load generator of this engine, C(vllm bench serve) or
        C(sglang.bench_serving), from its environment on the host and as the user of the service, and return both.
      - A round is the same load by one of the two; the order is A B B A, so that what drifts drifts for both. Compared
        are the medians of the rounds; a difference that is no larger than what either's own rounds differ by is said to
        be within the spread. The point itself is our round in the middle.
      - It needs a model that is a directory with a tokenizer. O(budget_s) counts the warm-up and our first round; each
        other round has its own limit. Where a round is missing or less than was asked for, the module fails with
        RV(error_kind=verify) and what was measured.
    type: str
    choices: [vllm, sglang]
  rounds:
    description:
      - Rounds of each of the two with O(against), at each number of streams, from 1 to 20. By default 3. With fewer
        than 2 it is not known what a difference is worth.
    type: int
  from_here:
    description:
      - Measure from the machine that this module runs on, which is not the one that serves. It asks where others reach
        the deployment, through the gateway or the engine's own address.
      - The certificate must be the one that the record tells of. GPUs, queues and processes are then not known.
    type: bool
    default: false
  key_file:
    description: File with the API key of a client, readable for its owner alone, for O(from_here).
    type: path
  lock:
    description:
      - File that is held meanwhile. A second measurement is refused. By default it is C(/run/dsdeploy-bench.lock), with
        O(from_here) C(.dsdeploy-bench.lock) in the user's home.
    type: path
  records_path:
    description: Directory of the deployment records, in which O(against) finds its engine.
    type: path
    default: /etc/dsdeploy/deployments
  results_dir:
    description:
      - Directory on the controller that keeps the result, in a folder of the host's name. By default
        C($XDG_STATE_HOME/dsdeploy/bench), C(~/.local/state/dsdeploy/bench).
    type: path
"""

EXAMPLES = r"""
- name: What is deployed
  dsdeploy.llm.deployment_facts:
  register: found

- name: Measure it
  dsdeploy.llm.bench:
    record: "{{ found.deployments | first }}"
    profile: chat
    budget_s: 600
"""

RETURN = r"""
bench:
  description: The measurement; the file in RV(path) holds the same.
  returned: something was measured
  type: dict
  contains:
    points:
      description:
        - One dict for each number of streams, with the fields of C(vllm bench serve) (C(request_throughput),
          C(output_throughput), C(median_ttft_ms), C(p99_tpot_ms), and so on) and C(max_concurrency), C(timeline),
          C(gpus), C(errors), C(client_cpus) (CPUs that the client took).
        - "With O(against) also C(against): C(figures) of the tool and C(ours), medians of the whole rounds; C(ratio) of
          ours to theirs, C(spread) of the rounds of each, (most - least) / median; C(within), whether the difference is
          within it, null where that is not known; C(rounds), all of them in their order; C(whole), how many count;
          C(client), CPUs and lag of each; C(problem), why it is less than was asked for; C(notes)."
      type: list
      elements: dict
    profile:
      description: What was asked.
      type: dict
    environment:
      description:
        - Engine, version, model with its revision and manifest, host, GPUs, driver; in C(served) the C(command) and
          C(variables) that the engine runs with, without secrets.
      type: dict
    ended:
      description: Why there is no further point.
      type: str
    interrupted:
      description: Whether the user broke it off.
      type: bool
    warnings:
      description: What makes the figures less than they seem, a line each.
      type: list
      elements: str
path:
  description: Where the result is kept on the controller.
  returned: something was measured
  type: str
error_kind:
  description:
    - V(verify) where a threshold was missed, a point had no answer, or O(against) lacks a round, or nothing could be
      measured.
  returned: failure
  type: str
hint:
  description: What to do next.
  returned: failure, where there is something
  type: str
"""

import contextlib
import os
import platform
import shutil
import signal
import ssl
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import (
    against,
    load,
    remote,
    run,
    served,
    sweep,
    thresholds,
    turns,
    watch,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import api_key as api_keys
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import Endpoint, EngineFailure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import locked, process
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress, progress_file
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import read_records
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.watched import WatchedService

NVIDIA_SMI_S = 30.0  # of one that works, with the driver loaded anew for each call
ALONE_S = 360.0  # without a sign of the controller, which tries a lost connection again for 300 s


def target_of(
    record: Dict[str, Any], key: Optional[str], trust: Callable[[str, int], None], way: Optional[remote.Way] = None
) -> load.Target:
    """What the record's endpoint is, for the generator; with `way`, where others reach it. Raises Failure."""
    try:
        parts = urlsplit(way.url if way else record["endpoint"])
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise Failure("the record's endpoint %r is not a URL" % record.get("endpoint"), "run `dsdeploy up` again")
    context = remote.context_of(way) if way else None
    if parts.scheme == "https" and not way:
        # The host is asked for itself, over loopback mostly, where no certificate's name is right.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    headers = {"Authorization": "Bearer " + key} if key else {}
    api = "ollama" if record.get("api") == "ollama" else "completions"
    target = load.Target(
        host, port or (443 if context else 80), parts.path.rstrip("/"), headers, context, api, record["model"]
    )
    return target._replace(trust=trust)


def key_of(record: Dict[str, Any]) -> Optional[str]:
    path = record.get("api_key_file")
    return api_keys.read(path) if path else None


def gpus_of(nvidia_smi: Optional[str]) -> Dict[str, Any]:
    """Driver and names of the GPUs; both None where nvidia-smi does not say, or hangs with the driver."""
    if not nvidia_smi:
        return {"driver": None, "gpus": []}
    asked = process.run([nvidia_smi, "--query-gpu=driver_version,name", "--format=csv,noheader"], NVIDIA_SMI_S)
    rows = [line.split(", ", 1) for line in asked.stdout.splitlines() if ", " in line]
    if asked.rc != 0 or not rows:
        return {"driver": None, "gpus": None}
    return {"driver": rows[0][0], "gpus": [row[1].strip() for row in rows]}


def plan_of(params: Dict[str, Any]) -> run.Plan:
    wrong = sweep.problems(params)
    if wrong:
        raise Failure(wrong, "", "usage")
    profile = sweep.PROFILES[params["profile"]]
    given = {
        name: params[name]
        for name in ("prompt_tokens", "output_tokens", "range_ratio", "budget_s", "concurrency")
        if params[name]
    }
    profile = sweep.cut_to(profile._replace(**given), params["context"])
    slo = {"ttft": params["slo_ttft_ms"], "tpot": params["slo_tpot_ms"]}
    return run.Plan(params["profile"], profile, slo, params["stall_s"])


def service_of(record: Dict[str, Any], supervisor_config: str, needs: bool) -> Optional[WatchedService]:
    """The service behind the endpoint; None where the record names none. Raises Failure where a key needs one."""
    service = record.get("service")
    if isinstance(service, dict) and service.get("name") and service.get("manager"):
        watched = WatchedService(service, supervisor_config)
        try:
            watched.check()
        except EngineFailure:
            if needs:
                raise
        return watched
    if needs:
        raise Failure("the record names no service: the API key is not sent", "run `dsdeploy up` again")
    return None


@contextlib.contextmanager
def alone(path: str):
    """While it is entered, nobody else measures on this host: two loads would measure each other. Raises Failure."""
    try:
        descriptor = locked.open_lock(path)
    except OSError as error:
        raise Failure("%s: %s" % (path, error.strerror), "run it as a user that may write there") from None
    try:
        locked.hold(descriptor, path, 0)
    except Failure:
        raise Failure(
            "another measurement runs on this machine", "wait for it: two loads would distort each other"
        ) from None
    else:
        yield
    finally:
        os.close(descriptor)


def ask_first(target: load.Target) -> None:
    """Raises Failure where the key is not to be sent to who listens."""
    with contextlib.suppress(OSError):  # nobody listens: the measurement says so
        load.trusted(target)


def unasked(_address: str, _port: int) -> None:
    """Of an engine without a key there is nothing to send; elsewhere its certificate has told who it is."""


def own_tool(module: AnsibleModule, key: Optional[str]) -> Optional[run.Beside]:
    """The load generator of `against`; None where that is not asked for. Raises Failure."""
    tool, record, rounds = module.params["against"], module.params["record"], module.params["rounds"]
    if rounds is not None and not tool:
        raise Failure("rounds: they are taken in turns with another tool: against names it", "", "usage")
    if not tool:
        return None
    records, _problems = read_records(module.params["records_path"])
    root = next((found.get("releases") for found in records if found["engine"] == tool), None)
    root = against.check(tool, root, record)

    def measure(load_: turns.Load, ours_s: float, stop: Callable[[], bool]) -> Optional[turns.Round]:
        return against.run(tool, root, record, key, load_, against.limit_s(ours_s), stop)

    return run.Beside(tool, rounds or turns.ROUNDS, measure)


def reader_of(record: Dict[str, Any], key: Optional[str], trust: Callable[[str, int], None]):
    path = record.get("metrics_path")
    if not path:
        return None
    endpoint = Endpoint(record["endpoint"], key, validate_certs=False)
    endpoint.trust = trust

    def read() -> Optional[str]:
        try:
            status, _type, body = endpoint.get(path, 2.0)
        except EngineFailure:
            return None
        return body.decode("utf-8", "replace") if status == 200 else None

    return read


class Stop:
    """Whether to break off: a signal came, the action plugin says so beside the progress file, or it is gone."""

    def __init__(self) -> None:
        self._progress = progress_file()
        self._signalled = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signal)

    def _signal(self, _number: int, _frame: Any) -> None:
        self._signalled = True

    def __call__(self) -> bool:
        if self._signalled or not self._progress:
            return self._signalled
        if os.path.exists(self._progress + ".stop"):
            return True
        try:
            return time.time() - os.stat(self._progress + ".alive").st_mtime > ALONE_S
        except OSError:
            return False  # it has not asked yet


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "record": {"type": "dict", "required": True},
            "profile": {"type": "str", "choices": ["quick", "chat", "long", "rag"], "default": "quick"},
            "concurrency": {"type": "list", "elements": "int"},
            "prompt_tokens": {"type": "int", "no_log": False},
            "output_tokens": {"type": "int", "no_log": False},
            "range_ratio": {"type": "float"},
            "budget_s": {"type": "int"},
            "context": {"type": "int"},
            "slo_ttft_ms": {"type": "float", "default": 500},
            "slo_tpot_ms": {"type": "float", "default": 50},
            "stall_s": {"type": "float", "default": 600},
            "min_tokens_s": {"type": "float", "no_log": False},
            "max_ttft_p99_ms": {"type": "float"},
            "against": {"type": "str", "choices": list(against.TOOLS)},
            "rounds": {"type": "int"},
            "from_here": {"type": "bool", "default": False},
            "key_file": {"type": "path", "no_log": False},
            "records_path": {"type": "path", "default": places.RECORDS},
            "lock": {"type": "path"},
            "results_dir": {"type": "path"},
            "supervisor_config": {"type": "path", "default": places.SUPERVISOR_CONFIG},
        },
        supports_check_mode=True,
    )
    params = module.params
    record, here = params["record"], params["from_here"]
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="nothing is measured in check mode")
    # What this machine has says nothing of the one that serves.
    nvidia_smi = None if here else shutil.which("nvidia-smi")
    try:
        plan = plan_of(params)
        if here and params["against"]:
            raise Failure("against: the engine's own tool measures on the host itself, not from here", "", "usage")
        key = key_of({"api_key_file": params["key_file"]} if here else record)
        way = remote.way_to(record, bool(key)) if here else None
        if key:
            # Whatever the server repeats of it is masked in the result.
            module.no_log_values.add(key)
        service = None if here else service_of(record, params["supervisor_config"], bool(key))
        trust = service.trust if service else unasked
        target = target_of(record, key, trust, way)
        ask_first(target)
        stop = Stop()
        beside = own_tool(module, key)
        watcher = watch.Watch(nvidia_smi, None if here else reader_of(record, key, trust))
        lock = params["lock"] or (str(Path.home() / ".dsdeploy-bench.lock") if here else places.BENCH_LOCK)
        with alone(lock), Progress("bench", unit="requests") as progress, watcher as watching:
            result = run.benchmark(target, plan, progress, watching, stop, beside=beside)
    except Failure as failure:
        module.fail_json(**failure.fields())
    result["environment"] = dict(
        {"driver": None, "gpus": None} if here else gpus_of(nvidia_smi),
        measured_from="the host itself" if way is None else "another host, through the " + way.through,
        record={
            name: value for name, value in record.items() if name not in ("state", "ready", "ready_detail", "file")
        },
        host=platform.node(),
        kernel=platform.release(),
        cpus=os.cpu_count(),
        python=platform.python_version(),
        served=None
        if here
        else served.process((service.state or {}).get("pid") if service else None, [key] if key else []),
        model=None if here else served.model_files(record.get("model_path")),
    )
    missed = thresholds.missed(result, params["min_tokens_s"], params["max_ttft_p99_ms"])
    if not result["interrupted"]:
        missed += turns.problems(result["points"])
    if missed:
        failed = Failure("; ".join(missed), thresholds.hint(result), "verify")
        module.fail_json(bench=result, **failed.fields())
    module.exit_json(changed=False, bench=result)


if __name__ == "__main__":
    main()
