# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One service as it is wanted, on a host that exists in a directory only (service_host.py)."""

import json
import os
import re
import stat
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import owned, supervisor_place, users
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import apply, definition, managers
from service_host import KEY

BROKEN = {
    "empty": b"",
    "list": b"[]",
    "number": b"5",
    "null": b"null",
    "cut": b'{"users": {"x"',
    "random": bytes(range(128, 256)),
    "deep": b"[" * 200_000,
}


# --- started


def test_a_bare_host_gets_all_of_it_and_a_second_run_changes_nothing(host):
    first = host.run(api_key=KEY, environment={"A": "b"})
    assert first.actions == ["enable", "start"]
    assert {path: mode for path, mode in host.files().items() if not path.startswith("opt/")} == {
        "etc/dsdeploy/deployments/vllm.json": 0o644,
        "etc/dsdeploy/dsdeploy-vllm.env": 0o600,
        "etc/dsdeploy/keys/dsdeploy-vllm": 0o600,
        "etc/dsdeploy/owned.json": 0o600,
        "etc/dsdeploy/salt": 0o600,
        "units/dsdeploy-vllm.service": 0o644,
    }
    assert stat.S_IMODE((host.root / "etc/dsdeploy/keys").stat().st_mode) == 0o700
    host.started_as_configured()
    again = host.run(api_key=KEY, environment={"A": "b"})
    assert (again.desired.changes, again.actions, again.desired.diffs) == ([], [], [])


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(host, umask):
    before = os.umask(umask)
    try:
        host.run()
    finally:
        os.umask(before)
    for path, mode in {"opt/libexec": 0o755, "opt/libexec/wait_healthy.py": 0o755, "data/dsdeploy-vllm": 0o750,
                       "etc/dsdeploy/deployments": 0o755}.items():  # fmt: skip
        assert stat.S_IMODE((host.root / path).stat().st_mode) == mode, path


def test_check_mode_writes_nothing_and_says_the_same(host):
    would = host.changes(check=True, api_key=KEY)
    assert host.files() == {}
    assert not (host.root / "etc").exists()
    assert host.changes(api_key=KEY) == would


@pytest.mark.parametrize(
    "changed",
    [{"environment": {"A": "2"}}, {"exec": ["/bin/sleep", "61"]}, {"api_key": "another"}, {"revision": "2"},
     {"hardening": False}, {"kill_mode": "mixed"}],
    ids=lambda changed: next(iter(changed)),
)  # fmt: skip
def test_what_it_runs_with_restarts_it_once(host, changed):
    given = {"api_key": KEY, "environment": {"A": "1"}}
    host.run(**given)
    host.started_as_configured()
    service = host.run(**{**given, **changed})
    assert service.actions == ["restart"]
    host.started_as_configured()
    assert host.changes(**{**given, **changed}) == []


@pytest.mark.parametrize("changed", [{"description": "new"}, {"start_timeout": 9000}, {"stop_timeout": 31}])
def test_what_people_read_or_the_manager_counts_restarts_nothing(host, changed):
    host.run()
    host.started_as_configured()
    service = host.run(**changed)
    assert service.actions == [] and len(service.desired.changes) == 1
    assert "daemon-reload" in (host.root / "systemctl.log").read_text().splitlines()[-3:][0:3]


def test_a_run_that_was_cut_before_the_restart_is_made_good(host):
    host.run()
    host.started_as_configured()
    host.note_revision("of an earlier run")
    assert host.run().actions == ["restart"]


def test_no_key_can_be_looked_for_in_what_everybody_reads(host):
    """Two hosts with the same weak key have other revisions; the key itself is nowhere."""
    host.run(api_key="weak")
    unit = (host.root / "units/dsdeploy-vllm.service").read_text()
    (host.root / "etc/dsdeploy/salt").unlink()
    host.run(api_key="weak")
    assert unit != (host.root / "units/dsdeploy-vllm.service").read_text()
    for path, mode in host.files().items():
        assert not mode & 0o077 or "weak" not in (host.root / path).read_text(), path
    shown = json.dumps(host.run(api_key="other-key", environment={"HF_TOKEN": "hf_1"}).desired.diffs)
    assert "other-key" not in shown and "hf_1" not in shown and "dsdeploy-vllm.env: changed, not shown" in shown


