# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong, or not ours, is refused by name before anything is changed (service_host.py)."""

import json
import os
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import users
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import definition, managers
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.apply import Service
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


def test_a_unit_of_somebody_else_is_refused_by_name(host):
    unit = host.root / "units/dsdeploy-vllm.service"
    unit.write_text("[Service]\nExecStart=/bin/other\n")
    for state in ("started", "stopped", "absent"):
        with pytest.raises(Failure, match="systemd's unit dsdeploy-vllm is in the way: .* is not dsdeploy's"):
            host.run(state, manager="systemd")
    assert unit.read_text() == "[Service]\nExecStart=/bin/other\n"


@pytest.mark.parametrize("where", ["units/dsdeploy-vllm.service", "run.service", None])
def test_a_unit_that_is_masked_is_called_so_and_stays(host, where):
    # systemd names the link, in /run with --runtime, or what it leads to, which nobody is to be told to remove.
    link = host.root / where if where else None
    if link:
        link.symlink_to(os.devnull)
    if where != "units/dsdeploy-vllm.service":
        (host.root / "dsdeploy-vllm.fragment").write_text(str(link or os.devnull))
    for state in ("started", "stopped", "absent"):
        with pytest.raises(Failure, match="systemd's unit dsdeploy-vllm is masked: somebody wants") as refused:
            host.run(state, manager="systemd")
        assert "systemctl unmask dsdeploy-vllm" in refused.value.hint and "emove" not in refused.value.hint
    assert link is None or link.is_symlink()


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
    "the connection's": (users.Account("operator", 300, 300, "/", "/usr/sbin/nologin"), "this run connects as"),
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


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("manager", ["systemd", "supervisor"])
@pytest.mark.parametrize("which", ["install_dir", "data_dir", "log_dir", "write_paths"])
def test_no_place_of_roots_lies_where_somebody_else_can_change_it(host, which, manager):
    """Whatever role asks for a service: root runs, writes and gives away what is there."""
    theirs = host.root / "theirs"
    theirs.mkdir()
    value = str(theirs / "ours")
    given = {which: [value] if which == "write_paths" else value, "manager": manager}
    os.chown(theirs, 1, 1)
    if which == "log_dir" and manager == "systemd":
        host.run(**given)  # the journal is elsewhere
        return
    before = host.files()
    with pytest.raises(Failure, match=f"on the way is {theirs}, where its owner daemon can put others"):
        host.run(**given)
    assert host.files() == before and os.listdir(theirs) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_directory_of_somebody_else_is_refused_by_name(host):
    store = host.root / "store"
    store.mkdir()
    os.chown(store, 1, 1)
    with pytest.raises(Failure, match=f"{store} belongs to the user daemon, not to dsdeploy-vllm"):
        host.run(write_paths=[str(store)])
    assert store.stat().st_uid == 1


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


def test_each_shard_that_the_user_cannot_read_is_refused(tmp_path):
    """Also of a model in the store, whose files somebody may have closed since they were fetched."""
    if os.getuid() != 0:
        pytest.skip("needs root: another user's access")
    top = tmp_path
    while str(top) != "/tmp" and top != top.parent:
        top.chmod(top.stat().st_mode | 0o055)
        top = top.parent
    names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
        (tmp_path / name).chmod(0o644)
    given = {"state_dir": "/", "exec": ["/bin/true"], "write_paths": [], "user": "nobody-else",
             "read_only_paths": [str(tmp_path / names[0])]}  # fmt: skip
    Service.check_access(None, given, None)
    (tmp_path / names[1]).chmod(0o600)
    with pytest.raises(Failure) as caught:
        Service.check_access(None, given, None)
    second = tmp_path / names[1]
    assert str(caught.value) == f"{second}: the user nobody-else cannot read {second} (mode 0600)"
    assert caught.value.hint == f"Let other users read it, for example: chmod o+r {second}"
