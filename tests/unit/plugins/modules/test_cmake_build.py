# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real builds of a small project, with real CMake, Ninja and compiler; they fail where those are missing."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import run_module

PROJECT = """
cmake_minimum_required(VERSION 3.14)
project(hello C)
set(WORD "hello" CACHE STRING "what to say")
set(CODE "0" CACHE STRING "how to end")
add_library(other STATIC other.c)
add_executable(hello hello.c)
target_link_libraries(hello PRIVATE other)
target_compile_definitions(hello PRIVATE WORD="${WORD}" CODE=${CODE})
if (SLEEP)
  add_custom_command(OUTPUT slept COMMAND touch ${SLEEP} COMMAND sleep 97.5)
  add_custom_target(slow DEPENDS slept)
  add_dependencies(hello slow)
endif()
"""
HELLO = "#include <stdio.h>\nint main(void) { puts(WORD); return CODE; }\n"


@pytest.fixture
def source(tmp_path):
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "CMakeLists.txt").write_text(PROJECT)
    (directory / "hello.c").write_text(HELLO)
    (directory / "other.c").write_text("int other(void) { return 1; }\n")
    return directory


@pytest.fixture
def prefix(tmp_path):
    return tmp_path / "deep" / "prefix"


def arguments(source, prefix, *cmake_args, **more):
    return {
        "source": str(source),
        "prefix": str(prefix),
        "identity": " ".join(cmake_args) or "plain",
        "cmake_args": list(cmake_args),
        "targets": ["hello", "bench"],
        "check": ["hello"],
        "jobs": 1,
        **more,
    }


def build(*args, check_mode=False, environment=None, **more):
    return run_module.run("cmake_build", arguments(*args, **more), check_mode, environment)


def says(prefix):
    return subprocess.run([prefix / "bin" / "hello"], capture_output=True, text=True, check=True).stdout


def beside(prefix):
    """What lies in the directory of the prefix."""
    return sorted(path.name for path in prefix.parent.iterdir())


@pytest.fixture
def calls(tmp_path):
    """A cmake that counts its calls: `(environment, how often it was called)`."""
    log, bin_ = tmp_path / "calls", tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "cmake").write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {shutil.which("cmake")} "$@"\n')
    (bin_ / "cmake").chmod(0o755)
    return {"PATH": f"{bin_}:{os.environ['PATH']}"}, lambda: len(log.read_text().splitlines()) if log.exists() else 0


def test_builds_once(source, prefix, calls):
    environment, count = calls
    result = build(source, prefix, "-DWORD=moin", environment=environment)
    assert result["changed"] is True and result["built"] is True
    assert result["programs"] == [f"{prefix}/bin/hello"]
    assert result["missing_targets"] == ["bench"]
    assert result["check_output"] == "moin"
    assert result["configure_command"][-1] == "-DWORD=moin"
    assert says(prefix) == "moin\n"
    assert beside(prefix) == ["prefix"]
    # The library that was built on the way is not there.
    found = sorted(str(path.relative_to(prefix)) for path in prefix.rglob("*"))
    assert found == [".dsdeploy-build.json", "bin", "bin/hello"]
    for path in (prefix, prefix / "bin", prefix / "bin" / "hello"):
        assert path.stat().st_mode & 0o777 == 0o755
    assert not (source / "build").exists()

    again = build(source, prefix, "-DWORD=moin", environment=environment)
    assert again == {**again, "changed": False, "built": True, "programs": result["programs"]}
    assert count() == 1


def test_modes_do_not_depend_on_the_umask(source, prefix):
    before = os.umask(0o077)
    try:
        build(source, prefix)
    finally:
        os.umask(before)
    for path in (prefix.parent, prefix, prefix / "bin", prefix / "bin" / "hello"):
        assert path.stat().st_mode & 0o777 == 0o755
    assert (prefix / ".dsdeploy-build.json").stat().st_mode & 0o777 == 0o644


def test_changed_flag_builds_again(source, prefix):
    build(source, prefix, "-DWORD=one")
    result = build(source, prefix, "-DWORD=two")
    assert result["changed"] is True
    assert result["diff"] == {"before": "-DWORD=one\n-DWORD=one\n", "after": "-DWORD=two\n-DWORD=two\n"}
    assert says(prefix) == "two\n"
    assert beside(prefix) == ["prefix"]


@pytest.mark.parametrize("damage", ["cut", "missing", "not executable", "stamp cut", "stamp missing"])
def test_damaged_build_is_built_again(source, prefix, damage):
    build(source, prefix)
    program, stamp = prefix / "bin" / "hello", prefix / ".dsdeploy-build.json"
    if damage == "cut":
        program.write_bytes(program.read_bytes()[:-1])
    elif damage == "missing":
        program.unlink()
    elif damage == "not executable":
        program.chmod(0o644)
        if os.geteuid() == 0:
            assert not os.access(program, os.X_OK)
    elif damage == "stamp cut":
        stamp.write_text(stamp.read_text()[:-9])
    else:
        stamp.unlink()
    assert build(source, prefix, check_mode=True)["changed"] is True
    assert build(source, prefix)["changed"] is True
    assert says(prefix) == "hello\n"
    assert build(source, prefix)["changed"] is False