def test_what_systemd_does_not_take_leaves_no_record_and_nothing_started(host):
    (host.root / "bad").touch()
    with pytest.raises(Failure, match="systemd does not take the unit .*/dsdeploy-vllm.service: "):
        host.run()
    assert not (host.root / "etc/dsdeploy/deployments/vllm.json").exists()
    assert "start" not in (host.root / "systemctl.log").read_text().replace("--no-block start", "start").split()


def test_a_record_that_nobody_could_read_is_refused_before_anything_is_changed(host):
    with pytest.raises(Failure, match="the deployment record would not be readable: .*not a base URL") as refused:
        host.run(endpoint="http://::1:8080x")
    assert refused.value.error_kind == "usage"
    assert host.files() == {}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"exec": []}, "exec is empty"),
        ({"exec": ["sleep"]}, "exec does not begin with the absolute path"),
        ({"exec": ["/bin/sleep", "a\nb"]}, "word 1 of exec has a line break"),
        ({"user": "-x"}, "user is not a user's name"),
        ({"user": "x\n"}, "user is not a user's name"),
        ({"memlock": "lots"}, "memlock is neither"),
        ({"description": "a\nExecStart=/bin/evil"}, "description has a line break"),
        ({"success_exit_status": ["1 2\n"]}, "success_exit_status has"),
        ({"environment": {"A B": "1"}}, "environment has the name 'A B'"),
        ({"environment": {"A": "line\nend"}}, "environment variable A has a line break"),
        ({"api_key": "secret-with-end\n"}, "the API key holds a space, a line break"),
        ({"api_key": "secret with a space"}, "the API key holds a space"),
        ({"read_only_paths": ["model"]}, "read_only_paths is not an absolute path"),
        ({"nofile": 0}, "nofile is 0, less than 1"),
    ],
)  # fmt: skip
def test_a_definition_that_is_wrong_is_one_line_without_values(host, wrong, message):
    with pytest.raises(Failure, match=message) as refused:
        host.run(**wrong)
    assert (
        "\n" not in str(refused.value) and "secret" not in str(refused.value) and "line\\nend" not in str(refused.value)
    )
    assert refused.value.error_kind == "usage"
    assert host.files() == {}


@pytest.mark.parametrize("name", ["-x", "a b", "a/b", "..", "a..b", "", "a\n", "a*"])
def test_names(name):
    with pytest.raises(Failure, match="is not a service's name"):
        definition.check_name(name)


def test_a_description_says_what_it_looks_like(host):
    host.run(description="100%n of $HOME \\")
    assert "\nDescription=100%%n of $HOME \n" in (host.root / "units/dsdeploy-vllm.service").read_text()


# --- what is not ours


def test_a_unit_of_somebody_else_is_refused_by_name(host):
    unit = host.root / "units/dsdeploy-vllm.service"
    unit.write_text("[Service]\nExecStart=/bin/other\n")
    for state in ("started", "stopped", "absent"):
        with pytest.raises(Failure, match="systemd's unit dsdeploy-vllm is in the way: .* is not dsdeploy's"):
            host.run(state, manager="systemd")
    assert unit.read_text() == "[Service]\nExecStart=/bin/other\n"


def test_a_unit_of_a_package_is_refused_by_name(host):
    package = host.root / "lib.service"
    package.write_text("[Service]\n")
    (host.root / "dsdeploy-vllm.fragment").write_text(str(package))
    with pytest.raises(Failure, match="is in the way: .*/lib.service exists"):
        host.run()


def test_a_program_of_somebody_else_is_refused_by_name(supervised):
    program = supervised.root / "supervisor/conf.d/dsdeploy-vllm.conf"
    program.write_text("[program:dsdeploy-vllm]\ncommand=/bin/other\n")
    with pytest.raises(Failure, match="supervisor's program dsdeploy-vllm is in the way"):
        supervised.run(manager="supervisor")
    assert supervised.daemon.calls == []


def test_a_supervisord_with_another_configuration_is_refused_by_name(supervised):
    supervised.monkeypatch.undo()
    daemon = managers.Daemon(str(supervised.daemon.config))
    with pytest.raises(Failure, match=r"the supervisord that listens on .* \(pid \d+\) runs another configuration"):
        daemon.require_ours()
    assert supervised.daemon.calls == []


ACCOUNTS = {
    "root": (users.Account("x", 0, 0, "/root", "/bin/bash"), "is root"),
    "a person": (users.Account("x", 1000, 1000, "/home/x", "/bin/bash"), "a person's account"),
    "a person without a shell": (users.Account("x", 1000, 1000, "/home/x", "/usr/sbin/nologin"), "a person's account"),
    "who can log in": (users.Account("x", 200, 200, "/", "/bin/sh"), "can log in"),
    "the connection's": (users.Account("operator", 300, 300, "/", "/usr/sbin/nologin"), "this run came by"),
}


