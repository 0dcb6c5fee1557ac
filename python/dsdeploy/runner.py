"""One run of ansible-playbook through ansible-runner, as a stream of its events."""

from __future__ import annotations

import contextlib
import fcntl
import json
import locale
import os
import queue
import shlex
import shutil
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from dsdeploy.invocation import SSH_PROMPTS, Invocation

# How often (s) the stream yields while nothing happens, and ansible-runner looks whether to stop.
_TICK = 0.1
_CANCEL_LOOK = 0.5
# Module dsdeploy.playbook. `python -m` would import from the working directory before all else: whoever may write there
# (/tmp) would have his json.py run by us. So does `-c`, but for what is built into Python, and that takes it out.
_PLAYBOOK = "import sys; sys.path[:1] = sys.path[:1] if sys.path[0] else []; from dsdeploy.playbook import main; main()"


class Run:
    """Iterate to run: yields ansible-runner's events as they come, and None whenever `_TICK` passed without one.

    After the iteration `rc` is ansible-playbook's exit status (None when it was killed). What ansible-runner puts on
    disk lies in a fresh 0700 directory that is removed at the end, however the run ends.
    """

    def __init__(self, invocation: Invocation, passwords: Mapping[str, str]) -> None:
        self._invocation = invocation
        self._passwords = dict(passwords)
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._kill = threading.Event()
        self._gate, self._begun = threading.Lock(), False  # whether Ansible was started, or ever will be
        self._error: BaseException | None = None
        self._umask = 0o022
        self.rc: int | None = None

    def __iter__(self) -> Generator[dict[str, Any] | None, None, None]:
        remove_stale()
        # What ansible-runner writes is for nobody else; Ansible itself gets the user's own back (dsdeploy.playbook).
        self._umask = os.umask(0o077)
        try:
            with private_directory() as directory:
                thread = threading.Thread(target=self._work, args=(directory,), name="ansible-runner", daemon=True)
                thread.start()
                try:
                    yield from self._events()
                finally:
                    self._kill.set()  # after an ordinary end there is nothing left to kill
                    # On a busy machine the import of ansible-runner takes seconds: nobody waits for that to do nothing.
                    if not self._never_began():
                        thread.join()
        finally:
            os.umask(self._umask)
        if self._error:
            raise self._error

    def _events(self) -> Generator[dict[str, Any] | None, None, None]:
        while not (self._kill.is_set() and self._never_began()):
            try:
                event = self._queue.get(timeout=_TICK)
            except queue.Empty:
                yield None
                continue
            if event is None:
                return
            yield event

    def interrupt(self, ansible_pid: int | None) -> None:
        """Ctrl-C for Ansible, which runs in a session of its own: it passes it on to its workers and ends. Before its
        first event (`ansible_pid` None) it is killed, as it has touched no host."""
        try:
            if ansible_pid is not None:
                os.killpg(os.getpgid(ansible_pid), signal.SIGINT)
                return
        except ProcessLookupError:
            pass
        self.kill()

    def kill(self, ansible_pid: int | None = None) -> None:
        """With its process known, at once; else as soon as ansible-runner looks."""
        self._kill.set()
        if ansible_pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(os.getpgid(ansible_pid), signal.SIGKILL)

    def _begin(self) -> bool:
        """Whether Ansible is to be started: not any more where it was killed meanwhile."""
        with self._gate:
            self._begun = not self._kill.is_set()
            return self._begun

    def _never_began(self) -> bool:
        """Whether it was killed before Ansible was started; then it is not started any more."""
        with self._gate:
            return not self._begun and not self._error

    def _work(self, directory: str) -> None:
        try:
            self._run(directory)
        except BaseException as error:  # handed to the iterating thread
            self._error = error
        finally:
            self._queue.put(None)

    def _run(self, directory: str) -> None:
        import ansible_runner  # type: ignore[import-untyped]

        if not self._begin():
            return
        invocation = self._invocation
        extra_vars = Path(directory, "extra_vars.json")
        extra_vars.touch(mode=0o600)
        extra_vars.write_text(json.dumps(_untemplated(invocation.extra_vars)), encoding="utf-8")
        first = ("--extra-vars", f"@{extra_vars}") if invocation.extra_vars else ()
        # It takes settings from a file alone: without one it also forgets those that it was given.
        settings = Path(directory, "env", "settings")
        settings.parent.mkdir(mode=0o700)
        settings.write_text(
            json.dumps({"pexpect_timeout": _CANCEL_LOOK, "suppress_output_file": True}), encoding="utf-8"
        )
        run = ansible_runner.run(
            private_data_dir=directory,
            # The working directory stays the user's: their ansible.cfg and relative paths mean what they should.
            project_dir=os.getcwd(),
            # Not `ansible-playbook` from the PATH: the one installed beside this package.
            binary=sys.executable,
            cmdline=shlex.join(["-c", _PLAYBOOK, *first, *invocation.argv, str(invocation.playbook)]),
            envvars={**invocation.environment, **_locale(), "DSDEPLOY_UMASK": f"{self._umask:o}"},
            passwords={**self._passwords, **dict(SSH_PROMPTS)},
            suppress_env_files=True,
            fact_cache_type="memory",
            quiet=True,
            event_handler=self._on_event,
            cancel_callback=self._kill.is_set,
        )
        self.rc = None if run.status == "canceled" else run.rc

    def _on_event(self, event: dict[str, Any]) -> bool:
        if self._kill.is_set() and is_of_ansible(event):
            self.kill(event.get("pid"))  # it began in the moment in which it was to be killed
        self._queue.put(event)
        return False  # keeps the event off the disk


def is_of_ansible(event: Mapping[str, Any]) -> bool:
    """Whether `pid` of an event is Ansible's own."""
    return str(event["event"]).startswith(("runner_", "playbook_"))


_PREFIX, _LOCK = "dsdeploy-", "lock"


@contextlib.contextmanager
def private_directory(place: str | None = None) -> Iterator[str]:
    """A directory of this process alone, below `place` or where temporary files are. What is left of it where the
    process was killed, the next run removes."""
    directory = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
    lock = _locked(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _locked(directory: str) -> int:
    """The descriptor of a lock in `directory` that is held for as long as this process lives, however it ends."""
    new = os.path.join(directory, f"{_LOCK}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    # Never seen unlocked: remove_stale() of another run may look at any moment.
    os.rename(new, os.path.join(directory, _LOCK))
    return descriptor


def remove_stale() -> None:
    """Removes what runs of ours left behind that were killed: they hold command lines and environments."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = directory.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            descriptor = os.open(directory / _LOCK, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: it still runs
                shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(descriptor)


def _untemplated(value: Any) -> Any:
    """`value` with its strings marked for Ansible's loader: braces in a question are text, not a template."""
    if isinstance(value, str):
        return {"__ansible_unsafe": value}
    if isinstance(value, list):
        return [_untemplated(item) for item in value]
    if isinstance(value, dict):
        return {key: _untemplated(item) for key, item in value.items()}
    return value


def _locale() -> dict[str, str]:
    """Ansible refuses to start in a locale that is not UTF-8, or that the machine has not got (common over SSH)."""
    try:
        locale.setlocale(locale.LC_ALL, "")
        usable = (locale.getlocale()[1] or "").lower() in ("utf-8", "utf8")
    except (locale.Error, ValueError):
        usable = False
    return {} if usable else {"LC_ALL": "C.UTF-8"}
