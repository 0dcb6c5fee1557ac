"""Lines of text for people."""

from __future__ import annotations

from typing import Any

import pytest

from dsdeploy import events
from dsdeploy.cli import key
from dsdeploy.render import text
from dsdeploy.render.plain import CHANGING, PlainRenderer
from dsdeploy.tracker import Tracker


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (0, "B", "0 B"),
        (1023, "B", "1023 B"),
        (1536, "B", "1.5 KiB"),
        (404 * 2**30, "bytes", "404.0 GiB"),
        (2**51, "B", "2048.0 TiB"),
        (3, "files", "3 files"),
    ],
)
def test_amount(value: float, unit: str, told: str) -> None:
    assert text.amount(value, unit) == told


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_duration(seconds: float, told: str) -> None:
    assert text.duration(seconds) == told


def test_progress() -> None:
    event = events.Progress("h", "T", "m.gguf", 2**29, 2**30, "B", 2**20, 512)
    assert text.progress(event) == "m.gguf 50% (512.0 MiB of 1.0 GiB) 1.0 MiB/s 8 min 32 s left"
    assert text.progress(events.Progress("h", "T", "", 3, None, "files", None, None)) == "T 3 files"


def test_columns_count_wide_characters_as_two() -> None:
    assert list(text.columns([("模型", "x"), ("abcde", "y")])) == ["模型   x", "abcde  y"]


def test_failure_ends_with_what_to_do() -> None:
    failure = events.Failure("h", "llama_cpp: install", "Build", "no \x1b[31mcmake", "Install cmake.", "", ["l1", "l2"])
    assert list(text.failure(failure)) == [
        "FAILED  h: llama_cpp: install: Build",
        "  no cmake",
        "  the log ends with:",
        "  | l1",
        "  | l2",
        "  next: Install cmake.",
    ]
    assert list(text.failure(events.Failure("", "", "", "no inventory"))) == ["FAILED  no inventory"]


ALL = ["preflight", "model", "install", "configure", "service", "verify"]


def host(**given: Any) -> events.HostSummary:
    return events.HostSummary(
        **{
            "status": "ok",
            "ok": 1,
            "changed": 0,
            "failed": 0,
            "skipped": 0,
            "rescued": 0,
            "ignored": 0,
            "changed_tasks": [],
            "deployments": [],
            "answers": [],
            **given,
        }
    )


def summary(verb: str, hosts: dict[str, events.HostSummary], **given: Any) -> events.Summary:
    return events.Summary(
        **{
            "verb": verb,
            "ok": True,
            "exit_code": 0,
            "seconds": 1.0,
            "ansible_rc": 0,
            "hosts": hosts,
            "failures": [],
            "positions": {},
            **given,
        }
    )


FOUND = {
    "engine": "llama_cpp",
    "version": "1.2",
    "model": "m",
    "endpoint": "http://h:1",
    "service": {"name": "s", "manager": "systemd"},
    "state": {"active": "running"},
    "ready": True,
    "ready_detail": "",
}
ANSWER = {
    "answer": "two\nlines",
    "reasoning": "think",
    "tokens_per_s": 12.34,
    "ttft_s": None,
    "verified": True,
    "finish_reason": "stop",
}


def test_summary_of_up() -> None:
    names = ["model: fetched", *(f"install: t{n}" for n in range(13)), "service: started"]
    told = host(deployments=[FOUND], answers=[ANSWER], changed=11, changed_tasks=names, stages=ALL)
    assert list(text.result(summary("up", {"h": told}), False, [], False)) == [
        "h: deployed and verified",
        "  endpoint  http://h:1",
        "  model     m",
        "  engine    llama_cpp 1.2",
        "  answer    two\n            lines",
        "  speed     12.3 tokens/s",
        "  changed   15",
        "    model      fetched",
        "    install    t0",
        *(f"               t{n}" for n in range(1, 11)),
        "               and 3 more (-v shows all)",
    ]
    every = list(text.result(summary("up", {"h": told}), True, [], True))
    assert every[-2:] == ["               t12", "    service    started"]
    assert "  reasoning think" in every


