"""The launcher ./dsdeploy, with a stand-in Python that makes its venv and "installs" without a network."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

LAUNCHER = Path(__file__).resolve().parents[3] / "dsdeploy"

# Stand-in: answers `-c` and a script on stdin with the real one; `-m venv DIR` makes a DIR whose Python is this script
# again, a pip there waits as long as $PIP_SECONDS says and takes Ctrl-C as the real one does, and bin/dsdeploy there
# prints its arguments. $VENV_SECONDS: how long the making of DIR takes.
PYTHON = r"""#!/bin/bash
real={real} isolated=()
[ "$1" != -I ] || {{ isolated=(-I); shift; }}
case "$1 $2" in
    "-m venv")
        made="${{@: -1}}"
        mkdir -p "$made/bin" "$made/lib/python3.99/site-packages"
        ln -s "$(type -p "$0")" "$made/bin/python"
        echo venv >>"$LAUNCHER_LOG"
        [ -z "$VENV_SECONDS" ] || exec sleep "$VENV_SECONDS";;
    */__pip-runner__.py\ install | *.whl/pip\ install)
        echo pip >>"$LAUNCHER_LOG"
        trap 'kill $!; echo "ERROR: Operation cancelled by user" >&2; exit 1' INT
        trap 'kill $!; exit 1' TERM
        sleep "${{PIP_SECONDS:-0}}" & wait $!
        {{ echo "$*"; cat "${{@: -1}}"; }} >>"$LAUNCHER_LOG.pip-$$"
        [ -z "$PIP_FAILS" ] || {{ echo "pip: no index" >&2; exit 1; }};;
    */bin/dsdeploy*)
        shift
        echo "${{PYTHONDONTWRITEBYTECODE-compiles}}" >>"$LAUNCHER_LOG.bytecode"
        echo dsdeploy "$@";;
    *) exec "$real" "${{isolated[@]}}" "$@";;
esac
"""

LOCK = """# a comment
ansible-core==2.17.14 ; python_full_version < '3.11' \\
    --hash=sha256:0
ansible-core==2.19.14 ; python_full_version >= '3.11' \\
    --hash=sha256:1
    # via ansible-runner
ansible-runner==2.4.3 \\
    --hash=sha256:2 \\
    --hash=sha256:3
click==8.1 \\
    --hash=sha256:4
