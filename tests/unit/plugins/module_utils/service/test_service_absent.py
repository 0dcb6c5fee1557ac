# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that is stopped, taken away, or served again as it last answered (service_host.py)."""

import fcntl
import json
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import owned
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import apply, managers
from service_host import KEY


def test_stopped_and_started_again(host):
    host.run()
    host.started_as_configured()
    assert host.run("stopped").actions == ["stop", "disable"]
    assert host.changes("stopped") == []
    assert host.run().actions == ["enable", "start"]


@pytest.mark.parametrize("name", [".making", "build-1.lock"])
def test_what_is_still_installed_is_not_removed(host, name):
    """The job of a run that was killed goes on: it would make anew what is gone, or fail what removes it."""
    root = host.root / "opt/engine"
    root.mkdir(parents=True)
    (root / "1.0-cpu.lock").write_text("a package==1\n")  # no lock, but what is to be installed
    host.run(dirs=[str(root)])
    before = host.files()
    with open(root / name, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(Failure, match=f"dsdeploy-vllm: a run that was ended still installs in {root}") as refused:
            host.run("absent")
        assert f"(process {os.getpid()})" in str(refused.value) or "process" not in str(refused.value)
    assert set(before) - set(host.files()) == set() and root.is_dir()
    host.run("absent")
    assert not root.exists()


def test_a_share_of_others_inside_is_refused_before_anything_goes(host, monkeypatch, tmp_path):
    root = host.root / "opt/engine"
    (root / "share").mkdir(parents=True)
    host.run(dirs=[str(root)])
    (tmp_path / "mountinfo").write_text(f"40 22 0:33 / {root}/share rw - nfs4 nas:/ rw\n")
    before = host.files()
    monkeypatch.setattr(apply.removing, "MOUNTS", str(tmp_path / "mountinfo"))
    with pytest.raises(Failure, match=f"{root}/share: mounted inside"):
        host.run("absent")
    assert host.files() == before and (root / "share").is_dir()


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


@pytest.mark.parametrize(("named", "told"), [([], 1), (["another"], 1), (["r1"], 0)])
def test_a_model_that_is_to_go_too_is_not_named_as_left(host, named, told):
    model = host.root / "m.gguf"
    model.write_bytes(b"GGUF")
    host.run()
    record = dict(host.record(), model="r1", model_path=str(model))
    (Path(places.RECORDS) / "vllm.json").write_text(json.dumps(record))
    assert sum("the model" in line for line in host.run("absent", models_that_go=named).left) == told


def test_a_model_that_goes_is_known_by_its_directory_whatever_it_is_served_as(host):
    model = host.root / "owner--r1" / "main"
    model.mkdir(parents=True)
    host.run()
    record = dict(host.record(), model="chat", model_path=str(model))
    (Path(places.RECORDS) / "vllm.json").write_text(json.dumps(record))
    assert not any("the model" in line for line in host.run("absent", models_that_go=["owner--r1"]).left)


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