def test_summary_names_the_same_changes_of_several_hosts_once() -> None:
    some = {"changed": 1, "changed_tasks": ["install: t"]}
    told = summary("down", {"a": host(**some), "b": host(), "c": host(**some)})
    assert list(text.result(told, False, [], False)) == [
        "a: down",
        "b: down",
        "c: down",
        "  changed   1 on a, c",
        "    install    t",
        "  changed   nothing on b",
    ]


def test_long_paths_are_cut_in_the_middle_and_long_lines_at_their_end() -> None:
    path = "/opt/dsdeploy/engines/vllm/releases/0.32.0-cu130-abcdef/bin/python"
    assert text.shortened_paths(f"wrote {path}") == "wrote /opt/…/0.32.0-cu130-abcdef/bin/python"
    assert text.shortened_paths("/etc/dsdeploy/x http://h/" + "a/" * 30) == "/etc/dsdeploy/x http://h/" + "a/" * 30
    assert text.fitted("/" + "a" * 200) == "/" + "a" * 98 + "…"
    assert text.fitted("word " * 40).endswith("…") and len(text.fitted("word " * 40)) <= 100


def test_a_stage_is_one_line_with_what_it_did() -> None:
    event = events.Stage("install", "finished", 65.0, 5, 0, ["a", "b", "c", "d", "e"])
    assert text.stage(event) == "install    1 min 05 s  a; b; c; and 2 more"
    assert text.stage(events.Stage("model", "finished", 0.2, 0, 0)) == "model            0 s  nothing to change"
    assert text.stage(events.Stage("verify", "finished", 1.0, 0, 1)) == "verify           1 s  1 failed"
    stopped = events.Stage("model", "finished", 2.0, 0, 0, stopped=True)
    assert text.stage(stopped) == "model            2 s  stopped"


def test_plain_run_is_a_line_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    renderer, tracker = PlainRenderer(), Tracker("up", 0.0)
    renderer.event(events.Start("up", ["local"], False))
    renderer.event(events.Stage("preflight", "started"))
    renderer.event(events.Stage("preflight", "finished", 1.0, 0, 0))
    renderer.tick(tracker, 1.0)
    renderer.event(events.Stage("install", "started"))
    renderer.event(events.Task("h", "install", "Make it", "changed"))
    for second in range(2, 30):
        renderer.tick(tracker, float(second))
    renderer.event(events.Stage("install", "finished", 29.0, 1, 0, ["Make it"]))
    assert capsys.readouterr().err.splitlines() == [
        "dsdeploy up: inventory local",
        "preflight        1 s  nothing to change",
        "install ...",
        "install         29 s  Make it",
    ]


def test_summary_shortens_a_long_answer_and_says_that_it_was_cut() -> None:
    rambling = {**ANSWER, "answer": "\n".join(f"line {n}" for n in range(300)), "finish_reason": "length"}
    told = list(text.result(summary("up", {"h": host(deployments=[FOUND], answers=[rambling])}), False, [], False))
    answer = told.index("  answer    line 0\n            line 1\n            line 2\n            line 3\n"
                        "            line 4 … (2589 characters in all)")  # fmt: skip
    assert told[answer + 1] == "            (ended by dsdeploy_answer_max_tokens)"
    long = {**ANSWER, "answer": "x" * 401}
    told = list(text.result(summary("up", {"h": host(deployments=[FOUND], answers=[long])}), False, [], False))
    assert f"  answer    {'x' * 400} … (401 characters in all)" in told
    # `ask` is for reading it.
    told = list(text.result(summary("ask", {"h": host(answers=[rambling])}), False, [], False))
    assert told == [rambling["answer"]]