@pytest.mark.parametrize("case", ACCOUNTS)
def test_no_service_runs_as_somebody_and_nobody_is_changed(host, case):
    account, message = ACCOUNTS[case]
    host.accounts[account.name] = account
    with pytest.raises(Failure, match=message):
        host.run(user=account.name)
    assert host.files() == {} and host.accounts == {account.name: account}


def test_a_system_user_that_was_there_is_used_untouched_and_stays(host):
    account = users.Account("ollama", os.getuid(), os.getgid(), "/usr/share/ollama", "/bin/false")
    host.monkeypatch.setattr(users, "FIRST_PERSON", 1)
    host.accounts["ollama"] = account._replace(uid=os.getuid() or 0)
    host.monkeypatch.setattr(users, "user_problem", lambda *_args: None)
    host.run(user="ollama")
    service = host.run("absent", user="ollama")
    assert host.accounts == {"ollama": account}
    assert service.left == ["user ollama: it was there before"]


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("state", ["started", "absent"])
def test_notes_of_what_is_ours_that_cannot_be_read(host, content, state):
    if state == "absent":
        host.run()
    Path(places.CONFIG).mkdir(parents=True, exist_ok=True)
    Path(places.OWNED).write_bytes(content)
    accounts = dict(host.accounts)
    with pytest.raises(Failure, match="owned.json, where dsdeploy notes which users") as said:
        host.run(state)
    assert "\n" not in str(said.value)
    assert Path(places.OWNED).read_bytes() == content
    assert host.accounts == accounts


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_places_of_supervisor_that_cannot_be_read_are_found_anew(supervised, content):
    Path(places.CONFIG).mkdir(parents=True)
    Path(places.HOST).write_bytes(content)
    supervised.run(manager="supervisor")
    wanted = {"supervisor": f"{supervised.root}/opt/supervisor", "log_dir": f"{supervised.root}/log"}
    assert json.loads(Path(places.HOST).read_text()) == wanted


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_record_that_cannot_be_read(host, content):
    """Of the engine itself it is written anew; beside another one it is named, because that may hold the GPUs."""
    host.run()
    host.started_as_configured()
    record = Path(places.RECORDS) / "vllm.json"
    good = record.read_text()
    record.write_bytes(content)
    assert host.changes() == ["change deployment record"]
    assert record.read_text() == good
    record.write_bytes(content)
    with pytest.raises(Failure, match="vllm.json is not a deployment record") as said:
        host.run(engine="sglang")
    assert "\n" not in str(said.value)
    assert record.read_bytes() == content
    assert not (host.root / "units/sglang.service").exists()
    assert "dsdeploy-sglang.active" not in os.listdir(host.root)


# --- places


def test_programs_are_found_however_their_paths_are_written(tmp_path):
    words = ["/opt/libexec/launcher.py", "'/srv/a b/libexec/launcher.py'", '"/x %%y/libexec/wait_healthy.py"']
    (tmp_path / "x").write_text("command=/opt/supervisor/bin/python " + " ".join(words) + "\n/z/libexec/other.py")
    found = {"/opt/libexec/launcher.py", "/srv/a b/libexec/launcher.py", "/x %y/libexec/wait_healthy.py"}
    assert apply.programs_of(str(tmp_path / "x")) == found


def test_the_same_engine_moved_is_the_same_deployment(host):
    (host.root / "old").mkdir()
    host.run(dirs=[str(host.root / "old")])
    host.started_as_configured()
    moved = {"data_dir": str(host.root / "new/data"), "dirs": [str(host.root / "new/opt")]}
    service = host.run(**moved)
    assert service.actions == ["restart"]
    left = [f"{host.root}/old", f"{host.root}/data/dsdeploy-vllm"]
    assert host.record()["left"] == left
    assert [line.split(": ")[0] for line in service.left] == left
    host.started_as_configured()
    assert host.changes(**moved) == []
    # Whatever the variables say by then.
    host.run("absent")
    assert [path for path in [*left, f"{host.root}/new/data/dsdeploy-vllm"] if os.path.exists(path)] == []


