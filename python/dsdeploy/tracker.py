"""From ansible-runner's events to ours, and what is known of every host: a state machine without I/O."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dsdeploy import events, failures
from dsdeploy.errors import ExitCode, worst
from dsdeploy.stages import STAGES, stage_of

PROGRESS_PREFIX = "DSDEPLOY_PROGRESS "
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
# Without those that turn the direction of what follows (U+202A to 202E, 2066 to 2069).
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")
_ESCAPED = re.compile(rf"{_CONTROL.pattern[:-1]}\u2028\u2029\ud800-\udfff]")  # lines of others, half characters
# A stage whose tasks are all skipped is not worth a word; one that takes this long (s) is.
_STAGE_PATIENCE = 1.0


def plain_text(text: str) -> str:
    """`text` without ANSI sequences and control characters but newline and tab: what a host or a model says must not
    steer the terminal."""
    return _CONTROL.sub("", _ANSI.sub("", text.replace("\r\n", "\n")))


def json_line(value: Any) -> str:
    """`value` as JSON on one line, which steers no terminal either, and which can be written whatever it holds."""
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def shortened(text: str, most: int) -> str:
    """`text` in at most `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def one_line(text: Any) -> str:
    """Foreign text, such as a name, on one line, without what steers a terminal."""
    return " ".join(plain_text(str(text)).split())


@dataclass
class Host:
    """What is known of one host; `since` is when its running task began."""

    stage: str = ""
    task: str = ""
    running: bool = False
    since: float = 0.0
    progress: events.Progress | None = None
    job: bool = False  # its task has told progress: it is a job of the host, which does not end with this run
    unreachable: bool = False
    changed: list[str] = field(default_factory=list)
    failed_items: list[Mapping[str, Any]] = field(default_factory=list)  # of the running task's loop
    failures: list[events.Failure] = field(default_factory=list)
    deployments: dict[str, events.Deployment] = field(default_factory=dict)
    answers: list[events.Answer] = field(default_factory=list)
    measurements: list[events.Measurement] = field(default_factory=list)
    look: dict[str, Any] | None = None
    plans: list[events.Plan] = field(default_factory=list)
    logs: list[events.ServiceLog] = field(default_factory=list)
    models: list[events.StoredModel] = field(default_factory=list)
    checks: events.Checks | None = None
    keys: list[events.GatewayKey] = field(default_factory=list)
    stages: set[str] = field(default_factory=set)


class Tracker:
    """Feed it the events of one run in order. Times (s) are the caller's, from one monotonic clock."""

    def __init__(
        self, verb: str, now: float, check: bool = False, verbose: bool = False, engine: str | None = None
    ) -> None:
        self.verb = verb
        self._engine = engine  # that alone is asked for
        self.check = check
        self.hosts: dict[str, Host] = {}
        # Where a verb has no stages, it is itself the only one.
        self.stage = "preflight" if verb == "up" else verb
        self.ansible_pid: int | None = None
        self._verbose = verbose
        self._began = now
        self._stage_began = now
        self._stage_changes: dict[str, list[str]] = {}
        self._stage_failed = 0
        self._stage_told = False
        self._next = (self.stage, now)  # of the running task, and when it began
        self._stats: dict[str, dict[str, int]] | None = None
        self._said: deque[str] = deque(maxlen=200)

    # -- events ----------------------------------------------------------------------------------------------------

    def feed(self, raw: Mapping[str, Any], now: float) -> Iterator[events.Event]:
        """Our events for one event of ansible-runner."""
        kind = str(raw.get("event"))
        data = raw.get("event_data") or {}
        text = plain_text(str(raw.get("stdout") or ""))
        if text.startswith(PROGRESS_PREFIX):
            yield from self._progress(text[len(PROGRESS_PREFIX) :])
            return
        if kind.startswith(("runner_", "playbook_")):
            self.ansible_pid = raw.get("pid") or self.ansible_pid
        elif text.strip():
            yield from self._twice(text)
            yield from self._left_out(text)
            self._said.append(text)
        if self._verbose and text.strip():
            yield events.Log(text)
        if kind == "playbook_on_task_start":
            self._next = stage_of(data)[0] or self.stage, now
        elif kind == "playbook_on_stats":
            self._stats = {key: data.get(key) or {} for key in _STATS}
        elif kind == "runner_on_file_diff" and text.strip():
            yield events.Diff(_task(data), text)
        elif kind == "runner_item_on_failed" and data.get("host"):
            self.hosts.setdefault(str(data["host"]), Host()).failed_items.append(data.get("res") or {})
        elif kind == "runner_item_on_ok" and data.get("host"):
            # Ansible takes the warnings out of what it says of the whole loop.
            yield from _warnings(str(data["host"]), data, data.get("res") or {})
        elif kind.startswith("runner_on_") and data.get("host"):
            yield from self._result(kind, data, text, now)

    def _twice(self, text: str) -> Iterator[events.Event]:
        """Ansible takes the last of two values of one name, and a user wonders about the first."""
        before = self._said[-1] if self._said else ""
        found = re.match(r"\[WARNING\]: Found duplicate mapping key '([^']*)'", before)
        if found and (place := failures.origin(text)):
            yield events.Warn("", "", f"{place}: {one_line(found[1])} stands there twice; the last value counts")
        # ansible-core before 2.19, over several lines.
        said = " ".join(f"{before} {text}".split())
        found = re.search(r"mapping from (\S+), line (\d+), column \d+, found a duplicate dict key \(([^)]*)\)", said)
        if found and "duplicate dict key" not in " ".join(before.split()):
            yield events.Warn("", "", f"{found[1]}:{found[2]}: {found[3]} stands there twice; the last value counts")

    def _left_out(self, text: str) -> Iterator[events.Event]:
        """A name in --limit that the inventory has not, such as a misspelt one: Ansible leaves it out beside others."""
        before = self._said[-1] if self._said else ""
        # Before ansible-core 2.19 over two lines where it is long.
        said = f"{before} {text}" if before.rstrip().endswith("host pattern, ignoring:") else text
        if found := re.match(r"\[WARNING\]: Could not match supplied host pattern, ignoring:\s+(\S+)", said):
            yield events.Warn("", "", f"the inventory has no host or group {one_line(found[1])}: it is left out")

    def tick(self, now: float) -> Iterator[events.Event]:
        """Time passed without an event: tell of a stage that takes its time."""
        if now - max(self._next[1], self._stage_began) >= _STAGE_PATIENCE:
            yield from self._enter()

    def _enter(self) -> Iterator[events.Event]:
        """The running task does something, or takes its time: its stage is the one that is told. A stage whose tasks
        are all skipped never is."""
        stage, began = self._next
        if stage != self.stage:
            yield from self._leave(began)
            self.stage, self._stage_began = stage, began
            self._stage_changes, self._stage_failed = {}, 0
        if self.stage and not self._stage_told:
            self._stage_told = True
            yield events.Stage(self.stage, "started")

    def running_stage(self, now: float) -> tuple[str, float]:
        """The stage that runs, and for how long (s) it has."""
        return self.stage, now - self._stage_began

    def _leave(self, now: float, stopped: bool = False) -> Iterator[events.Event]:
        if self._stage_told:
            changes = list(dict.fromkeys(change for host in self._stage_changes.values() for change in host))
            yield events.Stage(
                self.stage,
                "finished",
                round(now - self._stage_began, 1),
                sum(map(len, self._stage_changes.values())),
                self._stage_failed,
                changes,
                stopped,
            )
        self._stage_told = False

    def _progress(self, text: str) -> Iterator[events.Event]:
        try:
            told = json.loads(text)
            event = events.Progress(
                host=str(told["host"]),
                task=one_line(told.get("task") or ""),
                what=one_line(told.get("what") or ""),
                done=float(told["done"]),
                total=None if told.get("total") is None else float(told["total"]),
                unit=str(told.get("unit") or ""),
                rate=None if told.get("rate") is None else float(told["rate"]),
                eta_s=None if told.get("eta_s") is None else float(told["eta_s"]),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return  # progress is a courtesy: a line that cannot be read changes no result
        host = self.hosts.setdefault(event.host, Host())
        host.progress, host.job = event, True
        yield from self._enter()
        yield event

    def _result(self, kind: str, data: Mapping[str, Any], text: str, now: float) -> Iterator[events.Event]:
        host = self.hosts.setdefault(str(data["host"]), Host())
        if kind in ("runner_on_start", "runner_on_async_poll"):
            if not host.running:
                host.since, host.failed_items = now, []
            host.stage, host.task, host.running = stage_of(data)[0] or self.stage, _task(data), True
            return
        host.running, host.progress, host.job = False, None, False
        if kind == "runner_on_skipped":
            return
        (stage, counts), name, task = stage_of(data), str(data["host"]), _task(data)
        stage = stage or self.stage
        result = data.get("res") or {}
        if _action(data) not in _SILENT:
            host.stages.update([stage] if counts else [])
            yield from self._enter()
        if kind in ("runner_on_failed", "runner_on_unreachable"):
            yield from self._enter()
            self._stage_failed += 1
            unreachable = kind == "runner_on_unreachable"
            failure = failures.describe(name, stage, task, _action(data), result, host.failed_items, unreachable)
            if (place := failures.origin(text)) and place not in failure.msg:
                failure = replace(failure, msg=f"{failure.msg} ({place})")
            if data.get("ignore_errors") and not unreachable:
                yield events.Task(name, stage, task, "ignored", failure.msg)
            else:
                host.unreachable = host.unreachable or unreachable
                host.failures.append(failure)
                yield events.Task(name, stage, task, "unreachable" if unreachable else "failed", failure.msg)
        # A withheld result (no_log) tells by Ansible's line alone whether it changed something.
        elif result.get("changed") or ("censored" in result and text.startswith("changed:")):
            changes = _changes(result) or [task]
            host.changed += [f"{stage}: {change}" if stage else change for change in changes]
            self._stage_changes.setdefault(name, []).extend(changes)
            yield events.Task(name, stage, task, "changed", "; ".join(_changes(result)))
        if "results" not in result:
            yield from _warnings(name, data, result)
        yield from self._of_our_modules(name, host, task, str(data.get("resolved_action") or ""), result)

    def _of_our_modules(
        self, name: str, host: Host, task: str, action: str, result: Mapping[str, Any]
    ) -> Iterator[events.Event]:
        if not action.startswith("dsdeploy.llm."):
            return
        items = [item for item in result.get("results") or [result] if isinstance(item, dict)]
        for item in items:
            for event in _module_events(name, action.rpartition(".")[2], item):
                if isinstance(event, events.Deployment):
                    if self.verb == "up" and event.ready is None:
                        continue  # read to plan by, whatever its engine, not reported
                    host.deployments[event.engine] = event
                elif isinstance(event, events.Look):
                    host.look = event.look
                elif isinstance(event, events.Answer):
                    host.answers.append(event)
                elif isinstance(event, events.Measurement):
                    host.measurements.append(event)
                elif isinstance(event, events.Plan):
                    host.plans.append(event)
                elif isinstance(event, events.ServiceLog):
                    host.logs.append(event)
                elif isinstance(event, events.GatewayKey):
                    host.keys.append(event)
                elif isinstance(event, events.StoredModel):
                    host.models.append(event)
                elif isinstance(event, events.Checks):
                    host.checks = event
                yield event

    # -- the end ---------------------------------------------------------------------------------------------------

    def positions(self) -> dict[str, str]:
        """Where each host is that has a task running: `<stage>: <task>`."""
        return {name: f"{host.stage}: {host.task}" for name, host in self.hosts.items() if host.running}

    def finish(
        self, ansible_rc: int | None, now: float, interrupted_at: dict[str, str] | None = None, gave_up: str = ""
    ) -> Iterator[events.Event]:
        """The last events: the end of the last stage, what failed, and the summary. `interrupted_at`: positions() when
        the user stopped the run, None if they did not; `gave_up`: why the command stopped it itself."""
        yield from self._leave(now, interrupted_at is not None)
        failed = self._failures()
        if interrupted_at is None:
            if gave_up:
                hint = "See whether `ansible-inventory -i SOURCE --list` ends; passwords are asked by -k, -K, -J."
                failed = [events.Failure("", "", "", gave_up, hint)]
            elif not failed:
                failed = [*self._failed_outside_hosts(ansible_rc), *self._missing_results()]
            codes = [failures.exit_code(failure) for failure in failed]
            deployments = [found for host in self.hosts.values() for found in host.deployments.values()]
            if self.verb == "status" and not all(found.ready or found.stopped_on_purpose for found in deployments):
                codes.append(ExitCode.VERIFY)
            if any(found.interrupted for host in self.hosts.values() for found in host.measurements):
                codes.append(ExitCode.INTERRUPTED)  # by the soft stop: what there was is kept
        else:
            codes = [ExitCode.INTERRUPTED]
        yield from failed
        code = worst(codes)
        yield events.Summary(
            verb=self.verb,
            ok=code == ExitCode.OK,
            exit_code=int(code),
            seconds=round(now - self._began, 1),
            ansible_rc=ansible_rc,
            hosts={name: self._host_summary(name) for name in self.hosts if not self._only_seen(name)},
            failures=failed,
            positions=interrupted_at or {},
            going_on=[name for name in interrupted_at or {} if self.hosts[name].job],
            check=self.check,
        )

    def _only_seen(self, name: str) -> bool:
        """A name known from progress lines alone, or one that Ansible did not count."""
        return self._stats is not None and name not in self._stats["processed"]

    def _failures(self) -> list[events.Failure]:
        """What failed in the end. Of a host's failed tasks the first `rescued` many (Ansible counts them) were made
        good by a rescue section; what comes after stopped the host."""
        failed: list[events.Failure] = []
        for name, host in self.hosts.items():
            if self._stats is None:
                failed += host.failures
            elif name in self._stats["failures"] or name in self._stats["dark"]:
                rescued = self._stats["rescued"].get(name, 0)
                failed += host.failures[min(rescued, max(len(host.failures) - 1, 0)) :]
        return failed

    def _failed_outside_hosts(self, ansible_rc: int | None) -> Iterator[events.Failure]:
        """Ansible ended without having come to a host, or broke down."""
        whole = "\n".join(self._said)
        said = _error_text(whole)
        if "parse inventory source" in said and (cause := _parse_cause(whole)):
            said = f"{said}: {cause}"
        if not ansible_rc:
            if not (self._stats or {}).get("processed") and self.verb:
                said = "no host of the inventory matches"
                yield events.Failure("", "", "", said, failures.hint_for(said), "usage")
        elif self.hosts:
            yield events.Failure(
                "", self.stage, "", said or f"ansible-playbook ended with exit status {ansible_rc}",
                "Run the same command again with -vvv to see where.",
            )  # fmt: skip
        else:
            yield events.Failure(
                "", "", "", said or f"ansible-playbook ended with exit status {ansible_rc} before it came to a host",
                failures.hint_for(said)
                or "Correct what the message names (inventory, variable, password), then run the same command again.",
                "usage",
            )  # fmt: skip

    def _missing_results(self) -> Iterator[events.Failure]:
        """`ask` and `logs` without anything to ask or show."""
        if self.check or self.verb not in ("ask", "logs"):
            return
        for name, host in self.hosts.items():
            if not self._only_seen(name) and not (host.answers if self.verb == "ask" else host.logs):
                said = f"{self._engine or 'nothing'} is {'not ' if self._engine else ''}deployed here"
                yield events.Failure(name, "", "", said, "Deploy first: dsdeploy up; `dsdeploy status` tells what is.")

    def _host_summary(self, name: str) -> events.HostSummary:
        host = self.hosts[name]
        stats = {key: counts.get(name, 0) for key, counts in (self._stats or dict.fromkeys(_STATS, {})).items()}
        unreachable = stats["dark"] or (self._stats is None and host.unreachable)
        failed = stats["failures"] or (self._stats is None and host.failures)
        return events.HostSummary(
            status="unreachable" if unreachable else "failed" if failed else "ok",
            ok=stats["ok"],
            changed=max(stats["changed"], len(host.changed)),
            failed=stats["failures"],
            skipped=stats["skipped"],
            rescued=stats["rescued"],
            ignored=stats["ignored"],
            changed_tasks=host.changed,
            deployments=[asdict(deployment) for deployment in host.deployments.values()],
            answers=[asdict(answer) for answer in host.answers],
            models=[asdict(model) for model in host.models],
            measurements=[asdict(measurement) for measurement in host.measurements],
            look=host.look,
            plans=[{"plan": found.plan, "lines": found.lines} for found in host.plans],
            keys=[asdict(key) for key in host.keys],
            stages=[stage for stage in STAGES if stage in host.stages],
            checks=asdict(host.checks) if host.checks else None,
        )


# Not worth telling the stage for: what only leads to others, or serves the run itself.
_SILENT = ("include_tasks", "include_role", "meta", "validate_argument_spec", "host_lock")
_STATS = ("ok", "changed", "failures", "dark", "skipped", "rescued", "ignored", "processed")


def _action(data: Mapping[str, Any]) -> str:
    return str(data.get("resolved_action") or data.get("task_action") or "").rpartition(".")[2]


def _changes(result: Mapping[str, Any]) -> list[str]:
    """What a module that does several things says that it changed."""
    found = [result, *(item for item in result.get("results") or [] if isinstance(item, dict))]
    told = [item["changes"] for item in found if item.get("changed") and isinstance(item.get("changes"), list)]
    return [plain_text(change) for changes in told for change in changes if isinstance(change, str)]


def _task(data: Mapping[str, Any]) -> str:
    """The task's name without the `<room> | ` before it."""
    if _action(data) == "validate_argument_spec":
        return "Check the role's variables"
    return one_line(str(data.get("task") or "").rpartition(" | ")[2])


_STORE_RESULTS = {"model_info": "models", "model_verify": "verified", "model_prune": "removed"}


def _warnings(host: str, data: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[events.Event]:
    """The warnings of our modules. Ansible adds its own, such as on interpreter discovery."""
    if str(data.get("resolved_action") or "").startswith("dsdeploy.llm."):
        for warning in result.get("warnings") or []:
            if "interpreter" not in str(warning):
                yield events.Warn(host, _task(data), plain_text(str(warning)))


def _module_events(host: str, module: str, result: Mapping[str, Any]) -> Iterator[events.Event]:
    """What one of our modules found. A key that is missing is unknown, not an error: check mode knows less."""
    if module == "chat_probe" and result.get("answer") is not None:
        yield events.Answer(
            host=host,
            answer=plain_text(str(result["answer"])),
            reasoning=plain_text(str(result.get("reasoning") or "")),
            tokens_per_s=result.get("tokens_per_s"),
            ttft_s=result.get("ttft_s"),
            verified=result.get("as_expected"),
            finish_reason=result.get("finish_reason"),
        )
    elif module == "bench" and isinstance(result.get("bench"), dict):
        measured = result["bench"]
        record = measured["environment"]["record"]
        # What is drawn over time is in the file; a line of events need not hold it.
        long = ("timeline", "queue", "gpu_strip")
        yield events.Measurement(
            host=host,
            engine=one_line(f"{record.get('engine')} {record.get('version')}"),
            model=one_line(record.get("model") or ""),
            path=str(result.get("path") or ""),
            points=[{name: value for name, value in point.items() if name not in long} for point in measured["points"]],
            ended=plain_text(str(measured.get("ended") or "")),
            interrupted=bool(measured.get("interrupted")),
            warnings=[plain_text(str(line)) for line in measured.get("warnings") or []],
        )
    elif module == "deployment_plan" and isinstance(result.get("plan"), dict):
        lines = [plain_text(str(line)) for line in result.get("lines") or []]
        yield events.Plan(host=host, plan=result["plan"], lines=lines)
    elif module in ("deployment_facts", "deployment_report"):
        for found in result.get("deployments") or []:
            yield events.Deployment(
                host=host,
                engine=one_line(found.get("engine") or ""),
                version=one_line(found.get("version") or ""),
                model=one_line(found.get("model") or ""),
                endpoint=one_line(found.get("endpoint") or ""),
                api=str(found.get("api") or ""),
                service=found.get("service") or {},
                state=found.get("state") or {},
                ready=found.get("ready"),
                ready_detail=plain_text(str(found.get("ready_detail") or "")),
                stopped_on_purpose=bool(found.get("stopped_on_purpose")),
                public_endpoint=one_line(found.get("public_endpoint") or ""),
                fingerprint=str(found.get("fingerprint") or ""),
                gang=found.get("gang") or {},
            )
        if isinstance(result.get("look"), dict):
            yield events.Look(host, result["look"])
    elif module == "host_check" and isinstance(result.get("checks"), list):
        yield events.Checks(
            host=host,
            status=str(result.get("status") or ""),
            deep=bool(result.get("deep")),
            counts=result.get("counts") or {},
            checks=[{key: plain_text(str(value)) for key, value in one.items()} for one in result["checks"]],
        )
    elif module == "service_log" and result.get("lines") is not None:
        yield events.ServiceLog(host, [plain_text(str(line)) for line in result["lines"]], result.get("state") or {})
    elif module == "gateway_key":
        for found in result.get("keys") or []:
            yield events.GatewayKey(
                host=host,
                key_name=str(found.get("name") or ""),
                created=str(found.get("created") or ""),
                requests_per_minute=found.get("requests_per_minute"),
                streams=found.get("streams"),
                models=found.get("models"),
            )
    elif module in _STORE_RESULTS:
        for found in result.get(_STORE_RESULTS[module]) or []:
            yield events.StoredModel(
                host=host,
                model=one_line(found.get("name") or ""),
                revision=one_line(found.get("revision") or ""),
                directory=str(found.get("directory") or ""),
                bytes=int(found.get("bytes") or 0),
                complete=found.get("complete"),
                served_by=found.get("served_by") or [],
                needed_by=found.get("needed_by") or [],
                problems=found.get("problems") or [],
                seconds=found.get("seconds"),
                reason=str(found.get("reason") or ""),
            )


def _error_text(said: str) -> str:
    """Ansible's own error line among what it printed, on one line and without the YAML excerpt that follows."""
    errors = re.findall(
        r"^(?:ERROR! |\[ERROR\]: )(.*(?:\n(?!\s*$|\[|ERROR! |Origin: |usage: ).*)*)", said, re.MULTILINE
    )
    # A setting that Ansible cannot take ends it in its own usage or a traceback.
    errors = errors or re.findall(r"^(?:ansible-playbook: error|ansible\.errors\.\w+): (.*)", said, re.MULTILINE)
    text = " ".join(errors[-1].split()) if errors else ""
    return text.split(" The error appears to be in")[0]


def _parse_cause(said: str) -> str:
    """Why Ansible could not read an inventory, and where: of its plugins, which all tried, what the one for such a file
    says."""
    # From ansible-core 2.19 on, and before.
    tried = re.findall(r"Failed to parse inventory with '(\w+)' plugin: (.*)", said)
    tried += re.findall(r"Failed to parse \S+ with (\w+)\s+plugin: (.*)", said)
    causes = dict(reversed(tried))
    plugin = "ini" if not re.search(r"parse inventory source \S+\.(ya?ml|json)\b", said) and "ini" in causes else "yaml"
    cause = one_line(causes.get(plugin, "")).removeprefix("YAML parsing failed: ")
    place = next((f"line {line}" for line in re.findall(r"^Origin: /[^\n]*?:(\d+):\d+", said, re.MULTILINE)), "")
    if not place and (found := re.search(r"error appears to be in '[^']*': line (\d+)", said)):
        place = f"line {found[1]}"
    return ": ".join(filter(None, (place, shortened(re.sub(r', found "<class .*', "", cause), 200))))
