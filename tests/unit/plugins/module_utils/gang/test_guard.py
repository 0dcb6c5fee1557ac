# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard of a gang's ranks: real processes on addresses of loopback, each started anew as a service manager would.

The engine is a stand-in that notes its start and runs until it is ended, with a worker that would outlive it: as the
real ones do, which do not notice that another rank is gone.
"""

import errno
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gang import guard
from processes import lives

ENGINE = """
import os, subprocess, sys, time
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
worker = subprocess.Popen([sys.executable, "-c", deaf])
with open(sys.argv[1], "a") as notes:
    notes.write("%d %d\\n" % (os.getpid(), worker.pid))
time.sleep(600)
"""
PATIENCE = 60.0  # s; a busy machine


def until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Rank:
    """One host: `up` starts its service; one that has ended is started anew by `keep`."""

    def __init__(self, folder, rank, port, size, key="a-key"):
        self.notes = folder / f"engine-{rank}"
        self.rank, self.key, self.process, self.wanted = rank, key, None, False
        own = f"127.0.0.{rank + 1}"
        self.command = [sys.executable, guard.__file__, "--rank", str(rank), "--size", str(size), "--head", "127.0.0.1"]
        self.command += [
            "--own",
            own,
            "--port",
            str(port),
            "--key-variable",
            "THE_KEY",
            "--beat",
            "0.05",
            "--lost",
            "5",  # a busy machine stands still for a while
        ]
        self.command += ["--retry", "0.05", "--", sys.executable, "-c", ENGINE, str(self.notes)]

    def up(self):
        self.wanted = True
        environment = dict(os.environ, THE_KEY=self.key)
        self.process = subprocess.Popen(self.command, env=environment, stdout=subprocess.DEVNULL)

    def keep(self):
        if self.wanted and self.process.poll() is not None:
            self.up()

    def down(self):
        self.wanted = False
        if self.process:
            self.process.terminate()
            self.process.wait(PATIENCE)

    def starts(self):
        """(engine, its worker) of each start."""
        text = self.notes.read_text(encoding="utf-8") if self.notes.exists() else ""
        return [tuple(int(word) for word in line.split()) for line in text.splitlines() if len(line.split()) == 2]


class Gang:
    def __init__(self, folder, size=3):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.ranks = [Rank(folder, rank, port, size) for rank in range(size)]

    def keep(self):
        for rank in self.ranks:
            rank.keep()

    def count(self):
        return [len(rank.starts()) for rank in self.ranks]

    def runs(self, times):
        """Whether each rank's engine was started so often, and the last one runs."""
        self.keep()
        return self.count() == [times] * len(self.ranks) and all(lives(rank.starts()[-1][0]) for rank in self.ranks)


@pytest.fixture
def gang(tmp_path):
    found = Gang(tmp_path)
    yield found
    for rank in found.ranks:
        rank.down()


def test_no_engine_starts_before_all_ranks_are_there_and_all_end_with_their_services(gang):
    first, second, third = gang.ranks
    second.up()
    first.up()
    time.sleep(0.5)
    assert gang.count() == [0, 0, 0]
    third.up()
    until(lambda: gang.runs(1), "they do not start")
    started = [pid for rank in gang.ranks for pid in rank.starts()[-1]]
    first.down()
    assert first.process.returncode == 0
    for rank in (second, third):
        rank.down()
    assert not [pid for pid in started if lives(pid)]


@pytest.mark.parametrize("victim", [0, 1, 2])
@pytest.mark.parametrize("what", ["engine", "guard"])
def test_a_rank_that_dies_takes_all_with_it_and_all_start_anew(gang, victim, what):
    for rank in gang.ranks:
        rank.up()
    until(lambda: gang.runs(1), "they do not start")
    before = [pid for rank in gang.ranks for pid in rank.starts()[-1]]
    # Of a guard that is killed the service manager ends what it has started.
    dead = gang.ranks[victim]
    targets = [dead.starts()[-1][0]] if what == "engine" else [dead.process.pid, *dead.starts()[-1]]
    for pid in targets:
        os.kill(pid, signal.SIGKILL)
    until(lambda: gang.runs(2), "they do not start anew")
    assert not [pid for pid in before if lives(pid)], "an old rank lives beside new ones"


def test_an_engine_does_not_outlive_a_guard_that_alone_is_killed(gang):
    """As under a service manager that ends nothing else: it would hold the port that the next one wants."""
    for rank in gang.ranks:
        rank.up()
    until(lambda: gang.runs(1), "they do not start")
    dead = gang.ranks[1]
    engine, worker = dead.starts()[-1]
    os.kill(dead.process.pid, signal.SIGKILL)
    try:
        until(lambda: not lives(engine), "its engine goes on")
    finally:
        os.kill(worker, signal.SIGKILL)  # as the real ones are ended by their engine
    until(lambda: gang.runs(2), "they do not start anew")


