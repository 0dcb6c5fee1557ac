# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run has made that did not come to the deployment's record: `down --purge` knows it all the same."""

import json
import os
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import accounts, begun, owned
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import deployed, deployments

NAME = "dsdeploy-vllm"


def wanted(root, **given):
    """Option `deployment` of module preflight, as it fills it in."""
    result = {"engine": "vllm", "service": NAME, "manager": "systemd", "install_dir": f"{root}/opt",
              "data_dir": f"{root}/data", "log_dir": f"{root}/log", "dirs": [f"{root}/opt/vllm"], "write_paths": [],
              "environment_file": None, "releases": f"{root}/opt/vllm", "model": f"{root}/data/models/m"}  # fmt: skip
    return {**result, **given}


def begin(host, made=(), **given):
    """What module host_owned notes before anything is made."""
    note = begun.make(wanted(host.root, **given), NAME, [str(path) for path in made])
    owned.note("begun", NAME, **begun.joined(owned.load()["begun"].get(NAME), note))


def install(host):
    (host.root / "opt/vllm/0.32.0/bin").mkdir(parents=True)
    (host.root / "opt/vllm/0.32.0/bin/python").touch()


def everything(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.relative_to(root).parts[0] not in (
        "bin", "systemctl.log", "units", "supervisor"))  # fmt: skip


# --- the note


def test_the_record_takes_the_place_of_the_note(host):
    begin(host)
    install(host)
    assert owned.load()["begun"][NAME]["dirs"] == [f"{host.root}/opt/vllm"]
    host.run(dirs=[f"{host.root}/opt/vllm"])
    assert owned.load()["begun"] == {}
    record = dict(deployments.read_records()[0][0], model_path=f"{host.root}/data/models/m")
    assert begun.is_recorded(begun.make(wanted(host.root), NAME, []), record)


@pytest.mark.parametrize("moved", [{"dirs": ["/srv/vllm"]}, {"data_dir": "/srv"}, {"write_paths": ["/srv/w"]},
                                   {"environment_file": "/srv/env"}, {"manager": "supervisor"}])  # fmt: skip
def test_a_deployment_that_moves_is_noted_again(host, moved):
    host.run(dirs=[f"{host.root}/opt/vllm"])
    record = dict(deployments.read_records()[0][0], model_path=f"{host.root}/data/models/m")
    assert not begun.is_recorded(begun.make(wanted(host.root, **moved), NAME, []), record)
    assert not begun.is_recorded(begun.make(wanted(host.root), "somebody", []), record)
    gone = begun.make(wanted(host.root), NAME, [f"{host.root}/data"])
    assert not begun.is_recorded(gone, record)


def test_a_directory_of_models_that_is_never_made_is_not_noted_again(host):
    # On a GPU host a model of its own path was served, and the second `up` had a change.
    host.run(dirs=[f"{host.root}/opt/vllm"])
    record = dict(deployments.read_records()[0][0], model="r1", model_path="/srv/weights/r1")
    here, made = dict(model="/srv/models/r1"), ["/srv/models"]
    assert begun.is_recorded(begun.make(wanted(host.root, model=""), NAME, made), record)
    fetched = dict(record, model_path="/srv/models/r1")
    assert not begun.is_recorded(begun.make(wanted(host.root, **here), NAME, made), fetched)


@pytest.mark.parametrize("made", [[], ["/data/models"]])
def test_a_model_that_is_to_be_fetched_is_noted_whether_or_not_its_directory_is_there(host, made):
    # Another model; the same one, which was the user's own before, or lay in another directory of models.
    host.run(dirs=[f"{host.root}/opt/vllm"])
    before = dict(deployments.read_records()[0][0], model="r1")
    for model, served in (("v3", "/data/models/r1"), ("r1", "/srv/weights/r1"), ("r1", "/srv/models/r1/a.gguf")):
        note = begun.make(wanted(host.root, model=f"/data/models/{model}"), NAME, made)
        assert not begun.is_recorded(note, dict(before, model_path=served))
    for served in ("/data/models/r1", "/data/models/r1/a.gguf", "/data//models/r1/"):
        note = begun.make(wanted(host.root, model="/data/models/r1"), NAME, [])
        assert begun.is_recorded(note, dict(before, model_path=served))