@pytest.mark.parametrize("manager", ["systemd", "supervisor"])
def test_two_deployments_with_places_of_their_own_do_not_touch_each_other(supervised, manager):
    host = supervised
    one = {"manager": manager, "device": "cpu"}
    two = {**one, "engine": "sglang"}
    for key in ("data_dir", "install_dir", "log_dir"):
        two[key] = str(host.root / "two" / key)
    host.run(**one)
    before = {path: (host.root / path).read_bytes() for path in host.files() if "vllm" in path}
    # Where supervisor was put first it is, whatever the variables say now.
    assert host.run(**two).needs_supervisor is None
    host.run("absent", **{key: value for key, value in two.items() if key != "device"})
    assert {path: (host.root / path).read_bytes() for path in host.files() if "vllm" in path} == before
    assert not [path for path in host.files() if "sglang" in path]
    assert [call for call in host.daemon.calls if "vllm" in str(call)] in ([], [("addProcessGroup", "dsdeploy-vllm")])
    # One supervisor serves both, where it was first, and it runs on.
    assert (host.root / "opt/supervisor/bin/supervisord").exists()
    assert not (host.root / "two/install_dir/supervisor").exists()


# --- trees of files


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_tree_that_an_earlier_user_left_becomes_the_services(host):
    """Purged and deployed again: the number of the user is another one, and belongs to nobody now."""
    store = host.root / "store"
    (store / "blobs").mkdir(parents=True)
    for path in (store, store / "blobs", store / "blobs/one"):
        path.touch() if path.name == "one" else None
        os.chown(path, 61234, 61234)
    other = store / "blobs/of-another-user"
    other.touch()
    os.chown(other, 1, 1)
    link = store / "link"
    link.symlink_to("/etc/passwd")
    os.lchown(link, 61234, 61234)
    passwd = os.stat("/etc/passwd")
    host.run(write_paths=[str(store)])
    assert [path.lstat().st_uid for path in (store, store / "blobs", store / "blobs/one", link, other)] == [0] * 4 + [1]
    assert os.stat("/etc/passwd") == passwd


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_directory_of_somebody_else_is_refused_by_name(host):
    store = host.root / "store"
    store.mkdir()
    os.chown(store, 1, 1)
    with pytest.raises(Failure, match=f"{store} belongs to the user daemon, not to dsdeploy-vllm"):
        host.run(write_paths=[str(store)])
    assert store.stat().st_uid == 1


# --- stopped and absent, others


def test_stopped_and_started_again(host):
    host.run()
    host.started_as_configured()
    assert host.run("stopped").actions == ["stop", "disable"]
    assert host.changes("stopped") == []
    assert host.run().actions == ["enable", "start"]


@pytest.mark.parametrize("manager", ["systemd", "supervisor"])
def test_nothing_is_left_of_the_last_one(supervised, manager):
    before = set(supervised.files()) - {"supervisor/supervisord.conf"}
    supervised.run(manager=manager, api_key=KEY)
    supervised.daemon._shutdown = lambda: supervised.daemon.socket.unlink() or True
    would = supervised.changes("absent", check=True)
    assert supervised.files()
    done = supervised.changes("absent")
    # What is empty by then is known by then.
    assert [change for change in done if change in would] == would
    assert set(done) - set(would) <= {
        f"remove {supervised.root}/{name}" for name in ("data", "log", "opt", "opt/libexec")
    }
    assert not (supervised.root / "data").exists()
    gone = {path for path in before if path.startswith("opt/supervisor")} if manager == "supervisor" else set()
    assert set(supervised.files()) - {"supervisor/supervisord.conf"} == before - gone
    assert supervised.accounts == {}
    assert supervised.changes("absent", manager=manager) == []


def test_the_record_goes_last(host):
    """What a purge that was cut has left is known from the record."""
    host.run(dirs=[str(host.root / "engine")])
    (host.root / "engine").mkdir()
    shared = ("/salt", "/data", "/opt")
    changes = [change for change in host.changes("absent") if not change.endswith(shared)]
    assert changes[-1] == f"remove {places.RECORDS}/vllm.json"
    assert f"remove {host.root}/engine" in changes


def test_the_empty_directory_of_another_service_stays(host):
    host.run()
    host.run(engine="sglang", device="cpu")
    host.run("absent", engine="sglang")
    assert (host.root / "data/dsdeploy-vllm").is_dir()
    assert not (host.root / "data/dsdeploy-sglang").exists()


def test_a_directory_that_was_there_before_stays(host):
    (host.root / "data").mkdir()
    host.run()
    host.run("absent")
    assert (host.root / "data").exists() and not (host.root / "opt").exists()