def test_without_the_first_rank_the_others_stop_and_wait(gang):
    for rank in gang.ranks:
        rank.up()
    until(lambda: gang.runs(1), "they do not start")
    gang.ranks[0].down()
    others = [rank.starts()[-1][0] for rank in gang.ranks[1:]]

    def stopped():
        gang.keep()
        return not any(lives(pid) for pid in others)

    until(stopped, "the others go on without the first rank")
    time.sleep(0.3)
    gang.keep()
    assert gang.count() == [1, 1, 1]
    gang.ranks[0].up()
    until(lambda: gang.runs(2), "they do not come back with it")


def test_a_host_that_falls_silent_counts_as_gone(gang):
    for rank in gang.ranks:
        rank.up()
    until(lambda: gang.runs(1), "they do not start")
    silent = gang.ranks[2]
    engine = silent.starts()[-1][0]
    os.kill(silent.process.pid, signal.SIGSTOP)
    until(lambda: gang.keep() or not lives(gang.ranks[0].starts()[-1][0]), "the first rank does not notice")
    os.kill(silent.process.pid, signal.SIGCONT)
    until(lambda: gang.runs(2), "they do not start anew")
    assert not lives(engine)


def connected(port):
    """A connection to a port of this machine, as soon as there is somebody."""
    end = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 5)
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_who_does_not_know_the_key_is_no_rank(gang):
    gang.ranks[2].key = "another"
    for rank in gang.ranks:
        rank.up()
    time.sleep(0.7)
    gang.keep()
    assert gang.count() == [0, 0, 0]
    with connected(int(gang.ranks[0].command[11])) as channel:
        said = channel.recv(300)
        assert said.startswith(b"gang 3 ") and b"a-key" not in said
        channel.sendall(b"rank 2 " + b"0" * 64 + b" 1\n")
        channel.settimeout(5)
        assert channel.recv(300) == b""


def test_what_is_no_guard_at_the_first_ranks_address_does_not_keep_a_rank_from_coming(gang):
    with socket.create_server(("127.0.0.1", int(gang.ranks[0].command[11]))) as stranger:
        gang.ranks[1].up()
        stranger.settimeout(PATIENCE)
        channel, _address = stranger.accept()
        with channel:
            channel.sendall(b"gang 3 0123\n")
            assert channel.recv(300).startswith(b"rank 1 ")
            channel.sendall(b"head \xff\xfe\n")
            # It goes on its own account, and comes again.
            channel.settimeout(PATIENCE)
            assert channel.recv(300) == b""
        again, _address = stranger.accept()
        again.close()
    for rank in (gang.ranks[0], gang.ranks[2]):
        rank.up()
    until(lambda: gang.runs(1), "the rank does not come any more")


def test_a_connection_that_cannot_be_taken_is_not_the_last_one(capsys):
    options = types.SimpleNamespace(own="127.0.0.1", port=0, size=2, lost=5.0, beat=0.05)
    head, taken = guard.Head(options, b"a-key"), queue.Queue()
    with head.server as server:
        errors = iter([OSError(errno.EMFILE, "Too many open files")])

        def accept():
            for error in errors:
                raise error
            return taken.get()

        head.server = types.SimpleNamespace(accept=accept)
        threading.Thread(target=head._accept, daemon=True).start()
        with socket.create_connection(server.getsockname(), PATIENCE) as channel:
            taken.put(server.accept())
            assert channel.recv(300).startswith(b"gang 2 ")
    assert "a connection was not taken: [Errno 24] Too many open files" in capsys.readouterr().out


def test_who_comes_anew_ends_the_connection_before_at_once():
    """Whoever held it hears of it now, not only once it has been silent for too long."""
    options = types.SimpleNamespace(own="127.0.0.1", port=0, size=2, lost=600.0, beat=0.05)
    head = guard.Head(options, b"a-key")
    with head.server:
        threading.Thread(target=head._accept, daemon=True).start()
        lines = []
        for _time in range(2):
            lines.append(guard.Line(socket.create_connection(head.server.getsockname(), PATIENCE)))
            number = lines[-1].hear(PATIENCE)[2]
            lines[-1].say("rank", 1, guard.proof(b"a-key", "member", 1, number), "0")
            assert lines[-1].hear(PATIENCE)[0] == "head"
            assert lines[-1].hear(PATIENCE) == ["wait"]
        # It waits for a word of the first one, and hears its end instead.
        with pytest.raises(OSError, match="ended"):
            lines[0].hear(PATIENCE)
        lines[1].say("beat")
        assert lines[1].hear(PATIENCE) == ["wait"]
        for line in lines:
            line.close()


