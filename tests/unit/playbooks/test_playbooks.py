"""What the playbooks promise: one run at a time, and nothing that is forgotten half-way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

try:
    from ansible.template import trust_as_template as trusted
except ImportError:  # before ansible-core 2.19

    def trusted(value: str) -> str:
        return value


PLAYBOOKS = Path(__file__).parents[3] / "playbooks"
# What only reads may be run at any time.
READ_ONLY = {"ask", "bench", "doctor", "key_list", "logs", "model_list", "plan", "status", "watch"}
# So may these: the gateway's keys have a lock of their own.
AT_ANY_TIME = {"key_add", "key_revoke"}
IMPORT, LOCK = "ansible.builtin.import_role", "dsdeploy.llm.host_lock"
MAIN = "deepseek_r1.yml"


def plays(name: str) -> list[dict[str, Any]]:
    return [play for play in yaml.safe_load((PLAYBOOKS / name).read_text(encoding="utf-8")) if "hosts" in play]


def without_tags(task: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in task.items() if key not in ("name", "tags")}


@pytest.mark.parametrize(
    "name", sorted(path.name for path in PLAYBOOKS.glob("*.yml") if path.stem not in READ_ONLY | AT_ANY_TIME)
)
def test_a_playbook_that_changes_hosts_locks_them(name: str) -> None:
    for play in plays(name):
        variables, lock, work = play["tasks"]
        assert without_tags(variables) == {IMPORT: {"name": "dsdeploy.llm._common", "tasks_from": "variables"}}
        assert set(without_tags(work)) == {"block", "always"}
        unlock = work["always"][-1]
        if name == MAIN:
            # One process on the host takes the lock and reads its facts, one reports and gives the lock back.
            assert without_tags(lock) == {LOCK: {"force": "{{ dsdeploy_break_lock }}", "facts": True}}
            report = work["block"][-1]
            assert "dsdeploy.llm.deployment_report" in report
            not_yet = f"not {report['register']}.unlocked | default(false)"
            assert without_tags(unlock) == {LOCK: {"state": "released"}, "when": not_yet}
        else:
            assert without_tags(lock) == {IMPORT: {"name": "dsdeploy.llm._common", "tasks_from": "lock"}}
            assert without_tags(unlock) == {IMPORT: {"name": "dsdeploy.llm._common", "tasks_from": "unlock"}}
        # What is selected by a tag must not run without the lock, nor leave it behind.
        assert variables.get("tags") == lock.get("tags") == unlock.get("tags")
        # The lock is root's.
        assert play["become"] is True


@pytest.mark.parametrize("name", sorted(READ_ONLY))
def test_what_only_reads_checks_its_variables_and_waits_for_nobody(name: str) -> None:
    (play,) = plays(f"{name}.yml")
    tasks = play["tasks"]
    # `status` loads no role for it: that would take as long as all the rest.
    if "dsdeploy.llm.variable_check" in tasks[0]:
        assert tasks[1]["when"] == "dsdeploy_only_engine is defined"
        tasks = tasks[1:]
    first = tasks[0]["ansible.builtin.include_role"]
    assert (first["name"], first["tasks_from"]) == ("dsdeploy.llm._common", "variables")
    assert "tasks_from: lock" not in (PLAYBOOKS / f"{name}.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(AT_ANY_TIME))
def test_a_key_is_changed_at_any_time(name: str) -> None:
    (play,) = plays(f"{name}.yml")
    variables, work = play["tasks"]
    assert without_tags(variables) == {IMPORT: {"name": "dsdeploy.llm._common", "tasks_from": "variables"}}
    assert without_tags(work) == {IMPORT: {"name": "dsdeploy.llm.gateway", "tasks_from": name}}


def test_supervisor_is_there_before_a_model_is_fetched() -> None:
    """One that cannot be had is known at once, not after 404 GB."""
    (play,) = yaml.safe_load((PLAYBOOKS / "deepseek_r1.yml").read_text(encoding="utf-8"))
    names = [task["name"] for block in play["tasks"] if "block" in block for task in block["block"]]
    manager = "What is noted, the service manager, and what the gateway needs"
    assert names.index("Preflight") < names.index(manager) < names.index("Model") < names.index("Engine")
    replicas, _gateway, _note, first, look = rooms(PLAYBOOKS / "tasks/before_model.yml")
    # Whoever is before this host is known before its gateway is checked; nothing else costs others a result.
    assert "dsdeploy.llm.replicas" in replicas and replicas["when"] == "dsdeploy_replicas | length > 0"
    assert first["ansible.builtin.include_role"]["tasks_from"] == "manager"
    # What each host has is known before any of them fetches; `--tags model` comes here for it, too.
    assert look["ansible.builtin.include_role"]["tasks_from"] == "look" and look["when"] == "model_peers | bool"
    (work,) = [
        task for block in play["tasks"] if "block" in block for task in block["block"] if task["name"] == manager
    ]
    assert "model" in work["tags"] and "model" in look["tags"]
    # A preflight installs nothing.
    assert first["tags"] == ["install", "configure", "service", "verify"]
    for role in ("llama_cpp", "vllm_venv", "sglang", "ollama"):
        tasks = yaml.safe_load((PLAYBOOKS.parent / f"roles/{role}/tasks/preflight.yml").read_text(encoding="utf-8"))
        look = next(task["dsdeploy.llm.preflight"] for task in tasks if "dsdeploy.llm.preflight" in task)
        assert look["manager"] == "{{ _dsdeploy_manager }}" and look["install_dir"]


def rooms(path: Path) -> list[dict]:
    """All tasks of a file, those of blocks too."""
    found = []
    for task in yaml.safe_load(path.read_text(encoding="utf-8")):
        found += [task, *task.get("block", [])]
    return found


def test_what_is_going_to_be_made_is_noted_before_the_first_of_it() -> None:
    """By the note `down --purge` finds what a run has left that did not come to its record."""
    names = [task["name"] for task in rooms(PLAYBOOKS / "tasks/before_model.yml")]
    note, manager = names.index("Note what is going to be made"), names.index("Service manager")
    assert names.index("Preflight of the gateway") < note < manager
    (play,) = yaml.safe_load((PLAYBOOKS / "deepseek_r1.yml").read_text(encoding="utf-8"))
    (include,) = [task for block in play["tasks"] for task in block.get("block", []) if "before_model" in str(task)]
    assert "begun" in include["when"]


@pytest.mark.parametrize("role", ["llama_cpp", "ollama", "sglang", "vllm_venv", "gateway"])
def test_a_role_alone_notes_what_it_is_going_to_make(role: str) -> None:
    tasks = PLAYBOOKS.parent / "roles" / role / "tasks"
    (look,) = [task for task in rooms(tasks / "preflight.yml") if "dsdeploy.llm.preflight" in task]
    assert f"_{role}_dirs" in look["dsdeploy.llm.preflight"]["deployment"]
    main = rooms(tasks / "main.yml")
    names = [task["name"] for task in main]
    assert names.index("Preflight") < names.index("Note what is going to be made") < names.index("Deploy")
    (note,) = [task for task in main if task["name"] == "Note what is going to be made"]
    assert note["vars"] == {"dsdeploy_begun": ["{{ " + look["register"] + ".begun }}"]}
    # The record names the same.
    sources = [path.read_text(encoding="utf-8") for path in sorted((tasks.parent).rglob("*.yml"))]
    assert any(f'dirs: "{{{{ _{role}_dirs }}}}"' in text for text in sources)


@pytest.mark.parametrize(
    ("staying", "nothing_needs_it"),
    [([], True), (["ollama"], True), (["gateway", "llama_cpp"], True), (["ollama", "sglang"], False)],
)
def test_what_engines_share_goes_with_the_last_that_needs_it(staying: list[str], nothing_needs_it: bool) -> None:
    """Beside engines that have no releases, which say nothing of them."""
    (play,) = plays("down.yml")
    (task,) = [task for block in play["tasks"] for task in block.get("block", []) if "no engine needs" in task["name"]]
    of = {"sglang": {"releases": "/opt/dsdeploy/sglang"}}
    records = [{"engine": name, **of.get(name, {})} for name in ["vllm", *staying]]
    variables = {
        **{name: trusted(value) for name, value in play["vars"].items()},
        "dsdeploy_found": {"deployments": records, "begun": []},
        "_dsdeploy_only_engine": {"engine": {"name": "vllm"}},
        "dsdeploy_purge": True,
    }
    templar = Templar(DataLoader(), variables=variables)
    assert [templar.template(trusted("{{ " + one + " }}")) for one in task["when"]] == [True, nothing_needs_it]


@pytest.mark.parametrize(
    ("engine", "model", "refused"),
    [
        ("ollama", {"served_by": ["llama_cpp", "ollama"]}, "model m is what llama_cpp serves on this host"),
        ("ollama", {"served_by": ["ollama"]}, None),
        ("", {"served_by": ["llama_cpp", "ollama"]}, None),
        ("ollama", {"served_by": [], "busy": True}, "model m is still being fetched by a run that was ended"),
        ("ollama", {"served_by": ["llama_cpp"], "name": "another"}, None),
    ],
)
def test_a_model_that_another_engine_serves_stays(engine: str, model: dict[str, Any], refused: str | None) -> None:
    (play,) = plays("down.yml")
    tasks = [task for block in play["tasks"] for task in block.get("block", [])]
    (task,) = [task for task in tasks if "nothing needs the models" in task["name"]]
    names = [found["name"] for found in tasks]
    assert names.index("Down | Read the deployment records") < names.index(task["name"])
    # Before anything is taken from anybody.
    assert names.index(task["name"]) < names.index("Down | Remove models from Ollama's store")
    variables = {
        **{name: trusted(value) for name, value in {**play["vars"], **task["vars"]}.items()},
        "dsdeploy_found": {"deployments": [{"engine": "llama_cpp"}, {"engine": "ollama"}], "begun": []},
        "_dsdeploy_only_engine": {"engine": {"name": engine} if engine else {}},
        "dsdeploy_purge_models": ["m"],
        "item": {"name": "m", "busy": False, **model},
    }
    templar = Templar(DataLoader(), variables=variables)
    assert templar.template(trusted("{{ " + task["when"] + " }}")) == (refused is not None)
    assert refused is None or templar.template(trusted(task["dsdeploy.llm.failure"]["msg"])) == refused


@pytest.mark.parametrize("role", ["sglang", "vllm_venv"])
def test_a_release_becomes_the_current_one_with_its_unit(role: str) -> None:
    """`--tags configure` leaves what runs as it is: after a crash it must not come up as a release that nobody has
    started, with the command line of another."""
    roles = PLAYBOOKS.parent / "roles"
    of_role = [task for path in sorted((roles / role / "tasks").glob("*.yml")) for task in rooms(path)]
    # What engines share exists once.
    assert [
        task for task in of_role if "dsdeploy.llm.python_releases" in task or "switch" in str(task.get(IMPORT))
    ] == []
    (serve,) = rooms(roles / role / "tasks/service.yml")
    told = [serve["vars"][f"python_engine_{name}"] for name in ("state", "release")]
    assert (serve[IMPORT]["tasks_from"], told) == ("serve", [f"{{{{ {role}_state }}}}", f"{{{{ _{role}_release }}}}"])
    shared = roles / "python_engine/tasks"
    first = rooms(shared / "serve.yml")[0]
    assert "switch.yml" in first["ansible.builtin.include_tasks"]["file"] and "among.yml" in str(first)
    assert first["when"] == "python_engine_state == 'started'"
    assert rooms(shared / "among.yml")[0]["ansible.builtin.import_tasks"] == "switch.yml"
    (deploy,) = [task for task in rooms(roles / role / "tasks/deploy.yml") if "service.yml" in str(task)]
    assert deploy["tags"] == ["service"]


def test_a_model_that_was_not_there_to_be_removed_is_named() -> None:
    """The store may be another one than the variables name now."""
    removed, told = rooms(PLAYBOOKS.parent / "roles/model/tasks/remove.yml")[-2:]
    assert removed["register"] in told["vars"]["_model_not_there"]
    assert "{{ model_dir }}" in told["dsdeploy.llm.preflight"]["warn"][0]


REPOSITORY = PLAYBOOKS.parent
MAY_FAIL = [
    (path, number)
    for top in ("playbooks", "roles")
    for path in sorted((REPOSITORY / top).glob("**/*.yml"))
    if "collections" not in path.parts
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines())
    if line.strip() in ("failed_when: false", "ignore_errors: true")
]


@pytest.mark.parametrize(("path", "number"), MAY_FAIL, ids=[f"{path.stem}-{number + 1}" for path, number in MAY_FAIL])
def test_a_task_that_may_fail_says_itself_why(path: Path, number: int) -> None:
    """A comment on a whole section is not seen where the next task is added."""
    before = path.read_text(encoding="utf-8").splitlines()[number - 1]
    assert before.strip().startswith("# "), f"{path.relative_to(REPOSITORY)}:{number + 1}"


def test_there_are_tasks_that_may_fail() -> None:
    assert len(MAY_FAIL) > 5
