# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module with the real uv, and a package that is made here: no index is asked."""

import base64
import fcntl
import hashlib
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from run_module import finish, run, start

PROGRAM = "print('usage: engine [-h] [--port PORT]')\nprint('  --port PORT  where')\n"
# The distribution's own: the one that runs the tests may lie where other users cannot reach it.
HOST_PYTHON = subprocess.run(
    ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
    capture_output=True,
    text=True,
    check=True,
).stdout.strip()
# No index is named, and pip's configuration of the machine that runs the tests is not theirs.
OFFLINE = {"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": "", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}


def make_wheel(directory, program=PROGRAM):
    """A package `tiny-engine` with one module that prints its options; returns the sha256 of its wheel."""
    info = "tiny_engine-1.0.dist-info"
    files = {
        "tiny_engine.py": program,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-engine\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows += f"{name},sha256={digest},{len(text.encode())}\n"
    path = directory / "tiny_engine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", rows + f"{info}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def arguments(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    digest = make_wheel(wheels)
    lock = tmp_path / "1.0.lock"
    lock.write_text(f"tiny-engine==1.0 \\\n    --hash=sha256:{digest}\n")
    return {
        "path": str(tmp_path / "releases" / "1.0"),
        "lock": str(lock),
        "uv": shutil.which("uv", path=f"{sys.prefix}/bin"),
        "python": HOST_PYTHON,
        "distribution": "tiny_engine",
        "cache_dir": str(tmp_path / "cache"),
        "python_dir": str(tmp_path / "python"),
        "find_links": [str(wheels)],
        "help": ["-m", "tiny_engine"],
    }


def made(arguments, **more):
    return run("uv_venv", {**arguments, **more}, environment=OFFLINE)


def test_it_is_made_once_and_known_again(arguments):
    done = made(arguments)
    assert (done["changed"], done["version"]) == (True, "1.0")
    assert "--port" in Path(done["help_file"]).read_text()
    assert done["base_interpreter"].startswith("/usr/bin/python3")
    again = made(arguments)
    assert (again["changed"], again["version"]) == (False, "1.0")


def test_the_working_directory_has_no_say(arguments, tmp_path, monkeypatch):
    """It is the home of whoever the run came by: uv would take its settings from there, and Python import from it."""
    here, seen = tmp_path / "here" / "below", tmp_path / "seen"
    here.mkdir(parents=True)
    (tmp_path / "here" / "uv.toml").write_text(f'[pip]\ntarget = "{tmp_path}/elsewhere"\n')
    for name in ("tiny_engine", "os", "runpy"):
        (here / f"{name}.py").write_text(f"open({str(seen)!r}, 'a').write(__name__)\nprint('--port')\n")
    monkeypatch.chdir(here)
    assert made(arguments)["version"] == "1.0"
    assert not (tmp_path / "elsewhere").exists() and not seen.exists()


def test_what_is_asked_for_its_options_leaves_nothing_in_a_home(arguments, tmp_path):
    """As engines and CUDA do: a cache below the home and below a variable that only the service is to have."""
    shutil.rmtree(arguments["find_links"][0])
    Path(arguments["find_links"][0]).mkdir()
    program = (
        "import os\nos.makedirs(os.path.expanduser('~/.nv/ComputeCache'), mode=0o700)\n"
        "os.makedirs(os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache')) + '/engine')\n"
        "print('--port', os.environ['HOME'], os.environ['TOLD'])\n"
    )
    digest = make_wheel(Path(arguments["find_links"][0]), program)
    Path(arguments["lock"]).write_text(f"tiny-engine==1.0 \\\n    --hash=sha256:{digest}\n")
    home = tmp_path / "home"
    home.mkdir()
    environment = dict(OFFLINE, HOME=str(home), XDG_CACHE_HOME=str(home / "cache"))
    done = run("uv_venv", dict(arguments, help_environment={"TOLD": "yes"}), environment=environment)
    _port, used, told = Path(done["help_file"]).read_text().split()
    assert told == "yes" and used != str(home) and not Path(used).exists()
    assert not (home / ".nv").exists() and not (home / "cache" / "engine").exists()


def test_a_look_needs_neither_uv_nor_the_lock_on_the_host(arguments):
    digest = hashlib.sha256(Path(arguments["lock"]).read_bytes()).hexdigest()
    look = {"probe": True, "lock_sha256": digest, "lock": "/not/there", "uv": "/not/there"}
    assert not made(arguments, **look)["complete"] and not made(arguments, **look)["changed"]
    made(arguments)
    told = made(arguments, **look)
    assert (told["complete"], told["version"]) == (True, "1.0")
    assert not made(arguments, **dict(look, lock_sha256="0" * 64))["complete"]
    # Closed to other users by a strict umask: it is to be made right.
    Path(arguments["path"]).chmod(0o700)
    assert not made(arguments, **look)["complete"]
    assert made(arguments)["changed"] and Path(arguments["path"]).stat().st_mode & 0o777 == 0o755
    assert made(arguments, **look)["complete"]


def test_check_mode_says_that_it_would_be_made(arguments, tmp_path):
    for absent in ({}, {"lock": str(tmp_path / "not-there-yet.lock")}):
        done = run("uv_venv", {**arguments, **absent}, check=True)
        assert (done["changed"], done["version"]) == (True, None)
    assert not (tmp_path / "releases").exists()


def test_check_mode_fails_where_the_index_does_not_answer(arguments):
    away = dict(arguments, find_links=[], index_url="http://127.0.0.1:9/simple")
    done = run("uv_venv", away, check=True, environment=OFFLINE)
    assert done["failed"] and "no package index answers for tiny_engine" in done["msg"]
    assert "127.0.0.1:9" in done["msg"] and "dsdeploy_mirrors" in done["hint"]
    assert not run("uv_venv", dict(away, probe=True), check=True, environment=OFFLINE).get("failed")
    made(arguments)
    # What is there needs no index.
    assert not run("uv_venv", away, check=True, environment=OFFLINE).get("failed")


def test_one_that_was_interrupted_is_made_anew(arguments):
    made(arguments)
    stray = Path(arguments["path"]) / "half-done"
    stray.write_text("")
    (Path(arguments["path"]) / ".dsdeploy-venv.json").unlink()
    assert made(arguments)["changed"]
    assert not stray.exists()


def test_a_second_one_waits_for_the_first_to_end(arguments):
    """The job of a controller that was stopped goes on."""
    directory = Path(arguments["path"]).parent
    directory.mkdir()
    with (directory / ".making").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        module = start("uv_venv", arguments, environment=OFFLINE)
        with pytest.raises(subprocess.TimeoutExpired):
            module.wait(1.5)
        assert not Path(arguments["path"]).exists()
    assert finish(module)["version"] == "1.0"


def test_one_that_is_killed_is_finished_by_the_next(arguments, tmp_path):
    waits = tmp_path / "waits"
    waits.write_text(f'#!/bin/sh\n[ $1 = venv ] || exec sleep 60\nexec {arguments["uv"]} "$@"\n')
    waits.chmod(0o755)
    module = start("uv_venv", {**arguments, "uv": str(waits)}, environment=OFFLINE)
    while not (Path(arguments["path"]) / "bin" / "python").exists():
        time.sleep(0.05)
    module.kill()
    module.wait()
    assert made(arguments)["version"] == "1.0"


def test_another_lock_is_another_environment(arguments):
    made(arguments)
    with Path(arguments["lock"]).open("a") as handle:
        handle.write("# made again\n")
    assert made(arguments)["changed"]


def test_a_file_that_is_not_the_lock_s_is_refused_and_nothing_counts_as_made(arguments):
    lock = Path(arguments["lock"])
    lock.write_text(f"tiny-engine==1.0 --hash=sha256:{'0' * 64}\n")
    # Another index, which is away here, is not asked for it.
    done = made(arguments, fallback_index_urls=["http://127.0.0.1:9/"])
    assert done["failed"]
    assert "the index serves another file of tiny-engine==1.0 than the lock names (its sha256 is " in done["msg"]
    assert "If the lock is your own, make it again" in done["hint"]
    assert not (Path(arguments["path"]) / ".dsdeploy-venv.json").exists()


def test_a_lock_without_hashes_is_refused(arguments):
    Path(arguments["lock"]).write_text("tiny-engine==1.0\n")
    assert "is not a lock file: tiny-engine==1.0 has no hash" in made(arguments)["msg"]


def test_a_program_that_does_not_run_is_not_installed(arguments):
    done = made(arguments, help=["-m", "tiny_engines"])
    assert done["failed"]
    assert "No module named tiny_engines" in done["msg"]
    assert not (Path(arguments["path"]) / ".dsdeploy-venv.json").exists()


def test_a_python_that_is_nowhere_is_said_with_what_to_do(arguments):
    done = made(arguments, python="3.99")
    assert done["msg"].startswith("no Python 3.99 on this host, and none could be downloaded: ")
    assert "dsdeploy_mirrors.python_builds" in done["hint"]


def test_a_shim_that_does_not_run_is_no_interpreter(arguments, tmp_path):
    """As pyenv's: there, executable, and exits with 127."""
    shim = tmp_path / f"python{HOST_PYTHON}"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    done = run("uv_venv", arguments, environment={**OFFLINE, "PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done["base_interpreter"].startswith("/usr/bin/python3")


def test_a_probe_makes_nothing(arguments):
    assert made(arguments, probe=True)["changed"]
    assert not Path(arguments["path"]).exists()


def make_source(directory):
    """The same package as source, which builds itself out of a wheel inside it; returns the sha256 of its archive."""
    source = directory / "tiny_engine-1.0"
    source.mkdir()
    make_wheel(source)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "tiny-engine"\nversion = "1.0"\n'
    )
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tiny-engine\nVersion: 1.0\n")
    (source / "backend.py").write_text(
        "import shutil\n"
        "def build_wheel(directory, settings=None, metadata=None):\n"
        "    name = 'tiny_engine-1.0-py3-none-any.whl'\n"
        "    shutil.copy(name, directory)\n"
        "    return name\n"
    )
    path = directory / "tiny_engine-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(source, source.name)
    shutil.rmtree(source)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_source_is_built_only_where_the_lock_says_what_with(arguments, tmp_path):
    wheels = tmp_path / "wheels"
    (wheels / "tiny_engine-1.0-py3-none-any.whl").unlink()
    Path(arguments["lock"]).write_text(f"tiny-engine==1.0 --hash=sha256:{make_source(wheels)}\n")
    assert "no usable wheels" in made(arguments)["msg"]
    build = tmp_path / "1.0.build"
    build.write_text("")
    done = made(arguments, build_lock=str(build))
    assert (done["changed"], done["version"]) == (True, "1.0")


def test_a_password_of_an_index_is_in_no_command_line_and_no_answer(arguments, tmp_path):
    """uv is one that says all it was told, and refuses."""
    uv = tmp_path / "uv"
    told, environ = tmp_path / "told", tmp_path / "environ"
    uv.write_text(
        f'#!/bin/sh\necho "$@" >> {told}\nenv >> {environ}\ncase "$*" in *sync*) ;; *) exit 0;; esac\n'
        'echo "error: no $UV_DEFAULT_INDEX $UV_INDEX" >&2\nexit 2\n'
    )
    uv.chmod(0o755)
    more = {
        "uv": str(uv),
        "index_url": "https://me:planted%20one@index.example/simple",
        "fallback_index_urls": ["https://planted-two@other.example/simple"],
        "find_links": ["https://me:planted-three@links.example/"],
    }
    module = start("uv_venv", {**arguments, **more}, environment=OFFLINE)
    printed = module.communicate(timeout=60)[0]
    assert '"failed": true' in printed and "could not install" in printed
    for secret in ("planted%20one", "planted one", "planted-two", "planted-three"):
        assert secret not in printed and secret not in told.read_text()
    for secret in ("planted%20one", "planted-two", "planted-three"):
        assert secret in environ.read_text()


def test_what_the_index_said_is_not_hidden_by_the_one_that_was_tried_after_it(arguments, tmp_path):
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\ncase "$*" in *sync*) ;; *) exit 0;; esac\necho "error: ${UV_INDEX:-first}" >&2\nexit 2\n')
    uv.chmod(0o755)
    done = made(arguments, uv=str(uv), fallback_index_urls=["https://second.example/simple"])
    assert done["failed"] and "first; then: " in done["msg"] and "second.example" in done["msg"]
