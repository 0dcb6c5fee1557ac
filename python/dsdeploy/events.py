"""What happens during a run, as the renderers get it and as `--json` prints it.

With `--json` every line on stdout is one JSON object, `{"event": <name>, …}` with the fields of the class below that
carries the name. The last line is always the `summary`. Fields may be added, never renamed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

# Verbs that change nothing on the hosts, wherever they are stopped.
READING = frozenset({"status", "doctor", "plan", "ask", "logs", "model list", "key list"})


@dataclass(frozen=True)
class Event:
    name: ClassVar[str]

    def as_json(self) -> dict[str, Any]:
        return {"event": self.name, **asdict(self)}


@dataclass(frozen=True)
class Start(Event):
    """The run begins. `inventory`: the sources as Ansible gets them; `check`: nothing will be changed."""

    name: ClassVar[str] = "start"
    verb: str
    inventory: list[str]
    check: bool


@dataclass(frozen=True)
class Stage(Event):
    """A stage (prepare, preflight, model, install, configure, service or verify; the verb, where it has none) began or
    ended. `status`: started or finished; only when finished `seconds`, and over all hosts how many changes were made
    (`changed`), how many tasks `failed` (ignored and rescued ones too), `changes`, what they were, each once, and
    whether it was `stopped` before its end."""

    name: ClassVar[str] = "stage"
    stage: str
    status: str
    seconds: float | None = None
    changed: int | None = None
    failed: int | None = None
    changes: list[str] = field(default_factory=list)
    stopped: bool = False


@dataclass(frozen=True)
class Task(Event):
    """A task that changed something or went wrong. `status`: changed, failed, unreachable or ignored; `msg`: what it
    changed, as far as it says so, or why it failed. A failed task can still be rescued by the playbook: what failed in
    the end stands in `failure` events."""

    name: ClassVar[str] = "task"
    host: str
    stage: str
    task: str
    status: str
    msg: str = ""


@dataclass(frozen=True)
class Progress(Event):
    """How far a long task is: `done` of `total` (null when unknown) in `unit`, `rate` in unit/s, `eta_s` in s."""

    name: ClassVar[str] = "progress"
    host: str
    task: str
    what: str
    done: float
    total: float | None
    unit: str
    rate: float | None
    eta_s: float | None


@dataclass(frozen=True)
class Warn(Event):
    """A warning of one of dsdeploy's own modules; without `host` one of Ansible's, on a file of the user's."""

    name: ClassVar[str] = "warning"
    host: str
    task: str
    text: str


@dataclass(frozen=True)
class Diff(Event):
    """With `--diff`: what a task changed or would change."""

    name: ClassVar[str] = "diff"
    task: str
    text: str


@dataclass(frozen=True)
class Log(Event):
    """With `-v`: Ansible's own output."""

    name: ClassVar[str] = "log"
    text: str


@dataclass(frozen=True)
class Answer(Event):
    """What the served model answered (`chat_probe`). `ttft_s`: time to the first token in s; `verified`: the answer
    holds what was expected, null when nothing was; `finish_reason`: length for one that was too long."""

    name: ClassVar[str] = "answer"
    host: str
    answer: str
    reasoning: str
    tokens_per_s: float | None
    ttft_s: float | None
    verified: bool | None
    finish_reason: str | None = None


@dataclass(frozen=True)
class Measurement(Event):
    """What `bench` measured: `points`, one for each number of streams, with the fields of the module bench; `path` of
    the file that keeps all of it; `ended`: why there is no further point; `missed`: limits that were missed."""

    name: ClassVar[str] = "measurement"
    host: str
    engine: str
    model: str
    path: str
    points: list[dict[str, Any]]
    ended: str
    interrupted: bool
    warnings: list[str]


@dataclass(frozen=True)
class Plan(Event):
    """What `plan` found for a machine (`deployment_plan`). `plan`: as docs/plan.schema.json says; `lines`: the same for
    people."""

    name: ClassVar[str] = "plan"
    host: str
    plan: dict[str, Any]
    lines: list[str]