"""


class Checkout:
    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "a clone 模型"
        self.root.mkdir()
        shutil.copy2(LAUNCHER, self.root)
        self.lock = self.root / "python" / "requirements.lock"
        self.lock.parent.mkdir()
        self.lock.write_text(LOCK)
        self.python = tmp_path / "python3"
        self.python.symlink_to("python3.98")
        self.python.write_text(PYTHON.format(real=sys.executable))
        self.python.chmod(0o755)
        self.log = tmp_path / "log"
        self.log.touch()
        path = f"{tmp_path}:{os.environ['PATH']}"  # the stand-in is its python3
        self.environ = {**os.environ, "PATH": path, "LAUNCHER_LOG": str(self.log)}
        self.environ.pop("DSDEPLOY_PYTHON", None)
        self.cwd = Path("/")

    def start(self, *args: str, program: Path | None = None, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(program or self.root / "dsdeploy"), *args],
            env={**self.environ, **environ},
            cwd=self.cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *args: str, program: Path | None = None, **environ: str) -> tuple[int, str, str]:
        process = self.start(*args, program=program, **environ)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def steps(self) -> list[str]:
        return self.log.read_text().split()

    def wait_for_pip(self) -> None:
        self.wait_for("pip", 2)

    def wait_for(self, step: str, times: int) -> None:
        deadline = time.monotonic() + 60
        while self.steps().count(step) < times:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def clone(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_first_run_sets_up_and_says_so_on_stderr(clone: Checkout) -> None:
    code, out, err = clone.run("up", "a b", "--json")
    assert (code, out) == (0, "dsdeploy up a b --json\n")
    assert "setting up" in err
    assert clone.steps() == ["venv", "pip", "pip"]


def test_two_pips_install_the_lock_and_nothing_else(clone: Checkout) -> None:
    clone.run()
    pips = [path.read_text().partition("\n") for path in clone.log.parent.glob("log.pip-*")]
    assert len(pips) == 2
    for command, _end, _part in pips:
        # Python's own pip, or that which comes with it: none is installed first.
        assert command.split()[0].endswith(("/pip/__pip-runner__.py", ".whl/pip"))
        for option in ("--require-hashes", "--only-binary :all:", "--no-deps", "--requirement /dev/fd/"):
            assert option in command
    largest, others = LOCK.partition("\n")[2].split("ansible-runner==")
    assert sorted(part for _command, _end, part in pips) == [largest, f"ansible-runner=={others}"]
    site = clone.root / ".venv" / "lib" / "python3.99" / "site-packages"
    way = (site / "dsdeploy.pth").read_text()
    assert way.isascii() and (site / way.strip()).resolve() == clone.root / "python"


@pytest.mark.parametrize("which", ["own", "bundled"])
def test_the_pip_that_is_taken_installs_into_an_environment_without_one(tmp_path: Path, which: str) -> None:
    """The real one. A distribution's that is without the packages it needs is not taken."""
    text = LAUNCHER.read_text()
    script = re.search(r"find_pip\(\) \{\n.*?<<'PY'\n(.*?)^PY$", text, re.M | re.S)[1]
    beside = tmp_path / "site"
    (beside / "pip/_vendor").mkdir(parents=True)
    (beside / "pip/__init__.py").touch()
    (beside / "pip/__pip-runner__.py").touch()
    (beside / "pip/_vendor/__init__.py").write_text("DEBUNDLED = True\n")
    environment = {**os.environ, "PYTHONPATH": "" if which == "own" else str(beside)}
    found = subprocess.run(
        [sys.executable, "-"], input=script, env=environment, check=True, capture_output=True, text=True
    )
    pip = found.stdout.strip()
    assert pip.endswith("/pip/__pip-runner__.py" if which == "own" else ".whl/pip")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    said = subprocess.run([python, pip, "list", "--format=json"], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "[]"


def test_the_lock_is_of_what_the_package_requires() -> None:
    """Every requirement of pyproject.toml, in its range, for each Python; nothing without a hash, no index in it."""
    text = (LAUNCHER.parent / "python" / "requirements.lock").read_text()
    entries = [entry for entry in text.replace("\\\n", " ").splitlines() if entry.strip() and entry[0] != "#"]
    assert all("--hash=sha256:" in entry and "==" in entry for entry in entries)
    assert "://" not in text
    pinned = [Requirement(entry.partition(" --hash")[0].strip()) for entry in entries]
    project = (LAUNCHER.parent / "pyproject.toml").read_text()
    wanted = re.findall(r'"(.+)"', re.search(r"^dependencies = \[(.*?)^\]", project, re.M | re.S)[1])
    assert len(wanted) >= 5
    for python in ("3.10", "3.11", "3.12", "3.13"):
        environment = {"python_version": python, "python_full_version": f"{python}.1"}
        here = {pin.name: pin for pin in pinned if pin.marker is None or pin.marker.evaluate(environment)}
        for required in map(Requirement, wanted):
            version = str(here[required.name].specifier).removeprefix("==")
            assert required.specifier.contains(version), (python, required, version)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user may pass, as pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_nothing_in_the_working_directory_is_imported(clone: Checkout, tmp_path: Path) -> None:
    """Anybody may write into /tmp, where somebody may set the command up."""
    clone.cwd = tmp_path / "here"
    clone.cwd.mkdir()
    seen = tmp_path / "seen"
    for name in ("ensurepip", "venv", "glob", "os", "pip", "sysconfig"):
        (clone.cwd / f"{name}.py").write_text(f"open({str(seen)!r}, 'a').write(__name__ + ' ')\n")
    assert clone.run("--version")[:2] == (0, "dsdeploy --version\n")
    assert not seen.exists(), seen.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("venv", [None, 0o755, 0o700])
def test_checkout_of_root_used_by_another_user_is_one_line(public: Path, venv: int | None) -> None:
    clone = Checkout(public)
    if venv:
        clone.run()
        (clone.root / ".venv").chmod(venv)
        clone.lock.write_text("click==8.2 --hash=sha256:1\n")
    done = subprocess.run(
        [str(clone.root / "dsdeploy"), "status"],
        env=clone.environ, user=65534, group=65534, extra_groups=[], capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1 and "belongs to root" in done.stderr


def test_later_runs_only_start_the_command(clone: Checkout) -> None:
    clone.run()
    assert clone.run("status") == (0, "dsdeploy status\n", "")
    assert clone.steps() == ["venv", "pip", "pip"]


def test_what_was_compiled_once_is_kept_where_python_is_told_not_to(clone: Checkout) -> None:
    clone.run(PYTHONDONTWRITEBYTECODE="1")
    assert Path(f"{clone.log}.bytecode").read_text() == "compiles\n"


def test_it_starts_where_its_place_has_no_name_in_the_locale(clone: Checkout, tmp_path: Path) -> None:
    """The real Python with what was written for it: 3.11 reads that in the encoding of the locale."""
    clone.run()
    (clone.root / "python" / "told.py").write_text("print('started')\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    real = next((tmp_path / "venv" / "lib").glob("python3*/site-packages"))
    written = clone.root / ".venv" / "lib" / "python3.99" / "site-packages"
    # As deep in the checkout as there.
    moved = clone.root / "venv"
    (tmp_path / "venv").rename(moved)
    shutil.copy2(written / "dsdeploy.pth", moved / real.relative_to(tmp_path / "venv"))
    environ = {**clone.environ, "LC_ALL": "C"}
    for name in ("PYTHONUTF8", "PYTHONPATH"):
        environ.pop(name, None)
    command = [moved / "bin" / "python", "-c", "import told"]
    done = subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "started\n"), done.stderr


def test_through_a_link_from_elsewhere(clone: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(clone.root / "dsdeploy")
    assert clone.run("x", program=link)[:2] == (0, "dsdeploy x\n")
    assert (clone.root / ".venv" / "bin" / "dsdeploy").exists()


@pytest.mark.parametrize("change", ["requirements", "python", "place"])
def test_what_the_installation_depends_on_sets_up_anew(clone: Checkout, change: str) -> None:
    clone.run()
    if change == "requirements":
        clone.lock.write_text("click==8.2 --hash=sha256:1\n")
    elif change == "python":
        shutil.copy2(clone.python, clone.python.with_name("python3.99"))
        clone.python.unlink()
        clone.python.symlink_to("python3.99")
    else:
        clone.root = clone.root.rename(clone.root.with_name("moved"))
    assert clone.run()[0] == 0
    assert clone.steps() == ["venv", "pip", "pip"] * 2
    assert clone.run()[2] == ""


def test_set_up_that_was_killed_is_done_again(clone: Checkout) -> None:
    process = clone.start(PIP_SECONDS="30")
    clone.wait_for_pip()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (clone.root / ".venv" / "half").touch()
    assert clone.run("up")[:2] == (0, "dsdeploy up\n")
    assert clone.steps() == ["venv", "pip", "pip"] * 2
    assert not (clone.root / ".venv" / "half").exists()


# Ctrl-C of a terminal is for all its processes, of which pip says that it was cancelled; `timeout` and `kill` mean the
# launcher alone.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", ["venv", "pip"])
def test_set_up_that_is_stopped_says_so_and_leaves_nobody(clone: Checkout, step: str, number: signal.Signals) -> None:
    process = clone.start("up", VENV_SECONDS="3" if step == "venv" else "", PIP_SECONDS="35")
    clone.wait_for(step, 2 if step == "pip" else 1)
    began = time.monotonic()
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    out, err = process.communicate(timeout=120)  # to the end of all that write there
    assert time.monotonic() - began < 30
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == f"dsdeploy: stopped: {clone.root}/.venv is not complete, the next run makes it anew"
    assert "network" not in err
    assert clone.run("up")[:2] == (0, "dsdeploy up\n")
    assert clone.steps().count("venv") == 2


def test_second_one_waits_for_the_first(clone: Checkout) -> None:
    first = clone.start("one", PIP_SECONDS="2")
    clone.wait_for_pip()
    code, out, err = clone.run("two")
    assert (code, out) == (0, "dsdeploy two\n")
    assert "waiting" in err
    assert first.communicate(timeout=120)[0] == "dsdeploy one\n"
    assert clone.steps() == ["venv", "pip", "pip"]


def test_failed_installation_is_no_installation(clone: Checkout) -> None:
    code, out, err = clone.run(PIP_FAILS="1")
    assert (code, out) == (1, "")
    assert "pip: no index" in err
    assert "PIP_INDEX_URL" in err.splitlines()[-1]
    assert clone.run("up")[:2] == (0, "dsdeploy up\n")


def test_venv_of_someone_else_is_left_alone(clone: Checkout) -> None:
    theirs = clone.root / ".venv" / "bin"
    theirs.mkdir(parents=True)
    code, _out, err = clone.run()
    assert code == 1
    assert "was not made by this script" in err
    assert theirs.is_dir()
    (theirs / "dsdeploy").write_text("#!/bin/sh\necho theirs\n")
    (theirs / "dsdeploy").chmod(0o755)
    assert clone.run() == (0, "theirs\n", "")
    assert clone.steps() == []


def test_python_that_is_too_old(clone: Checkout, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    code, _out, err = clone.run(DSDEPLOY_PYTHON=str(old))
    assert code == 1
    assert f"DSDEPLOY_PYTHON={old} is not a Python 3.10 or newer" in err
    assert not (clone.root / ".venv").exists()