def test_two_runs_that_failed_in_other_directories_are_one_note(host):
    begin(host, made=["/one"])
    begin(host, dirs=["/two/vllm"], install_dir="/two", data_dir="/two/data", made=["/two"])
    note = owned.load()["begun"][NAME]
    assert note["dirs"] == ["/two/vllm", f"{host.root}/opt/vllm", f"{host.root}/data/{NAME}"]
    assert (note["install_dirs"], note["made"]) == (["/two", f"{host.root}/opt"], ["/two", "/one"])
    assert begun.joined(note, begun.make(wanted("/x", dirs=["/two/vllm"], install_dir="/two", data_dir="/two/data",
                                                log_dir="/two/log"), NAME, [])) != note  # fmt: skip


def test_what_a_note_before_says_is_not_noted_again(host):
    note = begun.make(wanted(host.root), NAME, [])
    assert not begun.is_noted(note, None) and begun.is_noted(note, note)
    before = begun.joined(note, begun.make(wanted(host.root, dirs=["/two/vllm"]), NAME, []))
    assert begun.is_noted(begun.make(wanted(host.root, dirs=["/two/vllm"]), NAME, []), before)
    assert not begun.is_noted(begun.make(wanted(host.root, dirs=["/three/vllm"]), NAME, []), before)
    assert not begun.is_noted(begun.make(wanted(host.root, dirs=["/two/vllm"]), NAME, ["/srv"]), before)


def test_what_was_begun_elsewhere_goes_with_the_deployment(host):
    """The first run failed on a disk that is too small, the second one went to another."""
    begin(host, dirs=["/full/vllm"], install_dir="/full")
    other = host.root / "disk/vllm"
    other.mkdir(parents=True)
    begin(host, dirs=[str(other)])
    install(host)
    host.run(dirs=[f"{host.root}/opt/vllm"])
    assert host.record()["left"] == [str(other)]
    host.run("absent")
    assert not other.exists()


@pytest.mark.parametrize("damage", [
    {"dirs": ["/"]}, {"dirs": ["//"]}, {"dirs": ["/a/../.."]}, {"dirs": "/opt"}, {"user": "a b"}, {"manager": "sh"},
    {"state_dir": None}, {"model": 5}, {"made": [5]}, {"install_dirs": None},
])  # fmt: skip
def test_a_note_that_would_remove_what_is_not_ours_is_refused(host, damage):
    begin(host)
    notes = json.loads(Path(places.OWNED).read_text())
    notes["begun"][NAME].update(damage)
    Path(places.OWNED).write_text(json.dumps(notes))
    for state in ("started", "absent"):
        with pytest.raises(Failure, match="cannot be read: "):
            host.run(state)
    assert json.loads(Path(places.OWNED).read_text()) == notes


# --- down --purge


def test_a_run_that_failed_before_its_service_leaves_nothing(host):
    before = everything(host.root)
    made = [host.root / "data", host.root / "data/models", host.root / "opt"]
    begin(host, made)
    install(host)
    (host.root / "data/models").mkdir(parents=True)
    owned.note("packages", "zstd")
    found = deployed.begun_deployments([])
    assert [(one["engine"], one["service"]["name"], one["user"]) for one in found] == [("vllm", NAME, NAME)]
    service = host.run("absent")
    assert everything(host.root) == [*before, "etc", "etc/dsdeploy"]
    assert service.left == ["packages zstd: installed for dsdeploy; others may need them by now"]
    assert deployed.begun_deployments([]) == []