@dataclass(frozen=True)
class Deployment(Event):
    """One deployment recorded on a host (`deployment_facts`). `service`: its name and manager; `state.active`: running,
    starting, stopped, failed or absent; `ready`: it answers, null when it was not asked; `ready_detail`: why not;
    `stopped_on_purpose`: as `down` leaves it. `public_endpoint`: where others reach it, through the gateway, or "";
    `fingerprint`: SHA-256 of the gateway's certificate; `gang`: `hosts` by rank and this one's `rank`, of one over
    several hosts, else {}."""

    name: ClassVar[str] = "deployment"
    host: str
    engine: str
    version: str
    model: str
    endpoint: str
    api: str
    service: dict[str, Any]
    state: dict[str, Any]
    ready: bool | None
    ready_detail: str
    stopped_on_purpose: bool = False
    public_endpoint: str = ""
    fingerprint: str = ""
    gang: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Look(Event):
    """What a host and its deployments do now, in the shape of docs/status.schema.json."""

    name: ClassVar[str] = "look"
    host: str
    look: dict[str, Any]


@dataclass(frozen=True)
class Checks(Event):
    """What `doctor` found on a host (`host_check`), as docs/doctor.schema.json describes it. `status`: fail, warn,
    unknown, pass or skip, the first that occurs; `counts` by status; `deep`: whether the long checks were made."""

    name: ClassVar[str] = "checks"
    host: str
    status: str
    deep: bool
    counts: dict[str, int]
    checks: list[dict[str, str]]


@dataclass(frozen=True)
class ServiceLog(Event):
    """The last lines of a service's log (`service_log`), oldest first."""

    name: ClassVar[str] = "service_log"
    host: str
    lines: list[str]
    state: dict[str, Any]


@dataclass(frozen=True)
class StoredModel(Event):
    """One revision of a model in a host's store: listed (`model_info`), read again (`model_verify`; `seconds`) or
    removed (`model_prune`; `reason`). `needed_by`: engines whose release before served it, for `rollback`. `problems`:
    what is wrong with its files, one line each."""

    name: ClassVar[str] = "stored_model"
    host: str
    model: str
    revision: str
    directory: str
    bytes: int
    complete: bool | None = None
    served_by: list[str] = field(default_factory=list)
    needed_by: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class GatewayKey(Event):
    """One key of a host's gateway (`gateway_key`): its name and limits, null where it has none of its own."""

    name: ClassVar[str] = "gateway_key"
    host: str
    key_name: str
    created: str
    requests_per_minute: int | None
    streams: int | None
    models: list[str] | None


@dataclass(frozen=True)
class NewKey(Event):
    """The key that `key add` has made, where all hosts took it: it is told this once. `key_name`: whose it is."""

    name: ClassVar[str] = "key"
    key_name: str
    key: str

    def as_json(self) -> dict[str, Any]:
        return {"event": "key", "name": self.key_name, "key": self.key}


@dataclass(frozen=True)
class Failure(Event):
    """Why a host failed: `msg` is the engine's or module's own message, `hint` the next thing to do, `log_tail` the
    last lines of the log that belongs to it. `kind`: usage, preflight, verify, unreachable, interrupted or "" (any
    other). `host` is "" when the run failed before it came to a host."""

    name: ClassVar[str] = "failure"
    host: str
    stage: str
    task: str
    msg: str
    hint: str = ""
    kind: str = ""
    log_tail: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class HostSummary:
    """How a host ended. `status`: ok, failed or unreachable. The counts are Ansible's; `changed_tasks` are `<stage>:
    <what was done>`. `stages`: what of prepare, preflight, model, install, configure, service and
    verify was gone through, in this order. `checks`: status and counts of what `doctor` found."""

    status: str
    ok: int
    changed: int
    failed: int
    skipped: int
    rescued: int
    ignored: int
    changed_tasks: list[str]
    deployments: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    models: list[dict[str, Any]] = field(default_factory=list)
    measurements: list[dict[str, Any]] = field(default_factory=list)
    look: dict[str, Any] | None = None
    plans: list[dict[str, Any]] = field(default_factory=list)
    keys: list[dict[str, Any]] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    checks: dict[str, Any] | None = None


@dataclass(frozen=True)
class Summary(Event):
    """The last line: `ok` is true exactly when `exit_code` is 0; `ansible_rc` is ansible-playbook's own exit status,
    null when it did not run; `positions` says where each host was when the run was stopped,
    `going_on` which of them go on with that by themselves."""

    name: ClassVar[str] = "summary"
    verb: str
    ok: bool
    exit_code: int
    seconds: float
    ansible_rc: int | None
    hosts: dict[str, HostSummary]
    failures: list[Failure]
    positions: dict[str, str]
    check: bool = False
    going_on: list[str] = field(default_factory=list)
