"""What 50 streams see while something changes around them: every token once and in order, or an end that is told."""

import asyncio
import json
import time

import pytest
import stream_watcher
from _gateway import PORT, address, bearer, chat, connected, key_command, raw, request, status

testinfra_hosts = ["ssh://gateway-systemd"]
STREAMS, TOKENS, GAP = 50, 60, 0.1  # 6 s


def watched(host, key, meanwhile, streams=STREAMS, tokens=TOKENS):
    """What the streams saw, and what `meanwhile` gave, which is called while all are under way."""
    url = f"https://{address(host)}:{PORT}/sglang/v1/chat/completions"

    async def both():
        watching = asyncio.create_task(stream_watcher.watch(url, streams, tokens, GAP, key))
        await asyncio.sleep(1.5)
        given = await asyncio.get_running_loop().run_in_executor(None, meanwhile)
        return await watching, given

    return asyncio.run(both())


MASTER = """
import socket, sys
channel = socket.socket(socket.AF_UNIX)
channel.connect("/var/lib/dsdeploy/dsdeploy-gateway/master.sock")
channel.sendall((sys.argv[1] + "\\n").encode())
channel.shutdown(1)
print(b"".join(iter(lambda: channel.recv(65536), b"")).decode())
"""


def master(host, command):
    """An answer of HAProxy's master."""
    return host.check_output("sudo python3 -c %s %s", MASTER, command)


def replicas(host):
    """State and streams under way of each replica of the stand-in, as the newest worker sees them."""
    rows = [line.split(",") for line in master(host, "@1 show stat").splitlines() if line.startswith("sglang,")]
    return {row[1]: (row[17], int(row[4] or 0)) for row in rows if row[1] not in ("BACKEND", "FRONTEND")}


def test_nothing_happens_and_every_stream_is_whole_over_both_replicas(host, key):
    seen, under_way = watched(host, key, lambda: replicas(host))
    assert seen["whole"] == STREAMS, seen
    assert {name: count for name, (_state, count) in under_way.items()} == {"sglang": 25, "second": 25}


def test_a_key_is_revoked_and_its_streams_go_on_and_its_next_request_is_refused(host, key):
    made = key_command(host, "add", "goes", "--replace")
    assert made.returncode == 0, made.stderr
    goes = made.stdout.strip()
    # Taking it away takes Ansible's time: its streams are long enough.
    seen, (done, under_way) = watched(
        host, goes, lambda: (key_command(host, "revoke", "goes"), replicas(host)), tokens=300
    )
    assert done.returncode == 0, done.stderr
    assert sum(count for _state, count in under_way.values()) == STREAMS
    assert seen["whole"] == STREAMS, seen
    where = address(host)
    assert status(raw(where, request("GET", "/sglang/v1/models", bearer(goes)))) == 401


def test_a_new_certificate_is_taken_up_and_no_stream_ends(host, key):
    def renew():
        host.check_output(
            "cd /tmp && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 "
            "-subj /CN=new -keyout new.key -out new.crt 2>/dev/null && "
            "sudo sh -c 'cat new.crt new.key > /etc/dsdeploy/gateway/certificate.pem'"
        )
        master(host, "reload")
        time.sleep(2)
        return host.check_output(
            f"openssl s_client -connect 127.0.0.1:{PORT} </dev/null 2>/dev/null | openssl x509 -noout -subject"
        )

    seen, subject = watched(host, key, renew)
    assert seen["whole"] == STREAMS, seen
    assert "CN = new" in subject or "CN=new" in subject


def test_a_replica_is_drained_and_its_streams_end_whole_and_new_ones_go_to_the_other(host, key):
    def drain():
        master(host, "@1 set server sglang/second state drain")
        more = raw(address(host), request("POST", "/sglang/v1/chat/completions", bearer(key), body=chat()))
        return status(more), replicas(host)

    seen, (answered, under_way) = watched(host, key, drain)
    master(host, "@1 set server sglang/second state ready")
    assert seen["whole"] == STREAMS, seen
    assert answered == 200
    assert under_way["second"][0].startswith("DRAIN")
    assert under_way["second"][1] == 25


def test_a_replica_is_killed_and_its_streams_are_cut_and_the_others_go_on(host, key):
    def kill():
        host.check_output("sudo systemctl kill -s KILL standin-30001")
        more = raw(address(host), request("POST", "/sglang/v1/chat/completions", bearer(key), body=chat()))
        return status(more)

    seen, answered = watched(host, key, kill)
    again = "sudo systemd-run --unit standin-30001 -p LimitNOFILE=16000 python3 /srv/scripted_stream.py 30001"
    host.check_output(f"sudo systemctl reset-failed standin-30001; {again}")
    # None is told to be whole that is not.
    assert seen["whole"] == STREAMS // 2 and seen["cut"] == STREAMS // 2 and seen["wrong"] == 0, seen
    assert answered == 200


def test_a_client_that_leaves_ends_its_request_in_the_engine(host, key):
    with connected(address(host)) as channel:
        channel.sendall(request("POST", "/sglang/v1/chat/completions", bearer(key), body=chat(tokens=10_000, gap=0.1)))
        assert channel.recv(4096).startswith(b"HTTP/1.1 200")
        assert sum(count for _state, count in replicas(host).values()) == 1
    for _try in range(30):
        if sum(count for _state, count in replicas(host).values()) == 0:
            return
        time.sleep(0.2)
    pytest.fail(json.dumps(replicas(host)))


def test_a_key_s_streams_and_requests_are_limited_and_it_is_told_when_to_come_again(host):
    made = key_command(host, "add", "small", "--replace", "--streams", "3", "--requests-per-minute", "8")
    assert made.returncode == 0, made.stderr
    small = made.stdout.strip()
    url = f"https://{address(host)}:{PORT}/sglang/v1/chat/completions"
    seen = asyncio.run(stream_watcher.watch(url, 7, 20, GAP, small))
    assert seen["whole"] == 3 and seen["refused"] == {429: 4}, seen
    answers = [raw(address(host), request("GET", "/sglang/v1/models", bearer(small))) for _number in range(8)]
    # The four that were refused are not counted.
    assert [status(said) for said in answers] == [200] * 5 + [429] * 3
    assert b"retry-after: 8\r\n" in answers[-1].lower()
    assert b'"code":"rate_limit_exceeded"' in answers[-1]


def test_what_the_engine_has_no_room_for_waits_its_turn(host, key):
    # llama.cpp works on two at a time here: the third question waits in the gateway, and is answered.
    question = json.dumps({"messages": [{"role": "user", "content": "Count."}], "max_tokens": 8}).encode()

    async def several():
        loop = asyncio.get_running_loop()
        one = request("POST", "/v1/chat/completions", bearer(key), body=question)
        return await asyncio.gather(
            *(loop.run_in_executor(None, raw, address(host), one, 60.0) for _number in range(4))
        )

    assert [status(said) for said in asyncio.run(several())] == [200] * 4