@pytest.mark.parametrize(
    ("verb", "stages", "answers", "check", "said"),
    [
        ("up", ALL, [ANSWER], False, "deployed and verified"),
        ("up", ALL, [{**ANSWER, "verified": None}], False, "deployed, answers"),
        ("up", ALL[:-1], [], False, "deployed, not verified"),
        ("up", ["preflight"], [], False, "preflight passed"),
        ("up", ["preflight", "model"], [], False, "done: preflight, model"),
        ("up", ["preflight", "model", "install"], [], False, "done: preflight, model, install"),
        ("up", ["prepare"], [], False, "prepared"),
        ("up", ["prepare", *ALL], [ANSWER], False, "deployed and verified"),
        ("up", ["preflight", "model", "verify"], [ANSWER], False, "verified"),
        ("up", ["preflight", "model", "verify"], [{**ANSWER, "verified": None}], False, "answers"),
        ("up", [], [], False, "done: nothing"),
        ("up", ["preflight"], [], True, "checked preflight, nothing was changed"),
        ("up", ALL, [], True, "checked, nothing was changed"),
        ("prepare", ["prepare"], [], False, "prepared"),
        ("prepare", ["prepare"], [], True, "checked, nothing was changed"),
        ("down", [], [], False, "down"),
        ("rollback", ["service"], [ANSWER], False, "deployed and verified"),
    ],
)
def test_the_summary_says_what_was_done_and_no_more(
    verb: str, stages: list[str], answers: list[Any], check: bool, said: str
) -> None:
    told = host(deployments=[FOUND], answers=answers, stages=stages)
    lines = list(text.result(summary(verb, {"h": told}, check=check), False, [], False))
    assert lines[0] == f"h: {said}"
    # What was deployed before is not what this run has deployed.
    assert any("endpoint" in line for line in lines) == (
        verb in ("up", "rollback") and ("service" in stages or bool(answers))
    )


def test_a_host_that_needs_a_reboot_is_prepared_all_the_same() -> None:
    reboot = events.Failure("h", "", "", "this host needs a reboot: new driver", "Reboot it.", "reboot")
    told = summary("prepare", {"h": host(status="failed"), "i": host(stages=["prepare"])}, failures=[reboot])
    lines = list(text.result(told, False, [], False))
    assert lines[0] == "h: prepared, but needs a reboot"
    assert "i: prepared" in lines


@pytest.mark.parametrize("verb", ["up", "prepare", "down", "rollback", "model prune"])
def test_a_verb_that_changes_hosts_does_not_say_that_it_changes_nothing(verb: str) -> None:
    assert "changes nothing" not in " ".join(text.interrupted(summary(verb, {}, positions={"h": "x"})))
    assert verb in CHANGING and verb not in events.READING


def test_a_verb_is_either_known_to_read_alone_or_said_to_change() -> None:
    assert not events.READING & set(CHANGING)
    for verb in events.READING:
        assert "changes nothing" in " ".join(text.interrupted(summary(verb, {}, positions={"h": "x"})))
    for verb in ("key add", "key revoke", "model verify"):
        assert "changes nothing" not in " ".join(text.interrupted(summary(verb, {}, positions={"h": "x"})))


def test_summary_of_a_check_and_of_a_stop() -> None:
    checked = list(
        text.result(
            summary("up", {"h": host(changed=1, changed_tasks=["t"], stages=ALL)}, check=True), False, [], False
        )
    )
    assert checked == ["h: checked, nothing was changed", "  would do  1", "               t"]
    stopped = summary("up", {"h": host()}, exit_code=130, ok=False, positions={"h": "engine: build"})
    assert next(text.result(stopped, False, [], False)) == "h: stopped"
    assert next(text.interrupted(stopped)) == "stopped: h was in engine: build"
    assert "the task named" in " ".join(text.interrupted(stopped))
    assert "goes on with that" not in " ".join(text.interrupted(stopped))
    job = summary("up", {"h": host()}, exit_code=130, ok=False, positions={"h": "model: Fetch"}, going_on=["h"])
    assert "h: the host goes on with that by itself" in " ".join(text.interrupted(job))
    between = summary("up", {"h": host()}, exit_code=130, ok=False)
    assert "the task named" not in " ".join(text.interrupted(between))
    nowhere = summary("up", {}, exit_code=130, ok=False)
    assert list(text.interrupted(nowhere)) == ["stopped before anything was done on a host"]


