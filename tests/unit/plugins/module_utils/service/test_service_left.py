# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What supervisor starts, and what a service leaves behind: processes whose parent, the main process, is gone."""

import os
import pwd
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import launcher
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.managers import Supervisor, end_group
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.supervisor import Daemon
from processes import gone, lives

ME = pwd.getpwuid(os.getuid()).pw_name
# A main process with a worker that does not mind its end, as supervisord starts it: leader of a process group.
SERVICE = ["/bin/sh", "-c", "trap '' TERM; (trap '' TERM; exec sleep 60) & echo $!; sleep 60"]


def launch(directory, command, user=ME, around=None, **options):
    """The launcher as supervisord starts it, with what is `around` in the environment; the process."""
    (directory / "env").write_text('# x\nGREETING="it is \\"100%\\" \\$HOME \\`x\\` \\\\"\nHOME="/h"\n')
    given = {"name": "it", "user": user, "run": directory / "run", "environment": directory / "env",
             "revision": "r1", "nofile": 64, "memlock": 4096, **options}  # fmt: skip
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    argv = [sys.executable, launcher.__file__, *words, "--", *command]
    environment = {**os.environ, **(around or {})}
    return subprocess.Popen(
        argv, cwd=directory, stdout=subprocess.PIPE, text=True, preexec_fn=os.setpgrp, env=environment
    )


def started(directory, command=SERVICE):
    process = launch(directory, command)
    return process, int(process.stdout.readline())


def note(directory):
    return launcher.read_note(launcher.note_path(str(directory / "run"), "it", "group"))


def test_a_start_ends_what_the_one_before_left(tmp_path):
    main, worker = started(tmp_path)
    other = subprocess.Popen(["sleep", "60"], preexec_fn=os.setpgrp)
    main.kill()
    main.wait()
    assert lives(worker)
    again, second = started(tmp_path)
    try:
        assert gone(worker, 5.0)
        assert lives(second) and lives(again.pid) and lives(other.pid)
        assert note(tmp_path).split()[0] == str(again.pid)
    finally:
        os.killpg(again.pid, 9)
        other.kill()
        again.wait()
        other.wait()


@pytest.mark.parametrize("wrong", ["session", "boot", "nothing", "old form"])
def test_a_note_that_is_not_of_this_boot_and_session_ends_nothing(tmp_path, wrong):
    main, worker = started(tmp_path)
    number, session, where = note(tmp_path).split(" ", 2)
    text = {
        "session": f"{number} {int(session) + 1} {where}",
        "boot": f"{number} {session} another-boot pid:[1]",
        "nothing": "",
        "old form": f"{number} {session}",
    }[wrong]
    launcher.write_note(launcher.note_path(str(tmp_path / "run"), "it", "group"), text)
    again, _second = started(tmp_path)
    try:
        assert lives(worker)
    finally:
        os.killpg(again.pid, 9)
        os.killpg(main.pid, 9)
        again.wait()
        main.wait()


@pytest.mark.skipif(os.getuid() != 0, reason="only root starts a service as another user")
def test_a_process_of_another_user_is_never_ended(tmp_path):
    """Whatever a note says: root ends processes of the service's user alone."""
    main, worker = started(tmp_path)
    again = launch(tmp_path, ["/bin/sh", "-c", "echo up; exec sleep 60"], user="daemon")
    try:
        assert again.stdout.readline() == "up\n"
        assert lives(worker)
    finally:
        os.killpg(main.pid, 9)
        again.kill()
        main.wait()
        again.wait()


def test_notes_are_for_root_alone(tmp_path):
    process = launch(tmp_path, ["/bin/true"])
    assert process.wait() == 0
    run = tmp_path / "run"
    assert run.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in run.iterdir()} == {
        "it.group": 0o600,
        "it.revision": 0o600,
    }
    assert (run / "it.revision").read_text() == "r1\n"


def test_environment_and_limits(tmp_path):
    said, _err = launch(
        tmp_path, ["/bin/sh", "-c", 'echo "$GREETING|$HOME|$USER"; ulimit -n; ulimit -l; ulimit -Hc']
    ).communicate()
    greeting, files, locked, core = said.splitlines()
    assert greeting == f'it is "100%" $HOME `x` \\|/h|{ME}'
    assert (files, locked, core) == ("64", "4", "0")