def test_who_comes_while_the_engine_ends_waits_for_the_next_first_rank():
    options = types.SimpleNamespace(own="127.0.0.1", port=0, size=2, lost=600.0, beat=0.05)
    head = guard.Head(options, b"a-key")
    head.going, head.lost = True, "rank 1 is gone"
    with head.server:
        threading.Thread(target=head._accept, daemon=True).start()
        line = guard.Line(socket.create_connection(head.server.getsockname(), PATIENCE))
        number = line.hear(PATIENCE)[2]
        line.say("rank", 1, guard.proof(b"a-key", "member", 1, number), "0")
        assert line.hear(PATIENCE)[0] == "head"
        assert line.hear(PATIENCE) == ["wait"]
        line.close()


# The guard, of which whatever waits for an Event is hit by the signal while it holds that one's lock.
WORST = """
import os, runpy, signal, sys, threading
class Wait(threading.Event):
    def wait(self, timeout=None):
        if timeout is not None:  # else it is a thread's own
            with self._cond:
                signal.raise_signal(signal.SIGTERM)
        return super().wait(timeout)
threading.Event = Wait
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def listens_to(pid, number):
    """Whether a process handles a signal by itself: proc(5), SigCgt."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    return bool(int(text.split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1)


def lone(*command, before=None, **more):
    """A first rank that waits for another."""
    words = [sys.executable, *(["-c", before] if before else []), guard.__file__, "--rank", "0", "--size", "2"]
    words += ["--head", "127.0.0.1", "--own", "127.0.0.1", "--port", "0", "--key-variable", "THE_KEY", "--"]
    return subprocess.Popen([*words, *command], env=dict(os.environ, THE_KEY="a-key"), **more)


def test_a_stop_is_heard_at_whatever_moment_it_comes():
    """Also while what waits for it holds its lock: a handler that took the same one would wait for ever."""
    process = lone("true", before=WORST, stdout=subprocess.DEVNULL)
    try:
        until(lambda: listens_to(process.pid, signal.SIGTERM), "it does not listen to a stop")
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()


def test_the_first_rank_says_whom_it_waits_for(capfd):
    """Else an `up` that waits for a host whose service does not start shows nothing."""
    options = types.SimpleNamespace(own="127.0.0.1", port=0, size=3, lost=PATIENCE, beat=0.05)
    head, stopping, said = guard.Head(options, b"a-key"), guard.Stopping(), []

    def says(text):
        said.append(capfd.readouterr().out)
        return text in "".join(said)

    with head.server:
        runs = threading.Thread(target=head.run, args=(guard.Engine(["true"]), stopping))
        runs.start()
        until(lambda: says("dsdeploy-gang: waiting for rank 1, 2\n"), "it waits for both")
        line = guard.Line(socket.create_connection(head.server.getsockname(), PATIENCE))
        number = line.hear(PATIENCE)[2]
        line.say("rank", 2, guard.proof(b"a-key", "member", 2, number), "0")
        until(lambda: says("dsdeploy-gang: waiting for rank 1\n"), "it waits for the other")
        stopping.ask()
        runs.join()
        line.close()


def test_an_engine_that_cannot_be_started_is_one_line(capfd):
    options = types.SimpleNamespace(own="127.0.0.1", port=0, size=1, lost=5.0, beat=0.05)
    head = guard.Head(options, b"a-key")
    with head.server:
        assert head.run(guard.Engine(["/no/such/engine"]), guard.Stopping()) == 1
    said = capfd.readouterr()
    assert said.out.endswith("dsdeploy-gang: /no/such/engine cannot be started: No such file or directory\n")
    assert "Traceback" not in said.err


def test_a_log_that_is_gone_does_not_keep_the_loss_of_a_rank_from_being_noticed(monkeypatch):
    options = types.SimpleNamespace(own="127.0.0.1", port=0, size=2, lost=5.0, beat=0.05)
    head = guard.Head(options, b"a-key")

    class Broken:
        def write(self, _text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Broken())
    with head.server:
        threading.Thread(target=head._accept, daemon=True).start()
        line = guard.Line(socket.create_connection(head.server.getsockname(), PATIENCE))
        number = line.hear(PATIENCE)[2]
        line.say("rank", 1, guard.proof(b"a-key", "member", 1, number), "0")
        until(lambda: head.there, "it does not come")
        head.going = True
        line.close()
        until(lambda: head.lost, "its loss is not noticed")


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, guard.__file__, "--rank", "0", "--size", "2", "--head", "127.0.0.1"]
            + ["--own", "127.0.0.1", "--port", str(port), "--key-variable", "THE_KEY", "--", "true"],
            env=dict(os.environ, THE_KEY="a-key"),
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"dsdeploy-gang: 127.0.0.1 port {port} cannot be taken: Address already in use\n"


def test_without_a_key_it_says_so():
    done = subprocess.run(
        [sys.executable, guard.__file__, "--rank", "0", "--size", "2", "--head", "127.0.0.1", "--own", "127.0.0.1"]
        + ["--port", "1", "--key-variable", "NO_SUCH_KEY", "--", "true"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "NO_SUCH_KEY is not set" in done.stdout