@pytest.mark.parametrize(
    ("hosts", "more", "said"),
    [
        ({"h": {}}, {"ok": True, "exit_code": 0}, ""),
        # A name that is none, no gateway: nobody took it, and nothing is to be replaced.
        ({"h": {"status": "failed"}}, {"exit_code": 2}, ""),
        ({"h": {"status": "failed"}, "i": {"status": "failed"}}, {"exit_code": 1}, ""),
        (
            {"h": {"status": "failed"}, "i": {"changed": 1}},
            {"exit_code": 1},
            "only i took it. Add it again with --replace",
        ),
        ({"h": {"status": "unreachable"}}, {"exit_code": 4}, "Where one did, --replace makes another."),
        ({"h": {}}, {"exit_code": 130}, "Where one did, --replace makes another."),
        ({"h": {"status": "unreachable"}, "i": {"changed": 1}}, {"exit_code": 4, "check": True}, ""),
    ],
)
def test_why_a_new_key_is_not_shown(hosts: dict[str, Any], more: dict[str, Any], said: str) -> None:
    told = summary("key add", {name: host(**given) for name, given in hosts.items()}, **{"ok": False, **more})
    found = key.not_shown(told)
    assert said in found and bool(found) is bool(said)


@pytest.mark.parametrize("status", ["unreachable", "failed"])
@pytest.mark.parametrize("verb", ["up", "prepare", "down", "rollback"])
def test_of_a_host_that_was_not_reached_nobody_says_that_there_is_nothing_to_do(verb: str, status: str) -> None:
    one = summary(verb, {"h": host(status=status)}, exit_code=4, ok=False, check=True)
    assert list(text.result(one, False, [], False)) == [f"h: {status}", "  would do  not known"]
    two = summary(verb, {"h": host(status=status), "i": host()}, exit_code=4, ok=False, check=True)
    lines = list(text.result(two, False, [], False))
    assert "  would do  not known on h" in lines and "  would do  nothing on i" in lines
    done = summary(verb, {"h": host(status=status)}, exit_code=4, ok=False)
    assert list(text.result(done, False, [], False)) == [f"h: {status}"]
    # What was done before it was lost is told.
    lost = summary(verb, {"h": host(status=status, changed=1, changed_tasks=["t"])}, exit_code=4, ok=False)
    assert list(text.result(lost, False, [], False))[1] == "  changed   1"


@pytest.mark.parametrize(
    ("ready", "active", "state"),
    [
        (True, "running", "ready"),
        (False, "running", "running, not ready"),
        (False, "failed", "failed"),
        (False, "stopped", "stopped"),
        (False, None, "unknown"),
    ],
)
def test_table_of_status(ready: bool, active: str | None, state: str) -> None:
    found = {**FOUND, "ready": ready, "state": {"active": active}, "ready_detail": "" if ready else "no answer"}
    lines = list(text.result(summary("status", {"h": host(deployments=[found]), "i": host()}), False, [], False))
    assert lines[0].split() == ["HOST", "ENGINE", "VERSION", "MODEL", "ENDPOINT", "SERVICE", "STATE"]
    assert lines[1].endswith(f"s (systemd)  {state}")
    assert lines[2:] == [*([] if ready else ["h: llama_cpp: no answer"]), "i: nothing is deployed here"]