def test_what_stays_in_a_directory_of_ours_is_named(host):
    host.run()
    (host.root / "data/models").mkdir()
    service = host.run("absent")
    assert service.left == [f"{host.root}/data: there is something in it"]
    assert (host.root / "data/models").exists() and not Path(places.OWNED).exists()


def test_an_engine_on_the_gpus_stops_the_other_and_says_so(host):
    host.run(engine="sglang")
    service = host.run()
    assert service.warnings == [
        "sglang is stopped first: it holds the GPUs, and vllm takes its place (dsdeploy_stop_others is gpu)"
    ]
    assert (host.root / "dsdeploy-sglang.active").read_text() == "inactive\n"
    assert not (host.root / "dsdeploy-sglang.enabled").exists()
    assert host.run(engine="ollama", device="cpu").warnings == []


def test_supervisor_that_is_not_there_yet_is_asked_for_first(supervised):
    given = {"manager": "supervisor", "install_dir": str(supervised.root / "other")}
    service = supervised.run(**given)
    assert service.needs_supervisor == {"path": f"{supervised.root}/other/supervisor", "version": "4.3.0"}
    assert service.desired.changes == []
    assert "etc/dsdeploy/deployments/vllm.json" not in supervised.files()


def test_supervisor_starts_restarts_and_stops(supervised):
    given = {"manager": "supervisor"}
    assert supervised.run(**given).actions == ["enable", "start"]
    assert supervised.daemon.calls == [("addProcessGroup", "dsdeploy-vllm")]
    program = (supervised.root / "supervisor/conf.d/dsdeploy-vllm.conf").read_text()
    assert "\nuser=" not in program  # the launcher gives up root's rights
    supervised.note_revision(re.search(r"--revision ([0-9a-f]{64})", program).group(1))
    assert supervised.changes(**given) == []
    pid = supervised.daemon.programs["dsdeploy-vllm"]["pid"]
    assert supervised.run(revision="2", **given).actions == ["restart"]
    assert supervised.daemon.programs["dsdeploy-vllm"]["pid"] != pid
    assert supervised.run("stopped").actions == ["stop", "disable"]
    assert supervised.daemon.programs["dsdeploy-vllm"]["statename"] == "STOPPED"
    assert supervised.changes("stopped") == []


def test_systemd_waits_for_an_engine_that_works_beyond_its_time(host):
    host.run(start_timeout=60)
    assert "\nTimeoutStartSec=7200\n" in (host.root / "units/dsdeploy-vllm.service").read_text()


def test_a_link_that_leads_nowhere_is_somebodys_wish(host):
    """A data directory that was linked to a disk before it was made there."""
    (host.root / "data").symlink_to(host.root / "disk/llm")
    assert f"make directory {host.root}/data/dsdeploy-vllm" in host.changes()
    assert (host.root / "disk/llm/dsdeploy-vllm").is_dir()
    assert (host.root / "data").is_symlink()


@pytest.mark.parametrize(
    "path", ["etc/dsdeploy/deployments/vllm.json", "etc/dsdeploy/salt", "units/dsdeploy-vllm.service",
             "etc/dsdeploy/keys/dsdeploy-vllm", "etc/dsdeploy/dsdeploy-vllm.env"],
)  # fmt: skip
def test_a_directory_in_the_place_of_a_file_is_refused_before_anything_is_changed(host, path):
    (host.root / path).mkdir(parents=True)
    with pytest.raises(Failure) as refused:
        host.run(api_key=KEY)
    assert f"{path} is a directory" in str(refused.value) or "not dsdeploy's" in str(refused.value)
    assert host.files() == {} and not (host.root / "data").exists()


@pytest.mark.parametrize("note", ["etc/dsdeploy/owned.json", "etc/dsdeploy/firewall/dsdeploy-vllm.json"])
@pytest.mark.parametrize("state", ["started", "absent"])
def test_notes_that_cannot_be_read_stop_it_before_anything_is_changed(host, note, state):
    host.run()
    (host.root / note).parent.mkdir(exist_ok=True)
    (host.root / note).write_text("5")
    before = host.files()
    with pytest.raises(Failure, match="cannot be read") as refused:
        host.run(state, environment={"A": "new"})
    assert str(host.root / note) in str(refused.value) and refused.value.hint
    assert host.files() == before


