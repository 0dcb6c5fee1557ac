"""From ansible-runner's events to ours; the raw events have the shapes that ansible-runner 2.4 gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdeploy import events
from dsdeploy.stages import stage_of
from dsdeploy.tracker import Tracker, plain_text

ROLES = Path(__file__).parents[3] / "roles"
INSTALL = "/c/roles/llama_cpp/tasks/install.yml:3"


class Feeder:
    """Plays events to a tracker, one second each unless said otherwise."""

    def __init__(self, verb: str = "up", **options: Any) -> None:
        self.now = 100.0
        self.tracker = Tracker(verb, self.now, **options)
        self.got: list[events.Event] = []

    def __call__(self, event: str, seconds: float = 0.0, stdout: str = "", **data: Any) -> list[events.Event]:
        self.now += seconds
        raw = {"event": event, "pid": 42, "stdout": stdout, "event_data": data}
        new = list(self.tracker.feed(raw, self.now))
        self.got += new
        return new

    def task(self, name: str, path: str = INSTALL, role: str = "llama_cpp", action: str = "ansible.builtin.command",
             **data: Any) -> dict[str, Any]:  # fmt: skip
        """Starts a task and returns what its results carry."""
        context = {"task": name, "task_path": path, "role": role, "resolved_action": action, "play": "P", **data}
        self("playbook_on_task_start", **context)
        return context

    def end(self, rc: int | None = 0, interrupted_at: dict[str, str] | None = None, **stats: Any) -> events.Summary:
        if stats:
            self("playbook_on_stats", **{"processed": {"h": 1}, **stats})
        self.got += self.tracker.finish(rc, self.now, interrupted_at)
        summary = self.got[-1]
        assert isinstance(summary, events.Summary)
        assert summary.ok == (summary.exit_code == 0)
        return summary

    def of(self, kind: type[events.Event]) -> list[Any]:
        return [event for event in self.got if type(event) is kind]


@pytest.fixture
def feed() -> Feeder:
    return Feeder()


def test_stage_is_told_with_the_first_result(feed: Feeder) -> None:
    task = feed.task("Install | Make the venv")
    assert feed("runner_on_start", host="h", **task) == []
    assert feed("runner_on_ok", 2, host="h", res={"changed": True}, **task) == [
        events.Stage("install", "started"),
        events.Task("h", "install", "Make the venv", "changed"),
    ]
    # What is skipped does not end it, and what another role does for it is part of it.
    skipped = feed.task("T", path="/c/roles/llama_cpp/tasks/preflight.yml:1")
    feed("runner_on_skipped", host="h", **skipped)
    other = feed.task("Packages | Install", path="/c/roles/dsdeploy/tasks/packages.yml:1", role="dsdeploy.llm.dsdeploy")
    feed("runner_on_ok", 1, host="h", res={"changed": True}, **other)
    task = feed.task("Service | Start", path="/c/roles/service/tasks/main.yml:1", role="dsdeploy.llm.service")
    assert feed("runner_on_ok", 5, host="h", res={}, **task) == [
        events.Stage("install", "finished", 3.0, 2, 0, ["Make the venv", "Install"]),
        events.Stage("service", "started"),
    ]


def test_what_a_module_says_that_it_changed_is_named(feed: Feeder) -> None:
    task = feed.task("Service | Bring it up", path="/c/roles/service/tasks/present.yml:1", role="service")
    for host in ("a", "b"):
        feed("runner_on_ok", host=host, res={"changed": True, "changes": ["unit written", "started"]}, **task)
    # Nothing was changed, whatever it lists.
    feed("runner_on_ok", host="c", res={"changed": False, "changes": ["x"]}, **task)
    summary = feed.end(0, ok=dict.fromkeys("abc", 1), processed=dict.fromkeys("abc", 1))
    assert summary.hosts["a"].changed_tasks == ["service: unit written", "service: started"]
    assert summary.hosts["c"].changed_tasks == []
    assert feed.of(events.Stage)[-1] == events.Stage("service", "finished", 0.0, 4, 0, ["unit written", "started"])


def test_stage_of_skipped_tasks_is_not_told(feed: Feeder) -> None:
    task = feed.task("T")
    feed("runner_on_start", host="h", **task)
    feed("runner_on_skipped", 0.2, host="h", **task)
    feed.task("U", path="/c/roles/llama_cpp/tasks/service.yml:1")
    assert feed.got == []


def test_stage_that_takes_its_time_is_told_meanwhile(feed: Feeder) -> None:
    feed.task("T")
    assert list(feed.tracker.tick(feed.now + 0.5)) == []
    assert list(feed.tracker.tick(feed.now + 1.0)) == [events.Stage("install", "started")]
    assert list(feed.tracker.tick(feed.now + 1.1)) == []


@pytest.mark.parametrize(
    ("path", "role", "task", "stage"),
    [
        ("/c/roles/llama_cpp/tasks/install_wheel.yml:9", "llama_cpp", "Wheel | T", "install"),
        ("/c/roles/llama_cpp/tasks/anything.yml:9", "dsdeploy.llm.llama_cpp", "Configure | T", "configure"),
        ("/x/tasks/c/roles/service/tasks/_systemd.yml:9", "dsdeploy.llm.service", "Systemd | T", "service"),
        ("/c/roles/service/handlers/main.yml:9", "service", "T", "service"),
        ("/c/roles/python_engine/tasks/switch.yml:9", "python_engine", "Switch | T", "configure"),
        ("/c/roles/python_engine/tasks/switch.yml:9", "python_engine", "Service | Switch to the release", "service"),
        ("/c/roles/model/tasks/fetch.yml:9", "model", "Fetch | T", "model"),
        ("/c/roles/model/tasks/resolve.yml:9", "model", "Resolve | T", "preflight"),
        ("/c/roles/cuda_toolkit/tasks/install.yml:9", "cuda_toolkit", "Install | T", "prepare"),
        # These go with what was before them.
        ("/c/roles/_common/tasks/packages.yml:9", "_common", "Service | T", ""),
        ("/c/roles/_common/tasks/unlock.yml:9", "_common", "Unlock | T", ""),
        ("/c/playbooks/deepseek_r1.yml:9", "", "Report what is deployed", ""),
    ],
)
def test_the_stage_of_a_task(path: str, role: str, task: str, stage: str) -> None:
    assert stage_of({"task_path": path, "role": role, "task": task, "play": "P"})[0] == stage


def test_every_task_of_the_collection_has_a_stage_or_goes_with_one() -> None:
    """A task file that no rule knows would be told as part of whatever ran before it."""
    leading = {"main", "deploy"}  # only to others
    any_stage = {
        "begin",
        "replicas",
        "look",
        "unlock",
        "leave",
        "packages",
        "where",
        "nvcc",
        "uv",
        "releases",
        "remove",
        "restore",
        "firewall",
        "make",
        "files",
    }
    verbs = {"rollback", "list", "prune", "key"}
    known_to_have_none = leading | any_stage | verbs
    for path in sorted(ROLES.glob("*/tasks/*.yml")):
        data = {"role": path.parts[-3], "task_path": f"{path}:1", "task": "T", "play": "P"}
        assert stage_of(data)[0] or path.stem.partition("_")[0] in known_to_have_none, path


def test_verbs_without_stages_are_their_own(feed: Feeder) -> None:
    assert Tracker("status", 0.0).stage == "status"
    assert Tracker("up", 0.0).stage == "preflight"


def test_changed_tasks_are_named_and_withheld_ones_too(feed: Feeder) -> None:
    task = feed.task("Key")
    feed("runner_on_ok", host="h", stdout="changed: [h]", res={"censored": "hidden"}, **task)
    feed("runner_on_ok", host="h", stdout="ok: [h]", res={"censored": "hidden"}, **task)
    summary = feed.end(ok={"h": 2}, changed={"h": 3})
    assert summary.hosts["h"].changed_tasks == ["install: Key"]
    assert summary.hosts["h"].changed == 3  # Ansible's count; a loop's withheld result shows nothing


def test_ignored_failure_is_none(feed: Feeder) -> None:
    task = feed.task("T")
    feed("runner_on_failed", host="h", ignore_errors=True, res={"msg": "no"}, **task)
    summary = feed.end(ok={"h": 1}, ignored={"h": 1})
    assert summary.exit_code == 0
    assert [event.status for event in feed.of(events.Task)] == ["ignored"]


def test_rescued_failure_is_none(feed: Feeder) -> None:
    feed("runner_on_failed", host="h", res={"msg": "no"}, **feed.task("T"))
    summary = feed.end(ok={"h": 1}, rescued={"h": 1})
    assert (summary.exit_code, summary.failures, summary.hosts["h"].status) == (0, [], "ok")


def test_failure_in_the_rescue_is_the_one(feed: Feeder) -> None:
    feed("runner_on_failed", host="h", res={"msg": "first"}, **feed.task("T"))
    feed("runner_on_failed", host="h", res={"msg": "second", "error_kind": "verify"}, **feed.task("U"))
    summary = feed.end(2, failures={"h": 1}, rescued={"h": 1})
    assert [failure.msg for failure in summary.failures] == ["second"]
    assert summary.exit_code == 3
    assert feed.of(events.Failure) == summary.failures


def test_items_of_a_loop_that_failed(feed: Feeder) -> None:
    task = feed.task("T")
    for msg in ("of the task before", "mine"):
        feed("runner_on_start", host="h", **task)
        feed("runner_item_on_failed", host="h", res={"item": "x", "msg": msg}, **task)
        # The items do not say which of them failed.
        res = {"msg": "One or more items failed", "results": [{"item": "w"}, {"item": "x", "msg": msg}]}
        feed("runner_on_failed", host="h", ignore_errors=msg != "mine", res=res, **task)
    assert [failure.msg for failure in feed.end(2, failures={"h": 1}).failures] == ["x: mine"]


def test_hosts_that_end_differently(feed: Feeder) -> None:
    task = feed.task("T")
    feed("runner_on_failed", host="a", res={"msg": "no", "error_kind": "verify"}, **task)
    feed("runner_on_unreachable", host="b", res={"msg": "gone", "unreachable": True}, **task)
    feed("runner_on_ok", host="c", res={}, **task)
    summary = feed.end(4, processed={"a": 1, "b": 1, "c": 1}, failures={"a": 1}, dark={"b": 1}, ok={"c": 1})
    assert {name: host.status for name, host in summary.hosts.items()} == {
        "a": "failed",
        "b": "unreachable",
        "c": "ok",
    }
    assert summary.exit_code == 4


def test_unreachable_that_is_ignored_is_no_failure(feed: Feeder) -> None:
    feed("runner_on_unreachable", host="h", res={"msg": "gone", "unreachable": True}, **feed.task("T"))
    summary = feed.end(ok={"h": 1}, skipped={"h": 1})
    assert (summary.exit_code, summary.hosts["h"].status) == (0, "ok")


def test_answer_and_deployment_from_our_modules_even_in_a_loop(feed: Feeder) -> None:
    answer = {"answer": "\x1b[31m杚\x07", "reasoning": "木+乞", "tokens_per_s": 12.5, "ttft_s": 0.1, "verified": True}
    answer.update(as_expected=True, finish_reason="stop")
    task = feed.task("Ask", action="dsdeploy.llm.chat_probe")
    feed("runner_on_ok", host="h", res={"results": [answer, {"skipped": True}]}, **task)
    found = {"engine": "llama_cpp", "version": None, "model": "m", "endpoint": "http://h", "ready": True}
    task = feed.task("Facts", action="dsdeploy.llm.deployment_facts")
    feed("runner_on_ok", host="h", res={"deployments": [{**found, "ready": False}]}, **task)
    feed("runner_on_ok", host="h", res={"deployments": [found]}, **task)
    summary = feed.end(ok={"h": 3})
    assert feed.of(events.Answer) == [events.Answer("h", "杚", "木+乞", 12.5, 0.1, True, "stop")]
    assert [found["ready"] for found in summary.hosts["h"].deployments] == [True]
    assert summary.hosts["h"].deployments[0]["version"] == ""
    assert summary.exit_code == 0


def test_answer_of_which_nothing_was_expected_is_not_as_expected(feed: Feeder) -> None:
    result = {"answer": "hello", "verified": True, "finish_reason": "length"}
    feed("runner_on_ok", host="h", res=result, **feed.task("Ask", action="dsdeploy.llm.chat_probe"))
    assert feed.of(events.Answer) == [events.Answer("h", "hello", "", None, None, None, "length")]


def test_what_was_read_to_plan_by_is_not_reported(feed: Feeder) -> None:
    other = {"engine": "other", "endpoint": "http://o", "ready": None}
    mine = {"engine": "mine", "endpoint": "http://m", "ready": True}
    task = feed.task("Plan", action="dsdeploy.llm.deployment_facts")
    feed("runner_on_ok", host="h", res={"deployments": [other, {**mine, "ready": None}]}, **task)
    assert feed.of(events.Deployment) == []
    feed("runner_on_ok", host="h", res={"deployments": [mine]}, **task)
    assert [found.engine for found in feed.of(events.Deployment)] == ["mine"]


def test_answer_that_failed_verification_is_shown_too(feed: Feeder) -> None:
    result = {"msg": "not what was expected", "error_kind": "verify", "answer": "no idea", "verified": False}
    feed("runner_on_failed", host="h", res=result, **feed.task("Ask", action="dsdeploy.llm.chat_probe"))
    summary = feed.end(2, failures={"h": 1})
    assert summary.hosts["h"].answers[0]["answer"] == "no idea"
    assert summary.exit_code == 3


@pytest.mark.parametrize(
    ("path", "role", "play", "stage"),
    [
        ("/c/roles/llama_cpp/tasks/preflight.yml:3", "llama_cpp", "Deploy", "preflight"),
        ("/c/roles/model/tasks/fetch.yml:3", "model", "Deploy", "model"),
        ("/c/roles/service/tasks/main.yml:3", "service", "Deploy", "service"),
        ("/c/roles/nvidia_driver/tasks/verify.yml:3", "nvidia_driver", "Prepare the host", "prepare"),
        ("/c/roles/model/tasks/resolve.yml:3", "model", "Deploy", None),
        ("/c/roles/_common/tasks/packages.yml:3", "_common", "Deploy", None),
        ("/c/playbooks/deepseek_r1.yml:3", "", "Deploy", None),
    ],
)
def test_stages_that_were_gone_through(feed: Feeder, path: str, role: str, play: str, stage: str | None) -> None:
    feed("runner_on_ok", host="h", res={}, **feed.task("T", path, role, play=play))
    skipped = feed.task("T", "/c/roles/llama_cpp/tasks/verify.yml:3")
    feed("runner_on_skipped", host="h", res={}, **skipped)
    assert feed.end(0, ok={"h": 1}).hosts["h"].stages == ([stage] if stage else [])


def test_the_play_that_prepares_is_known_by_its_name() -> None:
    playbook = Path(__file__).parents[3] / "playbooks" / "prepare_host.yml"
    assert "\n- name: Prepare the host\n" in playbook.read_text(encoding="utf-8")


def test_check_mode_knows_less(feed: Feeder) -> None:
    task = feed.task("Ask", action="dsdeploy.llm.chat_probe")
    feed("runner_on_ok", host="h", res={"msg": "check mode: no question was asked"}, **task)
    assert feed.of(events.Answer) == []


def test_warnings_of_our_modules_alone(feed: Feeder) -> None:
    res = {"warnings": ["runs on the CPU", "Host 'h' is using the discovered Python interpreter at '/x'"]}
    feed("runner_on_ok", host="h", res=res, **feed.task("T", action="dsdeploy.llm.model_fit"))
    feed("runner_on_ok", host="h", res={"warnings": ["x"]}, **feed.task("T"))
    assert [event.text for event in feed.of(events.Warn)] == ["runs on the CPU"]
    task = feed.task("T", action="dsdeploy.llm.service")
    feed("runner_item_on_ok", host="h", res={"warnings": ["in a loop"], "item": "x"}, **task)
    feed("runner_on_ok", host="h", res={"results": [{"warnings": ["in a loop"], "item": "x"}]}, **task)
    assert [event.text for event in feed.of(events.Warn)] == ["runs on the CPU", "in a loop"]


def test_progress_line(feed: Feeder) -> None:
    told = {"host": "h", "task": "T", "what": "m.gguf", "done": 5, "total": 10, "unit": "B", "rate": 2.5, "eta_s": 2}
    feed.task("T")
    feed("verbose", stdout="DSDEPLOY_PROGRESS " + json.dumps(told))
    assert feed.got == [
        events.Stage("install", "started"),
        events.Progress("h", "T", "m.gguf", 5.0, 10.0, "B", 2.5, 2.0),
    ]
    assert feed.tracker.hosts["h"].progress == feed.got[-1]


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"host": "h"}', '{"host": "h", "done": "x"}', "5"])
def test_progress_line_that_cannot_be_read_is_dropped(feed: Feeder, text: str) -> None:
    assert feed("verbose", stdout=f"DSDEPLOY_PROGRESS {text}") == []


def test_name_in_a_progress_line_is_no_host_of_the_run(feed: Feeder) -> None:
    feed("verbose", stdout='DSDEPLOY_PROGRESS {"host": "other", "done": 1}')
    feed("runner_on_ok", host="h", res={}, **feed.task("T"))
    assert list(feed.end(ok={"h": 1}).hosts) == ["h"]


@pytest.mark.parametrize(
    "said",
    [
        "ERROR! bad thing\n",
        "[ERROR]: bad thing\nOrigin: /x:1\n\n1 a: b\n",
        "usage: ansible-playbook [-h]\n  playbook [playbook ...]\nansible-playbook: error: bad thing\n",
        "Traceback (most recent call last):\n  File x\nansible.errors.AnsibleOptionsError: bad thing\n",
    ],
)
def test_error_before_any_host_is_usage(feed: Feeder, said: str) -> None:
    feed("verbose", stdout="Using /etc/ansible.cfg")
    feed("error", stdout=said)
    summary = feed.end(1)
    assert summary.exit_code == 2
    assert summary.failures[0].msg == "bad thing"
    assert summary.failures[0].hint.startswith("Correct what the message names")


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Completely failed to parse inventory source /x/hosts.yml", "Give an inventory in YAML or INI"),
        ("Specified inventory, host pattern and/or --limit leaves us with no hosts to target.", "Check the inventory"),
    ],
)
def test_a_wrong_inventory_has_a_hint_of_its_own(feed: Feeder, said: str, hint: str) -> None:
    feed("error", stdout=f"[ERROR]: {said}\n")
    summary = feed.end(1)
    assert (summary.exit_code, summary.failures[0].msg) == (2, said)
    assert summary.failures[0].hint.startswith(hint)


TABS = """[WARNING]: Failed to parse inventory with 'auto' plugin: YAML parsing failed: Tabs are usually invalid in YAML.