@pytest.mark.parametrize("verb", ["status", "model list", "model verify", "model prune", "key list"])
def test_of_a_run_that_was_stopped_nothing_is_told_that_was_not_asked(verb: str) -> None:
    stopped = summary(verb, {"h": host()}, exit_code=130, ok=False)
    assert list(text.result(stopped, False, [], False)) == ["h: not known, the run was stopped"]


def test_what_is_stopped_is_not_reached_from_outside() -> None:
    for ready in (True, False):
        found = {**FOUND, "ready": ready, "public_endpoint": "https://h:8443"}
        said = list(text.result(summary("status", {"h": host(deployments=[found])}), False, [], False))
        assert any("reached from outside" in line for line in said) == ready


def test_answers_of_several_hosts_are_told_apart() -> None:
    one = {"a": host(answers=[ANSWER])}
    assert list(text.result(summary("ask", one), False, [], False)) == ["two\nlines"]
    assert list(text.result(summary("ask", one), True, [], False)) == ["think", "", "two\nlines"]
    two = {**one, "b": host(answers=[ANSWER])}
    assert list(text.result(summary("ask", two), False, [], False)) == ["a:", "two\nlines", "b:", "two\nlines"]


def test_logs_of_several_hosts_are_told_apart() -> None:
    logs = [events.ServiceLog("a", ["1"], {}), events.ServiceLog("b", ["2"], {})]
    assert list(text.result(summary("logs", {}), False, logs, False)) == ["a | 1", "b | 2"]
    assert list(text.result(summary("logs", {}), False, logs[:1], False)) == ["1"]


def test_plain_progress_is_throttled(capsys: pytest.CaptureFixture[str]) -> None:
    renderer, tracker = PlainRenderer(), Tracker("up", 0.0)
    for second in range(25):
        renderer.tick(tracker, float(second))
        renderer.event(events.Progress("h", "T", "m", float(second), 100.0, "files", None, None))
    renderer.event(events.Progress("h", "T", "m", 100.0, 100.0, "files", None, None))
    told = capsys.readouterr().err.splitlines()
    assert [line.split("(")[1] for line in told] == [
        "0 of 100 files)",
        "10 of 100 files)",
        "20 of 100 files)",
        "100 of 100 files)",
    ]


def checks(status="warn", **more):
    one = {"id": "gpu_mig", "group": "gpu", "status": status, "value": "GPU 0: MIG is on", "expected": "off",
           "why": "w", "fix": "nvidia-smi -i 0 -mig 0", "source": "s"}  # fmt: skip
    passed = dict(one, id="gpu_fabric", status="pass", fix="", value="Completed", expected="Completed")
    counts = {"pass": 1, "warn": 1, "fail": 0, "skip": 0, "unknown": 0}
    return {"host": "h", "status": status, "deep": False, "counts": counts, "checks": [passed, dict(one, **more)]}


def test_of_checks_those_that_do_not_pass_are_shown_with_their_fix():
    host = events.HostSummary("ok", 1, 0, 0, 0, 0, 0, [], [], [], checks=checks())
    summary = events.Summary("doctor", True, 0, 1.0, 0, {"h": host}, [], {})
    assert list(text.result(summary, False, [], False)) == [
        "h: 1 warned, 1 passed",
        "  warn    gpu_mig: GPU 0: MIG is on (expected: off)",
        "          why: w",
        "          fix: nvidia-smi -i 0 -mig 0",
    ]
    assert "  pass    gpu_fabric: Completed" in list(text.result(summary, False, [], True))


def test_what_is_unknown_for_one_reason_is_one_line():
    found = checks("unknown", fix="", value="nvidia-smi hangs")
    found["checks"].append(dict(found["checks"][1], id="gpu_nvlink"))
    host = events.HostSummary("ok", 1, 0, 0, 0, 0, 0, [], [], [], checks=found)
    summary = events.Summary("doctor", True, 0, 1.0, 0, {"h": host}, [], {})
    assert list(text.result(summary, False, [], False))[1:] == ["  unknown gpu_mig, gpu_nvlink: nvidia-smi hangs"]
