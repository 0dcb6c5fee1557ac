# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy over several hosts: real processes with servers of their own on loopback, and a stand-in hub."""

import contextlib
import hashlib
import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import peer_rules, peer_server, swarm
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.chunk_journal import HEADER, PartFile
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.peer_server import Offered, PeerServer

ROOT = Path(__file__).resolve().parents[5]
sys.path.insert(0, str(ROOT / "tests/standins"))
import hub as standin  # noqa: E402
from loopback import free_port  # noqa: E402

MIB = 1024 * 1024
SIZES = {f"m-0000{number}-of-00006.gguf": 3 * MIB + number for number in range(1, 7)}
SIZES["config.json"] = 40
TOKEN = "only for this test"
RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.fetch import Fetch
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import peer_rules, swarm
told = json.loads(sys.stdin.read())
for name, value in told["seconds"].items():
    setattr(peer_rules, name, value)
swarm.POLL = 0.1
fetch = Fetch(told["entry"], told["models"], told["options"], lambda line: print("WARN", line, flush=True))
if told["give"]:
    fetch.give(fetch.state()[0])
else:
    fetch.run()
    print("FROM", fetch.transferred, fetch.swarm.from_peers, flush=True)
"""
SECONDS = {"GRACE": 8.0, "LOST": 10.0, "LINGER": 5.0}
# Where nobody dies: on a busy machine a host starts seconds after another.
PATIENT = dict(SECONDS, GRACE=20.0, LOST=20.0, LINGER=20.0)
# Where there is one host, which waits for none that could come.
ALONE = dict(SECONDS, GRACE=1.0, LOST=1.0, LINGER=0.2)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    (root / "o/m").mkdir(parents=True)
    source = random.Random(18)
    for name, size in SIZES.items():
        (root / "o/m" / name).write_bytes(b"GGUF" + source.randbytes(size - 4))
    return root


@pytest.fixture
def hub(content):
    with standin.served(content, large=1000) as hub:
        yield hub


class Fleet:
    """Hosts as processes."""

    def __init__(self, scratch, hub, content, count):
        self.scratch, self.hub, self.content = scratch, hub, content
        self.members = [
            {"name": f"gpu{number}", "address": "127.0.0.1", "port": free_port(), "seed": False}
            for number in range(1, count + 1)
        ]
        self.entry = {
            "name": "m",
            "format": "gguf",
            "sources": [{"kind": "huggingface", "id": "o/m"}],
        }
        self.running, self.seconds = {}, SECONDS
        self.files = {name: name for name in SIZES}  # what is compared in the end: at the hub, and on a host

    def models(self, name):
        return self.scratch / name

    def start(self, name, mirrors=None, give=False, **options):
        fleet = {"name": name, "token": TOKEN, "members": self.members}
        told = {
            "entry": self.entry,
            "models": str(self.models(name)),
            "give": give,
            "seconds": self.seconds,
            "options": dict(
                {"mirrors": {"huggingface": mirrors or [self.hub.url]}, "fleet": fleet, "retries": 0, "timeout": 10},
                **options,
            ),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(ROOT / ".collections")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        process.stdin.write(json.dumps(told))
        process.stdin.close()
        process.stdin = None
        self.running[name] = process

    def end(self, name, rc=0):
        """Its output, once it has ended well."""
        output, _nothing = self.running[name].communicate(timeout=120)
        assert self.running.pop(name).returncode == rc, output
        if not rc:
            directory = self.models(name) / "m/main"
            for file, name in self.files.items():
                found = hashlib.sha256((directory / name).read_bytes()).hexdigest()
                assert found == hashlib.sha256((self.content / "o/m" / file).read_bytes()).hexdigest(), file
            assert (directory / ".dsdeploy-manifest.json").exists()
        return output

    def from_hub(self, file):
        """How often a file was asked of the hub, by where the ranges begin."""
        return [one["range"] for one in self.hub.log if file in one["path"] and one["status"] in (200, 206)]


@pytest.fixture
def fleet(tmp_path, hub, content):
    fleets = []

    def make(count):
        fleets.append(Fleet(tmp_path, hub, content, count))
        return fleets[-1]

    yield make
    for one in fleets:
        for process in one.running.values():
            process.kill()
            process.wait()


def weights(files=SIZES):
    return [name for name in files if name.endswith(".gguf")]


def bytes_from_hub(hub):
    total = 0
    for one in hub.log:
        if ".gguf" in one["path"] and one["status"] == 206:
            start, end = one["range"].split("=")[1].split("-")
            total += int(end) - int(start) + 1
    return total


def test_a_model_comes_from_the_hub_once(fleet, hub):
    hosts = fleet(4)
    hosts.seconds = PATIENT
    for member in hosts.members:
        hosts.start(member["name"])
    outputs = [hosts.end(member["name"]) for member in hosts.members]
    assert not any("WARN" in line and "trusted" not in line for out in outputs for line in out.splitlines()), outputs
    assert bytes_from_hub(hub) == sum(SIZES[name] for name in weights())
    assert TOKEN not in json.dumps(hub.log)
    # Each took a part from the hub.
    assert all(int(out.split("FROM ")[1].split()[0]) > MIB for out in outputs), outputs


def serve(hosts, name, files, status=None):
    """A peer of this test's own, on a member's address; `files` (hash to path) are not what it says."""
    member = next(item for item in hosts.members if item["name"] == name)
    offered = Offered(slots=8)
    for key, path in files.items():
        offered.offer(key, str(path), path.stat().st_size)
    told = {"have": sorted(files), "fetches": False, "done": True, "load": 0, **(status or {})}
    server = PeerServer(member["address"], member["port"], TOKEN, offered, lambda: told, lambda *_heard: None)
    server.start()
    return server


def until_it_gives(member):
    """Wait for a member's server: who starts before it takes from the hub."""
    end = time.monotonic() + 30
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((member["address"], member["port"]), 5).close()
            return
        assert time.monotonic() < end
        time.sleep(0.05)


