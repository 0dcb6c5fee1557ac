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
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import supervisor_place
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import apply, confinement, texts
from service_host import KEY


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


def test_the_record_is_the_same_whatever_jinja_makes_of_its_values(host):
    """Before ansible-core 2.19 a templated number is a text, with jinja2_native a text of digits a number."""
    path = host.root / "etc/dsdeploy/deployments/vllm.json"
    host.run(version="11549", model="7", streams=1)
    host.started_as_configured()
    before = path.read_text()
    for version, model, streams in ((11549, 7, 1), ("11549", "7", "1")):
        assert not host.run(version=version, model=model, streams=streams).desired.changes
        assert path.read_text() == before
    for wrong in ("many", 0, 1.5, True, "-1"):
        with pytest.raises(Failure, match="'streams' is not a number of requests"):
            host.run(streams=wrong)


def test_a_description_says_what_it_looks_like(host):
    host.run(description="100%n of $HOME \\")
    assert "\nDescription=100%%n of $HOME \n" in (host.root / "units/dsdeploy-vllm.service").read_text()


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


def test_supervisor_that_is_not_there_yet_is_asked_for_first(supervised):
    given = {"manager": "supervisor", "install_dir": str(supervised.root / "other")}
    service = supervised.run(**given)
    assert service.needs_supervisor == {"path": f"{supervised.root}/other/supervisor", "version": "4.3.0"}
    assert service.desired.changes == []
    assert "etc/dsdeploy/deployments/vllm.json" not in supervised.files()


def test_a_service_that_shares_tmp_has_a_place_of_its_own_for_temporary_files(host, monkeypatch):
    """PyTorch looks for headers in /tmp below a name that it always has, whatever its caches are set to."""
    unit, tmp = host.root / "units/dsdeploy-vllm.service", f"{host.root}/data/dsdeploy-vllm/tmp"
    monkeypatch.setattr(texts, "TMP_LONGEST", 4096)
    # Here all is below /tmp, which the unit therefore shares.
    for given in ({}, {"hardening": False}):
        host.run(**given)
        lines = unit.read_text().splitlines()
        place = lines.index(f'Environment="TMPDIR={tmp}"')
        assert lines[place + 1].startswith("EnvironmentFile=")  # which wins
        # Without "+": root makes nothing in a directory of the service's user.
        assert f'ExecStartPre=/bin/sh -c "rm -rf \\"$$0\\"; mkdir -m 700 \\"$$0\\"" "{tmp}"' in lines
    monkeypatch.setattr(texts, "TMP_LONGEST", len(tmp) - 1)
    host.run(hardening=False)
    assert "TMPDIR" not in unit.read_text()
    monkeypatch.setattr(texts, "TMP_LONGEST", 4096)
    monkeypatch.setattr(confinement, "_TEMPORARY", re.compile("none"))
    host.run()
    assert "PrivateTmp=yes\n" in unit.read_text() and "TMPDIR" not in unit.read_text()


def test_under_supervisor_each_service_has_a_place_of_its_own_for_temporary_files(supervised, monkeypatch):
    monkeypatch.setattr(texts, "TMP_LONGEST", 4096)
    supervised.run(manager="supervisor")
    command = (supervised.root / "supervisor/conf.d/dsdeploy-vllm.conf").read_text()
    assert f" --tmp {supervised.root}/data/dsdeploy-vllm/tmp -- " in command
    revision = re.search(r"--revision (\w+)", command).group(1)
    monkeypatch.setattr(texts, "TMP_LONGEST", 1)
    supervised.run(manager="supervisor")
    changed = (supervised.root / "supervisor/conf.d/dsdeploy-vllm.conf").read_text()
    assert "--tmp" not in changed and f"--revision {revision}" not in changed  # what runs is started anew
    # Root's Python, in the directory of the service's user.
    assert re.search(r"^command=\S+/bin/python -I \S+/launcher\.py ", command, re.M)


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


def test_whether_supervisor_has_to_be_installed_is_known_from_the_disk(supervised, tmp_path):
    assert supervisor_place.is_installed(f"{supervised.root}/opt/supervisor", "4.3.0")
    assert supervisor_place.is_installed(f"{supervised.root}/opt/supervisor")
    assert not supervisor_place.is_installed(f"{supervised.root}/opt/supervisor", "4.4.0")
    (supervised.root / "opt/supervisor/bin/supervisord").unlink()
    assert not supervisor_place.is_installed(f"{supervised.root}/opt/supervisor")


@pytest.mark.parametrize("then", ["rm", "echo another run >"], ids=["given back", "of another run"])
def test_a_run_that_was_killed_does_not_go_on_where_the_next_one_works(host, then):
    """Its module does: nobody tells it, and another engine's stop may take minutes. Its lock goes meanwhile."""
    lock = Path(places.LOCK)
    host.run()
    host.started_as_configured()
    lock.parent.mkdir(exist_ok=True)
    lock.write_text("of this run")
    (host.root / "at_stop").write_text(f"{then} {lock}")
    with pytest.raises(Failure, match="dsdeploy-sglang: this run no longer has the host's lock"):
        host.run(engine="sglang")
    assert not (host.root / "etc/dsdeploy/deployments/sglang.json").exists()
    told = (host.root / "systemctl.log").read_text().splitlines()
    assert [line for line in told if line.startswith(("disable", "--no-block start dsdeploy-sglang"))] == []
    # The next one makes it whole.
    (host.root / "at_stop").unlink()
    assert host.run(engine="sglang").actions == ["enable", "start"]


def test_what_others_changed_beside_the_unit_is_told_and_stays(host):
    """`systemctl edit` and `systemctl set-property` write beside the unit, where nothing of ours looks."""
    host.run()
    host.started_as_configured()
    own = "/etc/systemd/system/dsdeploy-vllm.service.d/override.conf"
    every = "/usr/lib/systemd/system/service.d/10-timeout-abort.conf"
    (host.root / "dsdeploy-vllm.drop_ins").write_text(f"{every} {own}")
    again = host.run()
    assert again.desired.changes == [] and [line.split(" ")[0] for line in again.warnings] == [own]
    assert f"{own}: changes the unit, and would change a new one; somebody else wrote it" in host.run("absent").left


def test_a_salt_that_somebody_made_readable_is_root_s_again(host):
    """By it a weak API key can be looked for in the revision, which everybody reads."""
    host.run(api_key="weak")
    host.started_as_configured()
    salt = host.root / "etc/dsdeploy/salt"
    before = salt.read_text()
    salt.chmod(0o644)
    service = host.run(api_key="weak")
    assert service.actions == [] and len(service.desired.changes) == 1
    assert (stat.S_IMODE(salt.stat().st_mode), salt.read_text()) == (0o600, before)
    assert before.strip() not in json.dumps(service.desired.diffs)