def test_probe(source, prefix):
    probe = {"state": "probed", "prefix": str(prefix), "identity": "plain"}
    assert run_module.run("cmake_build", probe)["built"] is False
    assert not prefix.parent.exists()
    build(source, prefix)
    result = run_module.run("cmake_build", probe)
    assert (result["built"], result["changed"], result["programs"]) == (True, False, [f"{prefix}/bin/hello"])
    other = run_module.run("cmake_build", {**probe, "identity": "other"})
    assert (other["built"], other["changed"]) == (False, False)


def test_check_mode_writes_nothing(source, prefix):
    result = build(source / "nowhere", prefix, "-DWORD=moin", check_mode=True)
    assert (result["changed"], result["built"]) == (True, False)
    assert result["configure_command"][0] == "cmake" and result["configure_command"][-1] == "-DWORD=moin"
    assert not prefix.parent.exists()


def archive(source, path, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        # As an sdist: the project is not at the top.
        tar.add(source, arcname="sdist-1.0/project")
        tar.add(source / "other.c", arcname="sdist-1.0/src/other.c")
    return path


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_archive(source, prefix, tmp_path, kind):
    path = archive(source, tmp_path / f"source.tar.{kind}", f"w:{kind}")
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    assert build(path, prefix, checksum=checksum)["built"] is True
    assert says(prefix) == "hello\n"
    assert beside(prefix) == ["prefix"]


def failure(*args, **more):
    result = build(*args, **more)
    assert result["failed"] is True
    assert result["hint"]
    return result


def test_wrong_archive(source, prefix, tmp_path):
    path = archive(source, tmp_path / "source.tar.gz")
    assert f"{path} has sha256 " in failure(path, prefix, checksum="0" * 64)["msg"]
    path.write_bytes(path.read_bytes()[:-200])
    assert f"{path} is not a whole tar archive" in failure(path, prefix)["msg"]
    path.write_text("<html>not found</html>")
    assert f"{path} is not a whole tar archive" in failure(path, prefix)["msg"]
    assert "does not exist" in failure(tmp_path / "nowhere", prefix)["msg"]
    assert beside(prefix) == []


@pytest.mark.parametrize("kind", ["name", "link"])
def test_archive_that_reaches_outside(prefix, tmp_path, kind):
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("../../../escaped" if kind == "name" else "link")
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(member)
    assert "lies outside of it" in failure(path, prefix)["msg"]
    assert not list(tmp_path.rglob("escaped"))
    assert beside(prefix) == []


def test_no_project_and_several(source, prefix, tmp_path):
    (tmp_path / "empty").mkdir()
    assert failure(tmp_path / "empty", prefix)["msg"] == "the source has no CMakeLists.txt"
    shutil.copytree(source, tmp_path / "two" / "a")
    shutil.copytree(source, tmp_path / "two" / "b")
    assert "several: a/CMakeLists.txt, b/CMakeLists.txt" in failure(tmp_path / "two", prefix)["msg"]


def test_failures_leave_the_build_before(source, prefix):
    build(source, prefix, "-DWORD=before")
    (source / "hello.c").write_text("int main(void) { return undeclared; }\n")
    result = failure(source, prefix, "-DWORD=after")
    assert result["msg"].startswith(f"cannot build {prefix} (exit status 1): ")
    assert "hello.c:1:25: error: 'undeclared' undeclared" in result["msg"]
    assert any("undeclared" in line for line in result["log_tail"]) and len(result["log_tail"]) <= 30

    (source / "hello.c").write_text(HELLO)
    result = failure(source, prefix, "-DWORD=after", "-DCODE=3")
    assert result["msg"] == "hello does not run (exit status 3): after"
    result = failure(source, prefix, "-DWORD=after", targets=["nothing", "hello"], check=["nothing"])
    assert result["msg"] == "the project has no target nothing"
    result = failure(source, prefix, "-DWORD=after", targets=["other", "hello"])
    assert result["msg"] == "target other made no program bin/other"

    (source / "CMakeLists.txt").write_text(PROJECT + 'message(FATAL_ERROR "needs a moon")\n')
    assert "(message): needs a moon" in failure(source, prefix, "-DWORD=after")["msg"]
    assert says(prefix) == "before\n"
    assert beside(prefix) == ["prefix"]
    assert run_module.run("cmake_build", {**arguments(source, prefix, "-DWORD=before"), "state": "probed"})["built"]


def test_nonsense_is_refused(source, prefix):
    assert "none of targets" in run_module.run("cmake_build", arguments(source, prefix, check=["x"]))["msg"]
    assert "negative" in run_module.run("cmake_build", arguments(source, prefix, jobs=-1))["msg"]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def sleepers(work):
    """The processes that a build in this directory has started."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd").startswith(str(work)):
                found.append(int(pid))
        except OSError:
            continue
    return found


def test_killed_in_the_middle(source, prefix, tmp_path):
    asleep = tmp_path / "asleep"
    told = tmp_path / "progress"
    watched = {"DSDEPLOY_PROGRESS_FILE": str(told)}
    module = run_module.start("cmake_build", arguments(source, prefix, f"-DSLEEP={asleep}"), environment=watched)
    wait_for(asleep.exists)
    report = json.loads(told.read_text())
    assert (report["what"], report["unit"], report["pid"]) == ("build", "steps", module.pid)
    assert sleepers(f"{prefix}.work")
    module.send_signal(signal.SIGKILL)
    module.communicate()
    wait_for(lambda: not sleepers(f"{prefix}.work"), 10)
    assert beside(prefix) == ["prefix.lock", "prefix.work"]
    assert build(source, prefix)["built"] is True
    assert says(prefix) == "hello\n"
    assert beside(prefix) == ["prefix"]


def test_killed_at_the_rename(source, prefix):
    build(source, prefix, "-DWORD=before")
    build(source, prefix, "-DWORD=after")
    prefix.rename(f"{prefix}.new")
    Path(f"{prefix}.old").mkdir()
    result = build(source / "not needed", prefix, "-DWORD=after")
    assert (result["changed"], result["built"]) == (True, True)
    assert "configure_command" not in result
    assert beside(prefix) == ["prefix"]


def has_open(process, path):
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            if os.readlink(descriptor) == str(path):
                return True
        except FileNotFoundError:  # it was closed since they were listed
            continue
    return False


def test_the_second_of_two_waits(source, prefix, tmp_path, calls):
    environment, count = calls
    started, go = tmp_path / "started", tmp_path / "go"
    patient = f'sh -c "until [ -e {go} ]; do sleep 0.05; done" VERBATIM'
    (source / "CMakeLists.txt").write_text(PROJECT.replace("sleep 97.5", patient))
    wanted = arguments(source, prefix, f"-DSLEEP={started}")
    first = run_module.start("cmake_build", wanted, environment=environment)
    wait_for(started.exists)
    second = run_module.start("cmake_build", wanted, environment=environment)
    wait_for(lambda: has_open(second, f"{prefix}.lock"))
    go.touch()
    results = [run_module.finish(first), run_module.finish(second)]
    assert [(result["changed"], result["built"]) for result in results] == [(True, True), (True, True)]
    assert ["configure_command" in result for result in results] == [True, False]
    assert count() == 1
    assert beside(prefix) == ["prefix"]


def packed(prefix, path, **more):
    wanted = {"state": "packed", "prefix": str(prefix), "identity": "plain", "archive": str(path), **more}
    return run_module.run("build_archive", wanted)


def unpacked(prefix, path, checksum, check_mode=False, **more):
    wanted = {"state": "unpacked", "prefix": str(prefix), "identity": "plain", "archive": str(path)}
    return run_module.run("build_archive", {**wanted, "checksum": checksum, "check": ["hello"], **more}, check_mode)


def test_carried_to_another_host(source, prefix, tmp_path):
    build(source, prefix)
    path, there = tmp_path / "cache" / "build.tar.gz", tmp_path / "there" / "prefix"
    first = packed(prefix, path)
    assert first["changed"] is True
    assert first["checksum"] == hashlib.sha256(path.read_bytes()).hexdigest()
    os.utime(prefix / "bin" / "hello", (1, 1))
    assert packed(prefix, path) == {**first, "changed": False}

    assert unpacked(there, path, first["checksum"], check_mode=True)["changed"] is True
    assert not there.parent.exists()
    carried = unpacked(there, path, first["checksum"])
    assert (carried["changed"], carried["check_output"]) == (True, "hello")
    assert says(there) == "hello\n"
    assert beside(there) == ["prefix"]
    again = unpacked(there, path, first["checksum"])
    assert (again["changed"], again["check_output"]) == (False, "hello")
    assert build(source / "not needed", there)["changed"] is False


def test_what_is_not_carried(source, prefix, tmp_path):
    path, there = tmp_path / "build.tar.gz", tmp_path / "there" / "prefix"
    assert "is not a finished build of plain" in packed(prefix, path)["msg"]
    build(source, prefix)
    checksum = packed(prefix, path)["checksum"]
    assert "expected " + "0" * 64 in unpacked(there, path, "0" * 64)["msg"]
    assert "holds no build of other" in unpacked(there, path, checksum, identity="other")["msg"]
    assert unpacked(there, path, checksum)["changed"] is True

    shutil.rmtree(there)
    program = prefix / "bin" / "hello"
    program.write_text("#!/bin/sh\necho 'no such processor' >&2\nexit 4\n")
    stamp = json.loads((prefix / ".dsdeploy-build.json").read_text())
    stamp["programs"]["hello"] = program.stat().st_size
    (prefix / ".dsdeploy-build.json").write_text(json.dumps(stamp))
    result = unpacked(there, path, packed(prefix, path)["checksum"])
    assert result["msg"] == "hello does not run (exit status 4): no such processor"
    assert beside(there) == []