def hashes(content):
    return {name: hashlib.sha256((content / "o/m" / name).read_bytes()).hexdigest() for name in SIZES}


def test_who_has_the_model_gives_it_and_the_hub_is_not_asked_for_weights(fleet, hub):
    hosts = fleet(3)
    hosts.start("gpu1", fleet=None)
    hosts.running["gpu1"].wait(30)
    hosts.running.pop("gpu1")
    asked = bytes_from_hub(hub)
    hosts.seconds = PATIENT
    hosts.members[0]["seed"] = True
    hosts.start("gpu1", give=True)
    until_it_gives(hosts.members[0])
    hosts.start("gpu2")
    hosts.start("gpu3")
    for name in ("gpu1", "gpu2", "gpu3"):
        assert "WARN host" not in hosts.end(name)
    assert bytes_from_hub(hub) == asked == sum(SIZES[name] for name in weights())


def test_a_corrupt_peer_is_refused_by_name_and_the_model_comes_from_elsewhere(fleet, content, tmp_path):
    hosts = fleet(3)
    wrong = {}
    for name, key in hashes(content).items():
        wrong[key] = tmp_path / key
        data = bytearray((content / "o/m" / name).read_bytes())
        data[len(data) // 2] ^= 1
        wrong[key].write_bytes(data)
    server = serve(hosts, "gpu2", wrong)
    try:
        for name in ("gpu1", "gpu3"):
            hosts.start(name)
        for name in ("gpu1", "gpu3"):
            said = hosts.end(name)
            line = next(line for line in said.splitlines() if "gave another file" in line)
            assert line.startswith("WARN model m: host gpu2 gave another file: m-0000")
            assert "nothing more is taken from it" in line
            assert said.count("gave another file") == 1
    finally:
        server.stop()


def test_a_peer_that_says_it_has_a_file_and_gives_another_is_refused(fleet, content, tmp_path):
    hosts = fleet(2)
    hosts.seconds = ALONE
    short = tmp_path / "short"
    short.write_bytes(b"GGUF, but not all of it")
    server = serve(hosts, "gpu2", {key: short for key in hashes(content).values()})
    try:
        hosts.start("gpu1")
        said = hosts.end("gpu1")
    finally:
        server.stop()
    assert "WARN model m: host gpu2 does not give " in said
    assert "nothing more is taken from it" in said


def test_a_peer_that_has_not_what_it_says_keeps_nobody_waiting(fleet, content, hub):
    hosts = fleet(2)
    hosts.seconds = ALONE
    server = serve(hosts, "gpu2", {}, {"have": sorted(hashes(content).values())})
    try:
        hosts.start("gpu1")
        hosts.end("gpu1")
    finally:
        server.stop()
    assert bytes_from_hub(hub) == sum(SIZES[name] for name in weights())


def test_a_host_that_is_never_reached_is_named(fleet):
    """Else nobody would know why the hub gives the model to each of them."""
    hosts = fleet(2)
    hosts.seconds = ALONE
    hosts.start("gpu1")
    said = hosts.end("gpu1")
    where = f"http://127.0.0.1:{hosts.members[1]['port']}/status"
    assert f"WARN model m: host gpu2 was not reached, and nothing was shared with it: {where}" in said
    assert TOKEN not in said


@pytest.mark.parametrize("name", [".gpu1", "g" * 70])
def test_what_is_no_name_of_a_host_is_said_as_such(name):
    with pytest.raises(OSError, match="neither an address nor a name"):
        swarm._own_address(name)


class Redirecting(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, *_arguments):
        pass


@pytest.mark.parametrize("answer", [{"have": 5}, {"have": ["x"], "fetches": "perhaps"}, "redirect"])
def test_what_is_no_peer_is_not_asked_for_files(fleet, answer):
    hosts = fleet(2)
    hosts.seconds = ALONE
    if answer == "redirect":
        server = ThreadingHTTPServer(("127.0.0.1", hosts.members[1]["port"]), Redirecting)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stop = server.shutdown
    else:
        server = serve(hosts, "gpu2", {}, answer)
        stop = server.stop
    try:
        hosts.start("gpu1")
        said = hosts.end("gpu1")
    finally:
        stop()
        server.server_close()
    assert ("host gpu2 answers as none" in said) == (answer != "redirect")


def test_a_host_that_is_killed_is_done_without_and_goes_on_later(fleet, hub, content):
    hosts = fleet(3)
    for member in hosts.members:
        hosts.start(member["name"], limit=12 * MIB)
    time.sleep(0.8)
    hosts.running["gpu2"].send_signal(signal.SIGKILL)
    hosts.running.pop("gpu2").wait()
    for name in ("gpu1", "gpu3"):
        hosts.end(name)
    asked = bytes_from_hub(hub)
    # What it was fetching is fetched again, and no more.
    assert asked <= sum(SIZES[name] for name in weights()) + 4 * 4 * MIB
    hosts.seconds = PATIENT
    hosts.members = [dict(item, seed=item["name"] != "gpu2") for item in hosts.members]
    for name in ("gpu1", "gpu3"):
        hosts.start(name, give=True)
        until_it_gives(next(member for member in hosts.members if member["name"] == name))
    hosts.start("gpu2")
    for name in ("gpu1", "gpu3", "gpu2"):
        hosts.end(name)
    assert bytes_from_hub(hub) == asked


def test_a_host_without_a_way_to_the_hub_gets_all_from_the_others(fleet, content):
    hosts = fleet(2)
    known = hashes(content)
    hosts.entry["files"] = [{"path": name, "bytes": SIZES[name], "sha256": known[name]} for name in SIZES]
    hosts.start("gpu1")
    hosts.start("gpu2", mirrors=["http://127.0.0.1:1"])
    said = hosts.end("gpu2")
    hosts.end("gpu1")
    assert "source huggingface (127.0.0.1)" in said
    assert "FROM 0 " in said


@pytest.mark.parametrize("seed", [False, True])
def test_who_asks_first_and_has_not_said_what_it_has_is_waited_for(tmp_path, seed):
    members = [
        {"name": "gpu1", "address": "127.0.0.1", "port": 1, "seed": seed},
        {"name": "gpu2", "address": "127.0.0.1", "port": 2, "seed": False},
    ]
    told = {"name": "gpu2", "token": TOKEN, "members": members}
    one = swarm.Swarm(told, str(tmp_path), None, None, None, None)
    one._heard("gpu1", "done")
    looks = one._looks()
    assert not peer_rules.is_hopeless(["key"], looks, {})
    assert peer_rules.from_hub("gpu2", one.order, ["key"], ["key"], looks, {}, False) == []
    one.peers["gpu1"].have, one.peers["gpu1"].fetches, one.peers["gpu1"].listed = frozenset(["key"]), False, True
    assert not peer_rules.is_hopeless(["key"], one._looks(), {})
    assert peer_rules.is_hopeless(["other"], one._looks(), {})


def test_where_nobody_has_it_the_run_ends_and_says_why(fleet, content):
    hosts = fleet(2)
    known = hashes(content)
    hosts.entry["files"] = [{"path": name, "bytes": SIZES[name], "sha256": known[name]} for name in SIZES]
    for name in ("gpu1", "gpu2"):
        hosts.start(name, mirrors=["http://127.0.0.1:1"])
    for name in ("gpu1", "gpu2"):
        assert "peer: no other host has, or is about to fetch, 7 of its files" in hosts.end(name, rc=1)


# --- pieces of 1 MiB, of files that nobody has whole


def chunks(models):
    """How many chunks of files that are being made a host has."""
    return sum(len(path.read_bytes()[HEADER:].replace(b"\0", b"")) for path in models.rglob("*.journal"))


@pytest.fixture
def one(content):
    """A model in one file of 12 MiB; its path at the hub."""
    path = content / "o/one/one.gguf"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_bytes(b"GGUF" + random.Random(6).randbytes(12 * MIB - 4))
    return path


def fleet_of_one(fleet, count):
    hosts = fleet(count)
    hosts.entry["sources"][0]["id"], hosts.files = "o/one", {"../one/one.gguf": "one.gguf"}
    return hosts


def test_a_model_in_one_file_goes_on_while_it_comes_from_the_hub(fleet, hub, one):
    hosts = fleet_of_one(fleet, 3)
    hosts.seconds = PATIENT
    # The first is the owner, and begins once the others wait for it.
    for member in hosts.members[1:]:
        hosts.start(member["name"])
    for member in hosts.members[1:]:
        until_it_gives(member)
    hosts.start("gpu1", limit=3 * MIB)
    finals = {name: hosts.models(name) / "m/main/one.gguf" for name in hosts.running}
    early, deadline = set(), time.monotonic() + 60
    while not any(path.exists() for path in finals.values()):
        assert time.monotonic() < deadline
        early |= {name for name in finals if chunks(hosts.models(name))}
        time.sleep(0.02)
    outputs = [hosts.end(member["name"]) for member in hosts.members]
    assert early == set(finals), "only one host had something before the first had all"
    assert bytes_from_hub(hub) == one.stat().st_size
    assert not any("wrong" in said for said in outputs)


def test_pieces_that_are_wrong_are_found_and_the_file_is_taken_whole(fleet, hub, one, tmp_path):
    hosts = fleet_of_one(fleet, 3)
    key = hashlib.sha256(one.read_bytes()).hexdigest()
    wrong = PartFile(str(tmp_path / "part"), one.stat().st_size, key)
    wrong.mark(0, wrong.size)
    # It does not say that it has the file, so nobody can blame it for one.
    server = serve(hosts, "gpu3", {}, {"parts": {key: "fff"}})
    server.offered.grow(key, wrong)
    try:
        for name in ("gpu1", "gpu2"):
            hosts.start(name, limit=6 * MIB)
        outputs = {name: hosts.end(name) for name in ("gpu1", "gpu2")}
    finally:
        server.stop()
    said = "".join(outputs.values())
    assert "one.gguf, put together of pieces from gpu" in said
    assert "is wrong: it is taken whole" in said
    # Once, or by both hosts where both find it at the same moment.
    assert bytes_from_hub(hub) in (one.stat().st_size, 2 * one.stat().st_size)


def test_who_takes_pieces_of_a_host_that_dies_goes_on_from_the_hub(fleet, hub, one):
    hosts = fleet_of_one(fleet, 2)
    for name in ("gpu1", "gpu2"):
        hosts.start(name, limit=6 * MIB)
    # The first is the owner.
    deadline = time.monotonic() + 60
    while chunks(hosts.models("gpu2")) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    hosts.running["gpu1"].send_signal(signal.SIGKILL)
    hosts.running.pop("gpu1").wait()
    hosts.end("gpu2")
    # What it had of the other was not fetched again: the file comes no more than once and a part.
    assert bytes_from_hub(hub) < 2 * one.stat().st_size


# --- the server ---


@pytest.fixture
def server(tmp_path):
    offered = Offered(slots=1)
    (tmp_path / "file").write_bytes(bytes(range(256)) * 4)
    offered.offer("abc", str(tmp_path / "file"), 1024)
    server = PeerServer("127.0.0.1", 0, TOKEN, offered, lambda: {"have": ["abc"]}, lambda *_heard: None)
    server.start()
    yield server
    server.stop()


def ask(server, path, token=TOKEN, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.getheader("Content-Range")
    connection.close()
    return found


def test_a_connection_without_a_thread_takes_no_room_for_ever(server, monkeypatch):
    room = server._room._value

    def none(*_arguments, **_more):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("socketserver.threading.Thread", none)
        for _time in range(3):
            with pytest.raises((OSError, http.client.HTTPException)):
                ask(server, "/status")
    assert ask(server, "/status")[0] == 200
    assert server._room._value >= room - 1


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", "\udcff"[:0] + "é"])
@pytest.mark.parametrize("path", ["/status", "/file/abc", "/"])
def test_who_does_not_know_the_token_is_told_nothing(server, path, token):
    assert ask(server, path, token)[:2] == (403, b"")


@pytest.mark.parametrize(
    "path", ["/", "/file/", "/file/abd", "/file/../../etc/passwd", "/etc/passwd", "/file//etc/passwd"]
)
def test_nothing_but_what_is_offered_can_be_asked_for(server, path):
    assert ask(server, path)[:2] == (404, b"")


def test_ranges(server):
    whole = bytes(range(256)) * 4
    assert ask(server, "/file/abc") == (200, whole, None)
    assert ask(server, "/file/abc", Range="bytes=3-9") == (206, whole[3:10], "bytes 3-9/1024")
    for wrong in ("bytes=9-3", "bytes=0-1024", "bytes=-5", "bytes=0-", "lines=1-2"):
        assert ask(server, "/file/abc", Range=wrong)[0] == 416


def test_of_a_file_that_grows_only_what_is_there_is_given(server, tmp_path):
    part = PartFile(str(tmp_path / "part"), 3 * MIB + 5, "it")
    part.write(memoryview(b"x" * MIB), MIB)
    part.mark(MIB, 2 * MIB)
    server.offered.grow("it", part)
    assert server.offered.growing(lambda _size: 1) == {"it": 0b0010}
    assert ask(server, "/file/it")[0] == 404, "it is not verified"
    inside = {"Range": f"bytes={MIB}-{MIB + 9}"}
    assert ask(server, "/piece/it", **inside) == (206, b"x" * 10, f"bytes {MIB}-{MIB + 9}/{3 * MIB + 5}")
    for wrong in (f"bytes={MIB - 1}-{MIB}", f"bytes={2 * MIB - 1}-{2 * MIB}", f"bytes={3 * MIB}-{3 * MIB + 4}"):
        assert ask(server, "/piece/it", Range=wrong)[0] == 404
    assert ask(server, "/piece/it")[0] == 416
    assert ask(server, "/piece/none", **inside)[0] == 404
    # Its descriptor may be another file's by now.
    part.close()
    assert ask(server, "/piece/it", **inside)[1] == b"x" * 10
    server.offered.withdraw("it")
    assert ask(server, "/piece/it", **inside)[0] == 404
    assert ask(server, "/piece/abc", Range="bytes=3-9")[1] == bytes(range(3, 10)), "a verified one is given, too"


def test_a_file_that_was_replaced_by_a_link_or_has_another_size_is_not_given(server, tmp_path):
    (tmp_path / "file").write_bytes(b"short")
    assert ask(server, "/file/abc")[0] == 404
    (tmp_path / "file").unlink()
    (tmp_path / "file").symlink_to("/etc/passwd")
    status, body = ask_raw(server)
    assert b"root:" not in body
    assert status in (None, 404)


def ask_raw(server):
    try:
        return ask(server, "/file/abc")[:2]
    except (http.client.HTTPException, OSError):
        return None, b""


def test_slots_are_kept_for_whole_files():
    now = [0.0]
    offered = Offered(slots=2, clock=lambda: now[0])
    assert offered.begin("a", "x")
    assert offered.begin("a", "x")
    assert offered.begin("b", "x")
    assert not offered.begin("c", "x")
    offered.end("b", "x", 5)
    assert not offered.begin("c", "x")
    assert offered.begin("b", "x")
    offered.end("b", "x", 5)
    now[0] = 2 * peer_server.KEPT
    assert offered.begin("c", "x")
    assert offered.load() == 2