@pytest.mark.parametrize("manager", ["systemd", "supervisor"])
def test_a_run_that_failed_between_the_user_and_the_record_leaves_nothing(supervised, manager):
    """The manager does not take what it is given."""
    host = supervised
    host.daemon._shutdown = lambda: host.daemon.socket.unlink() or True
    begin(host, [host.root / "opt"], manager=manager, write_paths=[f"{host.root}/data/w"])
    install(host)

    def refuse(_self):
        raise Failure("the manager does not take it")

    with host.monkeypatch.context() as patch:
        patch.setattr("ansible_collections.dsdeploy.llm.plugins.module_utils.service.managers."
                      f"{manager.capitalize()}.accept", refuse)  # fmt: skip
        with pytest.raises(Failure, match="does not take"):
            host.run(manager=manager, api_key="sk-1", write_paths=[f"{host.root}/data/w"])
    assert host.accounts and not list(Path(places.RECORDS).glob("*"))
    assert (Path(places.KEYS) / NAME).exists() and (host.root / f"data/{NAME}").is_dir()
    service = host.run("absent", manager=manager)
    there = [f"{host.root}/opt: there is something in it"] if manager == "systemd" else []  # supervisor
    assert host.accounts == {} and service.left == there
    rest = {path for path in host.files() if not path.startswith(("supervisor/", "opt/supervisor"))}
    assert rest == set() and not (host.root / "data").exists() and not (host.root / "opt/vllm").exists()
    assert (host.root / "opt/supervisor").exists() == (manager == "systemd")


def test_the_model_that_a_failed_run_has_fetched_stays_and_is_named(host):
    begin(host, [host.root / "data"])
    (host.root / "data/models/m/main").mkdir(parents=True)
    (host.root / "data/models/m/main/model.gguf.part").touch()
    left = host.run("absent").left
    assert left[0] == f"{host.root}/data/models/m: the model, as far as it was fetched (down --purge-model m)"
    assert (host.root / "data/models/m/main/model.gguf.part").exists()


def test_another_deployment_keeps_what_both_need(host):
    host.run(engine="sglang", device="cpu")
    host.started_as_configured("dsdeploy-sglang")
    begin(host, [host.root / "opt"])
    install(host)
    host.run("absent")
    assert not (host.root / "opt/vllm").exists()
    assert (host.root / "opt/libexec/wait_healthy.py").exists() and "dsdeploy-sglang" in host.accounts
    assert host.changes("started", engine="sglang", device="cpu") == []


def test_check_mode_says_it_and_changes_nothing(host):
    begin(host, [host.root / "opt"])
    install(host)
    before = everything(host.root)
    would = host.changes("absent", check=True)
    assert f"remove {host.root}/opt/vllm" in would and everything(host.root) == before
    assert owned.load()["begun"]


# --- users


def test_a_group_whose_user_was_never_made_goes_too(host, monkeypatch):
    """useradd failed, or the run was killed between the two."""
    told = []
    monkeypatch.setattr(accounts, "_do", told.append)
    monkeypatch.setattr(accounts, "_has_group", lambda name: True)
    owned.note("groups", NAME)
    owned.note("users", NAME, uid=None, home="/h")
    host.run("absent")
    assert told == [["groupdel", NAME]]
    assert not os.path.exists(places.OWNED)


def test_a_user_that_another_deployment_runs_as_stays(host):
    host.run(user="dsdeploy-both")
    host.run(engine="sglang", device="cpu", user="dsdeploy-both")
    assert "user dsdeploy-both: sglang runs as it" in host.run("absent").left
    assert "dsdeploy-both" in host.accounts
    host.run("absent", engine="sglang")
    assert host.accounts == {}


@pytest.mark.parametrize(
    ("entry", "path", "place"),
    [
        ({"name": "it"}, "", "/srv/models/it"),
        ({"name": "it"}, "/srv/models/it/main/a.gguf", "/srv/models/it"),
        ({"name": "it", "place": "owner--it"}, "", "/srv/models/owner--it"),
        ({"name": "it"}, "/w/it", ""),
        ({"name": "it"}, "/srv/models-of-mine/it", ""),
        ({"name": "it", "path": "/w"}, "", ""),
        ({}, "", ""),
    ],
)
def test_where_the_store_puts_a_model(entry, path, place):
    assert begun.model_place("/srv/models", entry, path) == place
    assert begun.model_place("/srv/models/", entry, path) == place
    assert begun.model_place("", entry, path) == ""