def test_packages_and_the_model_that_stay_are_named(host):
    """Of the first of two services nothing is said of packages: the other needs them."""
    model = host.root / "m.gguf"
    model.write_bytes(b"GGUF")
    host.run()
    record = host.record()
    (Path(places.RECORDS) / "vllm.json").write_text(json.dumps(dict(record, model_path=str(model))))
    owned.note("packages", "zstd")
    owned.note("packages", "python3-venv")
    host.run(engine="sglang", device="cpu")
    assert not any("packages" in line for line in host.run("absent", engine="sglang").left)
    left = host.run("absent").left
    assert "packages python3-venv, zstd: installed for dsdeploy; others may need them by now" in left
    assert f"{model}: the model, unless it is named too (down --purge-model)" in left
    assert not os.path.exists(places.OWNED)


def test_whether_supervisor_has_to_be_installed_is_known_from_the_disk(supervised, tmp_path):
    assert supervisor_place.is_installed(f"{supervised.root}/opt/supervisor", "4.3.0")
    assert supervisor_place.is_installed(f"{supervised.root}/opt/supervisor")
    assert not supervisor_place.is_installed(f"{supervised.root}/opt/supervisor", "4.4.0")
    (supervised.root / "opt/supervisor/bin/supervisord").unlink()
    assert not supervisor_place.is_installed(f"{supervised.root}/opt/supervisor")


def test_directories_that_the_run_made_before_go_when_they_are_empty(host):
    programs, models = host.root / "apps", host.root / "models"
    for path in (programs, programs / "llm", models):
        path.mkdir()
    (models / "m").mkdir()
    host.run(made_directories=[str(programs), str(programs / "llm"), str(models), str(host.root / "never-made")])
    left = host.run("absent").left
    assert not programs.exists() and models.is_dir()
    assert f"{models}: there is something in it" in left and not any("never-made" in line for line in left)
    assert not os.path.exists(places.OWNED)


# --- back to how it last answered


def test_one_that_fails_is_served_again_as_it_was(host):
    host.run(api_key=KEY, environment={"A": "1"}, keep_before=True)
    host.started_as_configured()
    assert host.changes(api_key=KEY, environment={"A": "1"}, keep_before=True) == [], "nothing is kept of no change"
    files = {path: (host.root / path).read_bytes() for path in host.files() if "keys/" not in path}
    host.run(api_key=KEY, environment={"A": "2"}, exec=["/bin/sleep", "61"], keep_before=True)
    (kept,) = (host.root / "etc/dsdeploy/before").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600, "the API key is in it"
    assert "sleep 61" in (host.root / "units/dsdeploy-vllm.service").read_text().replace('"', "")
    # It never came up: what is kept is not written over by a second try.
    (host.root / "dsdeploy-vllm.active").write_text("activating")
    host.run(api_key=KEY, environment={"A": "3"}, keep_before=True)
    service = host.run("restored")
    assert service.restored
    assert service.actions == ["restart"]
    assert {path: (host.root / path).read_bytes() for path in files} == files
    host.run("absent")
    assert not kept.exists()


@pytest.mark.parametrize("full", [False, True])
def test_a_change_that_fails_half_way_is_not_taken_back_further_than_it_came(host, monkeypatch, full):
    host.run(environment={"A": "1"}, keep_before=True)
    host.started_as_configured()
    host.run(environment={"A": "2"}, keep_before=True)
    host.started_as_configured()
    files = {path: (host.root / path).read_bytes() for path in host.files()}

    def fails(*_arguments):
        raise Failure("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(managers.Systemd, "accept", fails)
        if full:
            patch.setattr(apply.previous, "keep", fails)
        with pytest.raises(Failure, match="no space"):
            host.run(environment={"A": "3"}, exec=["/bin/sleep", "61"], keep_before=True)
    service = host.run("restored")
    assert service.restored is not full
    kept = {path for path in files if "before/" not in path}
    if not full:
        assert {path: (host.root / path).read_bytes() for path in kept} == {path: files[path] for path in kept}


def test_without_a_state_before_nothing_is_done(host):
    host.run(keep_before=True)
    service = host.run("restored")
    assert not service.restored
    assert service.actions == []


def test_only_files_of_the_service_are_written_back(host):
    host.run(keep_before=True)
    before = Path(places.BEFORE)
    before.mkdir()
    (before / "dsdeploy-vllm.json").write_text(json.dumps({"/etc/passwd": {"data": "", "mode": 420}}))
    with pytest.raises(Failure, match="/etc/passwd, which is no file of the service"):
        host.run("restored")
    (before / "dsdeploy-vllm.json").write_text("[]")
    with pytest.raises(Failure, match="is not what dsdeploy has written"):
        host.run("restored")