AROUND = {
    **dict.fromkeys(("AWS_SECRET_ACCESS_KEY", "NVIDIA_API_KEY", "HTTPS_PROXY", "HF_TOKEN"), "planted"),
    "PYTHONPATH": "/planted",
    "LD_PRELOAD": "",
    "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
    "CUDA_HOME": "/usr/local/cuda",
    "NVIDIA_VISIBLE_DEVICES": "all",
}


def test_the_environment_of_whoever_started_it_stays_behind(tmp_path):
    said, _err = launch(tmp_path, ["/usr/bin/env"], around=AROUND).communicate()
    found = dict(line.split("=", 1) for line in said.splitlines())
    assert "planted" not in said and not {"PYTHONPATH", "LD_PRELOAD"} & set(found)
    # What a container says of its GPUs, and what module `service` has written.
    for name in ("LD_LIBRARY_PATH", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES"):
        assert found[name] == AROUND[name]
    assert (found["HOME"], found["PATH"], found["USER"]) == ("/h", os.environ["PATH"], ME)


def test_supervisord_has_no_environment_of_whoever_started_it(tmp_path, monkeypatch):
    program, seen = tmp_path / "bin" / "supervisord", tmp_path / "seen"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nenv >{seen}\nexit 3\n")
    program.chmod(0o755)
    for name, value in AROUND.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "conf").write_text(f"[unix_http_server]\nfile={tmp_path}/none\n")
    manager = Supervisor("it", str(tmp_path))
    manager.daemon = Daemon(str(tmp_path / "conf"))
    with pytest.raises(Failure, match="supervisord does not start"):
        manager.start_daemon()
    text = seen.read_text()
    assert "planted" not in text and "LC_ALL=C\n" not in text and "CUDA_HOME=/usr/local/cuda\n" in text


def test_temporary_files_are_in_a_directory_of_its_own_and_gone_at_the_next_start(tmp_path):
    tmp = tmp_path / "tmp"
    script = ["/bin/sh", "-c", 'stat -c "%a %U" "$TMPDIR"; ls -A "$TMPDIR"; touch "$TMPDIR/left"; echo "$TMPDIR"']
    for _start in range(2):
        said, _err = launch(tmp_path, script, tmp=tmp).communicate()
        assert said.splitlines() == [f"700 {ME}", str(tmp)] and os.listdir(tmp) == ["left"]


def test_a_directory_for_temporary_files_that_the_user_names_counts(tmp_path):
    process = launch(tmp_path, ["/bin/sh", "-c", 'echo "$TMPDIR"'], tmp=tmp_path / "tmp", environment=tmp_path / "mine")
    (tmp_path / "mine").write_text(f'TMPDIR="{tmp_path}"\n')
    assert process.communicate()[0] == f"{tmp_path}\n" and not (tmp_path / "tmp").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root has rights to give up")
def test_no_link_in_its_place_leads_root_elsewhere():
    """The service's user owns the directory above."""
    with tempfile.TemporaryDirectory() as top:
        state, others = Path(top, "state"), Path(top, "others")
        for path in (state, others):
            path.mkdir()
        Path(top).chmod(0o755)
        (others / "mine").touch()
        os.chown(state, pwd.getpwnam("daemon").pw_uid, -1)
        (state / "tmp").symlink_to(others)
        os.lchown(state / "tmp", pwd.getpwnam("daemon").pw_uid, -1)
        said, _err = launch(
            Path(top), ["/bin/sh", "-c", 'stat -c "%U %a" "$TMPDIR"'], "daemon", tmp=state / "tmp"
        ).communicate()
        assert said == "daemon 700\n" and not (state / "tmp").is_symlink()
        assert os.listdir(others) == ["mine"] and others.stat().st_uid == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root has rights to give up")
def test_the_service_has_no_right_and_gets_none_back(tmp_path):
    said, _err = launch(tmp_path, ["/bin/cat", "/proc/self/status"], user="daemon").communicate()
    status = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[name], 16) == 0, name
    uid = str(pwd.getpwnam("daemon").pw_uid)
    assert status["Uid"].split() == [uid] * 4


def test_what_outlives_a_stop_is_ended(tmp_path):
    main, worker = started(tmp_path)
    group = note(tmp_path)
    assert launcher.members(group, os.getuid()) != []
    assert launcher.members(group, os.getuid() + 1) == []
    main.kill()
    main.wait()
    assert lives(worker)
    end_group(group, ME, wait=0.3)
    assert gone(worker, 5.0)
    assert launcher.members(group, os.getuid()) == []


def test_nothing_is_waited_for_where_nothing_was_noted():
    before = time.monotonic()
    end_group("", ME)
    assert time.monotonic() - before < 5