Failed to parse inventory with 'auto' plugin.

<<< caused by >>>

YAML parsing failed: Tabs are usually invalid in YAML.
Origin: /x/hosts.yml:5:1

[WARNING]: Failed to parse inventory with 'yaml' plugin: YAML parsing failed: Tabs are usually invalid in YAML.
Origin: <inventory plugin 'yaml' with source '/x/hosts.yml'>
[WARNING]: Failed to parse inventory with 'ini' plugin: Failed to parse inventory: Invalid host pattern 'all:' supplied.
Origin: /x/hosts.yml"""  # noqa: E501
LIST = """[WARNING]: Failed to parse inventory with 'auto' plugin: no root 'plugin' key found
[WARNING]: Failed to parse inventory with 'yaml' plugin: Invalid "hosts" entry for "all" group, requires a dictionary, found "<class 'x'>" instead.
[WARNING]: Failed to parse inventory with 'ini' plugin: Invalid host pattern"""  # noqa: E501
OLD = """[WARNING]:  * Failed to parse /x/hosts.yml with yaml plugin: We were unable to read either as JSON nor YAML
The error appears to be in '/x/hosts.yml': line 5, column 1, but may
be elsewhere in the file depending on the exact syntax problem.
[WARNING]:  * Failed to parse /x/hosts.yml with ini plugin: Invalid host pattern"""


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (TABS, "line 5: Tabs are usually invalid in YAML."),
        (LIST, 'Invalid "hosts" entry for "all" group, requires a dictionary'),
        (OLD, "line 5: We were unable to read either as JSON nor YAML"),
    ],
    ids=["tabs", "list", "old"],
)
def test_why_an_inventory_cannot_be_read_and_where(feed: Feeder, said: str, cause: str) -> None:
    for line in said.splitlines():  # each is an event of its own
        feed("verbose", stdout=line)
    feed("verbose", stdout="[ERROR]: Completely failed to parse inventory source /x/hosts.yml")
    summary = feed.end(1)
    assert summary.exit_code == 2
    assert summary.failures[0].msg == f"Completely failed to parse inventory source /x/hosts.yml: {cause}"
    assert summary.failures[0].hint.startswith("Correct it there")


@pytest.mark.parametrize(
    "said",
    [
        ["[WARNING]: Found duplicate mapping key 'vllm_venv_port'.", "Origin: /x/hosts.yml:12:5"],
        [
            "[WARNING]: While constructing a mapping from /x/hosts.yml, line 12, column",
            "5, found a duplicate dict key (vllm_venv_port). Using last defined value only.",
        ],
    ],
)
def test_a_name_that_stands_twice_is_told(feed: Feeder, said: list[str]) -> None:
    for line in [*said, "", "10 a", "11 b"]:
        feed("verbose", stdout=line)
    assert [event.text for event in feed.of(events.Warn)] == [
        "/x/hosts.yml:12: vllm_venv_port stands there twice; the last value counts"
    ]


@pytest.mark.parametrize(
    "said",
    [
        ["[WARNING]: Could not match supplied host pattern, ignoring: gpu22"],
        ["[WARNING]: Could not match supplied host pattern, ignoring:", "gpu22"],
    ],
)
def test_a_host_that_the_inventory_has_not_is_told_beside_others(feed: Feeder, said: list[str]) -> None:
    for line in [*said, "", "PLAY [Status] ****"]:
        feed("verbose", stdout=line)
    (warned,) = feed.of(events.Warn)
    assert warned.text == "the inventory has no host or group gpu22: it is left out"


def test_a_failure_names_the_place_in_the_user_s_file(feed: Feeder) -> None:
    task = feed.task("T", action="ansible.builtin.validate_argument_spec")
    ours = f"Origin: {ROLES}/_common/tasks/main.yml:3:5"
    said = (
        f"[ERROR]: Task failed: 'x' is undefined\n{ours}\n<<< caused by >>>\nOrigin: /x/hosts.yml:11:21\n11 a\n{ours}\n"
    )
    feed("runner_on_failed", stdout=said, host="h", res={"msg": "Task failed: 'x' is undefined"}, **task)
    (failure,) = feed.end(2, failures={"h": 1}).failures
    assert failure.msg == "'x' is undefined (/x/hosts.yml:11)"


def test_error_of_ansible_between_hosts_is_a_failure(feed: Feeder) -> None:
    feed("runner_on_ok", host="h", res={}, **feed.task("T"))
    feed("error", stdout="ERROR! the role 'x' was not found")
    summary = feed.end(1)
    assert summary.exit_code == 1
    assert "the role 'x' was not found" in summary.failures[0].msg


def test_no_host_matched_is_usage(feed: Feeder) -> None:
    feed("playbook_on_no_hosts_matched")
    summary = feed.end(0, processed={})
    assert summary.exit_code == 2
    assert "no host" in summary.failures[0].msg
    assert "--limit" in summary.failures[0].hint


def test_ansible_that_was_killed_is_a_failure(feed: Feeder) -> None:
    feed("runner_on_ok", host="h", res={}, **feed.task("T"))
    assert feed.end(137).exit_code == 1


def test_status_of_what_was_stopped_on_purpose_is_good() -> None:
    feed = Feeder("status")
    found = {"engine": "llama_cpp", "ready": None, "state": {"active": "stopped"}, "stopped_on_purpose": True}
    task = feed.task("Look", action="dsdeploy.llm.deployment_facts")
    feed("runner_on_ok", host="h", res={"deployments": [found]}, **task)
    assert feed.end(ok={"h": 1}).exit_code == 0


@pytest.mark.parametrize(("ready", "code"), [(True, 0), (False, 3)])
def test_status_tells_not_ready_by_its_code(ready: bool, code: int) -> None:
    feed = Feeder("status")
    found = {"engine": "llama_cpp", "ready": ready}
    feed(
        "runner_on_ok", host="h", res={"deployments": [found]}, **feed.task("T", action="dsdeploy.llm.deployment_facts")
    )
    assert feed.end(ok={"h": 1}).exit_code == code


@pytest.mark.parametrize("verb", ["ask", "logs"])
def test_nothing_to_ask_or_show_is_a_failure(verb: str) -> None:
    feed = Feeder(verb)
    feed("runner_on_ok", host="h", res={"deployments": []}, **feed.task("T"))
    summary = feed.end(ok={"h": 1})
    assert summary.exit_code == 1
    assert "dsdeploy up" in summary.failures[0].hint


def test_stopped_by_the_user(feed: Feeder) -> None:
    task = feed.task("Install | Build")
    feed("runner_on_start", host="h", **task)
    assert feed.tracker.ansible_pid == 42
    positions = feed.tracker.positions()
    assert positions == {"h": "install: Build"}
    feed("runner_on_ok", host="h", res={}, **task)
    summary = feed.end(None, interrupted_at=positions)
    assert (summary.exit_code, summary.positions) == (130, positions)
    assert [(event.stage, event.stopped) for event in feed.of(events.Stage) if event.status == "finished"] == [
        ("install", True)
    ]


def test_a_job_of_the_host_goes_on_when_the_run_is_stopped(feed: Feeder) -> None:
    told = {"host": "h", "task": "Fetch", "what": "model", "done": 1, "total": 2, "unit": "B", "rate": None, "eta_s": 9}
    for ended in (False, True):
        task = feed.task("Model | Fetch")
        feed("runner_on_start", host="h", **task)
        feed("verbose", stdout=f"DSDEPLOY_PROGRESS {json.dumps(told)}")
        positions = feed.tracker.positions()
        if ended:
            feed("runner_on_ok", host="h", res={}, **task)
        assert feed.end(None, interrupted_at=positions).going_on == ([] if ended else ["h"])


def test_a_stage_that_came_to_its_end_was_not_stopped(feed: Feeder) -> None:
    feed("runner_on_ok", host="h", res={}, **feed.task("Install | Build"))
    feed.end(ok={"h": 1})
    assert [event.stopped for event in feed.of(events.Stage) if event.status == "finished"] == [False]


def test_verbose_hands_on_ansibles_own_lines() -> None:
    feed = Feeder(verbose=True)
    feed("verbose", stdout="\x1b[0;34mUsing /x\x1b[0m\r\n")
    assert feed.of(events.Log) == [events.Log("Using /x\n")]


def test_argument_spec_task_has_a_short_name(feed: Feeder) -> None:
    task = feed.task("Validating arguments against arg spec 'main' - long", path="/p.yml:1",
                     action="ansible.builtin.validate_argument_spec")  # fmt: skip
    feed("runner_on_failed", host="h", res={"argument_errors": ["x"]}, **task)
    summary = feed.end(2, failures={"h": 1})
    assert (summary.failures[0].stage, summary.failures[0].task) == ("preflight", "Check the role's variables")
    assert summary.exit_code == 2


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("over\rwritten\x08\x9b2J", "overwritten2J"),
    ],
)
def test_plain_text(raw: str, clean: str) -> None:
    assert plain_text(raw) == clean


@given(st.text(alphabet=st.sampled_from("\x1b\x9b\x07\r\n[]0m;\\ax")))
def test_plain_text_leaves_nothing_that_steers_a_terminal(raw: str) -> None:
    assert not set(plain_text(raw)) & {"\x1b", "\x9b", "\x07", "\r", "\x08"}


def test_json_shape_of_every_event_is_flat_and_named() -> None:
    for kind in events.Event.__subclasses__():
        assert kind.name and kind.__doc__
    line = events.Stage("s", "started").as_json()
    assert list(line) == ["event", "stage", "status", "seconds", "changed", "failed", "changes", "stopped"]


def test_a_run_that_never_began_says_so(feed: Feeder) -> None:
    feed.got += feed.tracker.finish(None, feed.now, None, "Ansible did not begin within 600 s")
    summary = feed.got[-1]
    assert (summary.exit_code, summary.failures[0].msg) == (1, "Ansible did not begin within 600 s")
    assert "ansible-inventory" in summary.failures[0].hint


def test_an_engine_that_is_not_deployed_does_not_make_the_host_empty() -> None:
    stats = {key: {} for key in ("ok", "changed", "failures", "dark", "skipped", "rescued", "ignored")}
    for engine, said in (("vllm", "vllm is not deployed here"), (None, "nothing is deployed here")):
        tracker = Tracker("logs", 0.0, engine=engine)
        list(tracker.feed({"event": "runner_on_ok", "event_data": {"host": "h", "task": "t", "res": {}}}, 0.0))
        list(tracker.feed({"event": "playbook_on_stats", "event_data": {**stats, "processed": {"h": 1}}}, 0.0))
        assert [event.msg for event in tracker.finish(0, 1.0) if isinstance(event, events.Failure)] == [said]
