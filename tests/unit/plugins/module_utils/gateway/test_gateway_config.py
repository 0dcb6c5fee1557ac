"""What the gateway lets through: its configuration, its keys' maps, and how the runtime is brought to them."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import (
    apply,
    certificate,
    config,
    keyring,
    keys,
    paths,
    runtime,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

KEY = "sk-dsdeploy-of-the-tests"
SHA = hashlib.sha256(KEY.encode()).hexdigest()


def pool(engine: str = "vllm", **more: Any) -> dict[str, Any]:
    own = {"name": engine, "host": "127.0.0.1", "port": 8000}
    return {"engine": engine, "model": "r1", "health_path": "/health", "has_key": True, "replicas": [own], **more}


def want(**more: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(config.NUMBERS, 60)
    fixed = {
        "host": "0.0.0.0",
        "port": 8443,
        "exposed": False,
        "networks": [],
        "metrics_port": 8405,
        "names": [],
        "directory": "/etc/dsdeploy/gateway",
        "socket": "/var/lib/dsdeploy/dsdeploy-gateway/admin.sock",
        "engine": "vllm",
        "extra_paths": [],
        "pools": [pool()],
    }
    return {**fixed, **numbers, **more}


def test_it_is_on_loopback_unless_it_is_exposed_to_networks_that_are_named() -> None:
    assert re.findall(r"bind (\S+)", config.render(want())) == ["127.0.0.1:8443", "127.0.0.1:8405"]
    exposed = config.render(want(exposed=True, networks=["10.0.0.0/8"]))
    assert re.findall(r"bind (\S+)", exposed) == ["0.0.0.0:8443", "127.0.0.1:8405"]
    assert "tcp-request connection reject if !{ src 127.0.0.0/8 ::1 10.0.0.0/8 }" in exposed
    # The host asks itself on loopback, also where it listens on one address alone.
    for host, listens in (
        ("10.0.0.5", "10.0.0.5:8443 ssl,127.0.0.1:8443 ssl"),
        ("fd00::5", "[fd00::5]:8443 ssl,127.0.0.1:8443 ssl"),
        ("::1", "[::1]:8443 ssl,127.0.0.1:8443 ssl"),
        ("::", "[::]:8443 v4v6"),
        ("127.0.0.1", "127.0.0.1:8443 ssl"),
    ):
        one = config.render(want(exposed=True, networks=["10.0.0.0/8"], host=host))
        assert ",".join(re.findall(r"bind (\S+ (?:ssl|v4v6))", one)) == listens
    with pytest.raises(Failure, match="gateway_networks is empty"):
        config.render(want(exposed=True))
    with pytest.raises(Failure, match="0.0.0.0/0 lets every host in"):
        config.render(want(exposed=True, networks=["0.0.0.0/0"]))
    assert "0.0.0.0/0" in config.render(want(exposed=True, networks=["0.0.0.0/0"], open_to_all=True))


@pytest.mark.parametrize("engine", sorted(paths.ALLOWED))
def test_what_passes_is_a_list_of_exact_paths_and_what_is_not_in_it_is_404_before_a_key_is_looked_at(
    engine: str,
) -> None:
    text = config.render(want(engine=engine, pools=[pool(engine)]))
    passing = re.findall(r"set-var\(txn.pool\) str\(\w+\) if \{ method (\w+) \} \{ path -m str (\S+) \}", text)
    listed = set(paths.ALLOWED[engine])
    assert set(passing) == listed | {(method, f"/{engine}{path}") for method, path in listed}
    assert text.index("status 404") < text.index("keys.map")
    # Neither a prefix nor a pattern: `/v1/models/..` is another path.
    assert not re.search(r"path_(beg|reg|sub|dir|end)|path -m (beg|reg|sub)", text)


def test_a_request_is_refused_in_this_order_and_a_key_is_looked_up_by_its_hash_alone() -> None:
    text = config.render(want())
    steps = [
        'status 400 content-type application/json string "%s" if { req.fhdr_cnt(host) gt 1 } '
        "or { req.fhdr_cnt(content-length) gt 1 }",
        "if { req.fhdr_cnt(upgrade) gt 0 } or { req.hdrs -m len gt 16384 }",
        "if !{ var(txn.pool) -m found }",
        "if { req.fhdr_cnt(authorization) gt 1 } or { req.fhdr_cnt(x-api-key) gt 1 }",
        "set-var(txn.token) req.fhdr(authorization)",
        "set-var(txn.digest) var(txn.token),sha2(256),hex,lower if { var(txn.token) -m len gt 0 }",
        "unset-var(txn.token)",
        "set-var(txn.key) var(txn.digest),map_str(/etc/dsdeploy/gateway/keys.map,nobody)",
        "set-var(txn.key) str(nobody) if { var(txn.key) -m str dsdeploy } !{ src 127.0.0.0/8 ::1 }",
        "if { var(txn.key) -m str nobody }",
        "if { method POST } !{ req.fhdr(content-length) -m found }",
        "if { req.hdr_val(content-length) gt 62914560 }",
        "if { req.fhdr(transfer-encoding) -m found }",
        "http-request track-sc0 var(txn.key) table keys",
        "use_backend",
    ]
    malformed = config.error_body(400).replace('"', '\\"')
    places = [text.index(step % malformed if "%s" in step else step) for step in steps]
    assert places == sorted(places)
    # Nothing takes the token itself any further.
    assert text.count("var(txn.token)") == 5


def test_what_may_be_opened_is_a_list_too() -> None:
    text = config.render(want(extra_paths=["POST /v1/embeddings"]))
    assert "{ method POST } { path -m str /v1/embeddings }" in text
    assert "/v1/embeddings" not in config.render(want())
    for closed in ("POST /v1/load_lora_adapter", "GET /metrics", "POST /v1/embeddings/", "/v1/embeddings", ""):
        with pytest.raises(Failure, match="gateway_extra_paths"):
            paths.check_extra([closed])


def test_no_list_has_what_loads_changes_or_describes_a_server() -> None:
    passing = {path for listed in (*paths.ALLOWED.values(), *paths.MORE.values()) for _method, path in listed}
    assert not passing & set(
        "/api/pull /api/push /api/create /api/copy /api/delete /api/blobs /metrics /slots /props /tokenize /docs "
        "/openapi.json /v1/load_lora_adapter /flush_cache /server_info /collective_rpc /invocations /v1/stream".split()
    )


def test_the_configuration_holds_no_key_of_an_engine_and_takes_those_of_clients_off() -> None:
    text = config.render(want())
    assert 'set-header Authorization "Bearer %[str(vllm),map_str(/etc/dsdeploy/gateway/engines.map)]"' in text
    headers = re.search(r"del-header '(.+)' -m reg", text)
    assert headers
    gone = re.compile(headers.group(1))
    for header in ("authorization", "x-api-key", "x-forwarded-for", "x-request-id", "x-data-parallel-rank", "origin"):
        assert gone.match(header)
    for header in ("content-type", "content-length", "host", "accept"):
        assert not gone.match(header)


def test_only_the_engine_at_the_root_is_there_every_one_is_below_its_name() -> None:
    text = config.render(want(engine="vllm", pools=[pool("llama_cpp"), pool("vllm")]))
    assert "str(vllm) if { method GET } { path -m str /v1/models }" in text
    assert "str(llama_cpp) if { method GET } { path -m str /v1/models }" not in text
    assert "str(llama_cpp) if { method GET } { path -m str /llama_cpp/v1/models }" in text


def test_a_replica_gets_no_more_than_its_engine_works_on() -> None:
    replicas = [
        {"name": "one", "host": "127.0.0.1", "port": 1, "streams": 4},
        {"name": "two", "host": "::1", "port": 2, "tls": True, "own": True},
        {"name": "three", "host": "127.0.0.1", "port": 3, "streams": 999},
    ]
    text = config.render(want(pools=[pool(replicas=replicas)]))
    assert "server one 127.0.0.1:1 maxconn 4\n" in text
    assert "server two [::1]:2 ssl verify none maxconn 60\n" in text
    assert "server three 127.0.0.1:3 maxconn 60\n" in text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"networks": ["10.0.0.0/8", "intranet"]}, "'intranet' is not a network"),
        ({"host": "gpu1"}, "gateway_host: 'gpu1' is not an address"),
        ({"metrics_port": 8443}, "is gateway_port, too"),
        ({"queue_timeout": 0}, "gateway_queue_timeout: 0 is less than 1"),
        ({"names": ["a b"]}, "neither a host name nor an address"),
        ({"names": ["x,DNS:bank.example"]}, "neither a host name nor an address"),
    ],
)
def test_a_wrong_value_is_named(wrong: dict[str, Any], said: str) -> None:
    assert [line for line in config.problems(want(**wrong)) if said in line]


def test_every_error_is_one_that_clients_of_openai_read() -> None:
    text = config.render(want())
    for status in (400, 401, 403, 404, 411, 413, 429, 503, 504):
        assert f"status {status} content-type application/json" in text
    assert text.count('hdr Retry-After "5"') >= 3
    assert 'hdr Retry-After "%[int(60),div(txn.rate),add(1)]"' in text


# --- keys


def key(name: str, token: str = KEY, **limits: Any) -> keys.Key:
    return keys.make(name, hashlib.sha256(token.encode()).hexdigest(), "2026-11-27T00:00:00Z", limits)


def test_keys_are_kept_by_their_hash_and_come_back_as_they_were() -> None:
    made = [key("bob", "b", streams=2, requests_per_minute=5), key("alice", models=["r1", "r1"])]
    text = keys.dump(made)
    assert KEY not in text
    assert keys.parse(text) == sorted(made, key=lambda entry: str(entry["name"]))
    found = keys.maps(made, [pool("vllm"), pool("sglang", model="other"), pool("ollama")])
    assert found["keys.map"] == {SHA: "alice", hashlib.sha256(b"b").hexdigest(): "bob"}
    assert found["streams.map"] == {"bob": "2"}
    assert found["rates.map"] == {"bob": "5"}
    assert found["limited.map"] == {"alice": "1"}
    # Ollama answers with what the body names, which nobody looks at: a limited key has no way there.
    assert found["allowed.map"] == {"alice/vllm": "1"}


@pytest.mark.parametrize("name", ["", "a b", "-x", "a/b", "ä", "a\n", "x" * 64, "dsdeploy", "nobody", "#a", "a,b"])
def test_a_name_is_one_word_and_not_the_host_s_own(name: str) -> None:
    with pytest.raises(Failure):
        keys.check_name(name)


def test_the_hash_is_of_a_key() -> None:
    for wrong in ("", "abc", SHA.upper(), SHA + "0", SHA + "\n", keys.EMPTY):
        with pytest.raises(Failure, match="sha256") as told:
            keys.make("a", wrong, "", {})
        assert not wrong or wrong not in str(told.value)
    assert keys.EMPTY == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '[{"name": "a"}]',
        '[{"name": "a", "sha256": "SHA"}, {"name": "a", "sha256": "OTHER"}]',
        '[{"name": "a", "sha256": "SHA"}, {"name": "b", "sha256": "SHA"}]',
        '[{"name": "a", "sha256": "SHA", "streams": true}]',
        '[{"name": "a", "sha256": "SHA", "streams": 0}]',
        '[{"name": "a", "sha256": "SHA", "models": "r1"}]',
        '[{"name": "a b", "sha256": "SHA"}]',
        '[{"name": "a", "sha256": "EMPTY"}]',
    ],
)
def test_a_file_of_keys_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        keys.parse(text.replace("SHA", SHA).replace("OTHER", "0" * 64).replace("EMPTY", keys.EMPTY))


# --- the gateway that runs

PROC = """#<PID>          <type>          <reloads>       <uptime>        <version>
27036           master          5               0d00h08m00s     2.6.12-1+deb12u4
# workers
28123           worker          0               0d00h00m10s     2.6.12-1+deb12u4
# old workers
25985           worker          4               0d00h07m00s     2.6.12-1+deb12u4
# programs

"""


def test_the_master_tells_of_its_workers() -> None:
    assert runtime.workers_of(PROC) == [runtime.Worker(28123, False), runtime.Worker(25985, True)]
    assert runtime.version_of(PROC) == "2.6.12-1+deb12u4"
    assert runtime.workers_of("") == []


def test_a_map_that_runs_is_brought_to_what_it_is_to_be_and_what_goes_goes_first() -> None:
    running = runtime.map_of("0x55d0 aaa alice\n0x55d1 bbb bob\n0x55d2 ccc\n\n")
    assert running == {"aaa": "alice", "bbb": "bob", "ccc": ""}
    commands = runtime.map_commands("/k", running, {"aaa": "alice", "bbb": "bert", "ddd": "dora"})
    assert commands == ["del map /k ccc", "set map /k bbb bert", "add map /k ddd dora"]
    assert runtime.map_commands("/k", running, running) == []


def test_a_master_that_never_comes_to_an_end_is_not_waited_for(tmp_path, monkeypatch):
    """Its socket lies in the gateway's own directory: a gateway that was taken over could hold up root's runs."""
    monkeypatch.setattr(runtime, "TIMEOUT", 1.0)
    ended = threading.Event()

    def trickle(server):
        channel, _address = server.accept()
        with channel, contextlib.suppress(OSError):
            while not ended.wait(0.2):
                channel.sendall(b".")

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / runtime.MASTER))
        server.listen(1)
        thread = threading.Thread(target=trickle, args=(server,), daemon=True)
        thread.start()
        limit = threading.Timer(60.0, ended.set)
        limit.daemon = True
        limit.start()
        with pytest.raises(Failure, match="does not answer"):
            runtime.Runtime(str(tmp_path)).ask("show proc")
        assert not ended.is_set(), "it ended when the other side did"
        ended.set()
        thread.join()


def test_replicas_are_told_with_what_they_have_under_way() -> None:
    csv = (
        "# pxname,svname,qcur,qmax,scur,status,\nvllm,FRONTEND,,,3,OPEN,\nvllm,one,1,2,3,UP,\nvllm,BACKEND,1,2,3,UP,\n"
    )
    assert runtime.servers_of(csv) == [
        {"pool": "vllm", "name": "one", "state": "UP", "streams": 3, "queued": 1, "check": "", "said": ""}
    ]
    assert runtime.servers_of("") == []


def test_what_is_deployed_stands_behind_it_and_the_replicas_that_are_named() -> None:
    record = {"engine": "vllm", "endpoint": "http://127.0.0.1:8000", "health_path": "/health", "model": "r1"}
    gateway = {**record, "engine": "gateway"}
    replica = {"name": "two", "engine": "vllm", "host": "10.0.0.2", "port": 8000}
    (found,) = apply.pools_of([gateway, record], [replica])
    assert [one["name"] for one in found["replicas"]] == ["vllm", "two"]
    assert found["has_key"] is False
    with pytest.raises(Failure, match="not deployed on this host"):
        apply.pools_of([record], [{**replica, "engine": "sglang"}])
    with pytest.raises(Failure, match="two of the name"):
        apply.pools_of([record], [{**replica, "name": "vllm"}])


# --- certificates


def test_a_certificate_is_told_by_its_names_and_its_end(tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    assert certificate.days_left(str(path), ["gpu1"]) == -1
    path.write_text(certificate.make(["gpu1", "fd00::5"], str(tmp_path), 40))
    assert 39.9 < certificate.days_left(str(path), ["GPU1", "fd00:0:0::5"]) <= 40
    assert certificate.days_left(str(path), ["gpu2"]) == -1
    assert certificate.days_left(str(path), ["gpu"]) == -1
    path.write_text(certificate.make(["gpu1"], str(tmp_path), 40, loopback=False))
    assert certificate.days_left(str(path), ["gpu1"]) == -1  # not for this host's own addresses
    assert certificate.days_left(str(path), ["gpu1"], loopback=False) > 39
    path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert certificate.days_left(str(path), []) == -1


def test_what_another_gateway_brings_is_answered_by_this_host() -> None:
    replicas = [*pool()["replicas"], {"name": "gpu2", "host": "10.0.0.2", "port": 8443, "tls": False}]
    text = config.render(want(replicated=True, pools=[pool(replicas=replicas)]))
    lines = [line.strip() for line in text.splitlines()]
    # By its key; before the pool that leads to the others.
    here = lines.index("use_backend %[var(txn.pool)].here if { var(txn.key) -m str dsdeploy-replicas }")
    assert here + 1 == lines.index("use_backend %[var(txn.pool)]")
    parts = re.split(r"^backend ", text, flags=re.M)
    servers = {part.split("\n")[0]: re.findall(r"^  server (\S+)", part, re.M) for part in parts[1:]}
    assert servers["vllm"] == ["vllm", "gpu2"]
    assert servers["vllm.here"] == ["vllm"]
    # What it is asked for its health is of this host alone, or two gateways would take each other for an engine.
    assert text.count("http-check send meth GET uri '/health' hdr x-dsdeploy-here 1") == 2
    first = next(line for line in lines if "return status 200" in line)
    assert "{ req.fhdr(x-dsdeploy-here) -m found } { nbsrv(vllm.here) gt 0 }" in first
    assert ".here" not in config.render(want())


def test_the_replicas_key_is_no_user_s() -> None:
    with pytest.raises(Failure, match="is the host's own"):
        keys.check_name(config.REPLICAS)


def test_check_mode_on_a_bare_host_knows_that_the_engine_is_still_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = {"name": "gpu2", "engine": "vllm", "host": "10.0.0.2", "port": 8443, "tls": False, "streams": None}
    options = want(
        **{"data_dir": "/nonexistent", "program": "/nonexistent", "user": "nobody-yet", "replicas": [replica]},
        **{"certificate": None, "certificate_key": None, "replica_key": "k", "open_to_all": False},
    )
    monkeypatch.setattr(apply.deployments, "read_records", lambda: ([], []))
    monkeypatch.setattr(apply.keyring, "read", list)
    found = apply.Gateway(options, True, []).configure()
    assert found["engines"] == {}
    monkeypatch.setattr(apply, "ensure_user", lambda *_arguments: None)
    with pytest.raises(Failure, match="gpu2 is one of vllm, which is not deployed on this host"):
        apply.Gateway(options, False, []).configure()


def test_whoever_changes_the_keys_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring.places, "KEYS_LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(keyring, "TIMEOUT", 0.0)
    monkeypatch.setattr(apply, "record", lambda: {"state_dir": "/nonexistent"})
    monkeypatch.setattr(apply, "ensure_user", lambda *_arguments: None)
    monkeypatch.setattr(apply.deployments, "read_records", lambda: ([], []))
    monkeypatch.setattr(apply.Desired, "directory", lambda *_arguments, **_more: False)
    monkeypatch.setattr(apply.trust, "KNOWN", "/nonexistent")
    options = want(data_dir="/d", replicas=[], certificate=None, certificate_key=None, replica_key=None)
    held = []

    def made(*_arguments: object) -> dict[str, Any]:
        # A key that is revoked now must not come back by what this run has read before.
        with pytest.raises(Failure, match="another process has held"):
            apply.change_key("absent", "search", Desired())
        held.append(True)
        return {}

    monkeypatch.setattr(apply.Gateway, "_made", made)
    apply.Gateway({**options, "user": "u"}, False, []).configure()
    assert held == [True]
    monkeypatch.setattr(apply.keyring, "read", list)
    with pytest.raises(Failure, match="there is no key search"):
        apply.change_key("absent", "search", Desired())


def test_a_host_that_has_ipv6_alone_tells_that_address(monkeypatch: pytest.MonkeyPatch) -> None:
    class Probe(socket.socket):
        """No route but for IPv6, to itself."""

        def connect(self, address: Any) -> None:
            if self.family == socket.AF_INET:
                raise OSError(101, "Network is unreachable")
            super().connect(("::1", 9))

    monkeypatch.setattr(apply.socket, "socket", Probe)
    assert apply.own_address() == "::1"


def test_what_the_gateway_did_not_load_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it, it would not start after a reboot, and the next run would find nothing to change."""
    monkeypatch.setattr(apply.places, "GATEWAY", str(tmp_path))
    monkeypatch.setattr("os.fchown", lambda *_arguments: None)
    before = {"haproxy.cfg": "the one before\n", "certificate.pem": "the one before\n", "keys.map": "one\n"}
    for name, text in before.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o640)
    options = want(data_dir="/d", replicas=[], certificate=None, certificate_key=None, replica_key=None)
    gateway = apply.Gateway(options, False, [])
    for name in ("haproxy.cfg", "certificate.pem", "keys.map", "pools.map"):
        assert gateway._readable(name, "new\n", None)
    assert not gateway._readable("pools.map", "new\n", None)
    monkeypatch.setattr(gateway.runtime, "workers", list)
    monkeypatch.setattr(gateway.runtime, "version", lambda: "")

    def refused() -> None:
        raise Failure("the gateway did not load its configuration")

    monkeypatch.setattr(gateway.runtime, "reload", refused)
    with pytest.raises(Failure, match="did not load"):
        gateway._tell({"keys.map": {}}, True, "2.6")
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    # A key that was revoked meanwhile stays so.
    assert found == {**before, "keys.map": "new\n"}
    assert (tmp_path / "haproxy.cfg").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("host", ["192.0.2.77", "2001:db8::77", "fe80::77"])
def test_an_address_of_another_host_is_refused_before_anything_is_made(host: str) -> None:
    options = want(data_dir="/d", replicas=[], certificate=None, certificate_key=None, replica_key=None, host=host)
    options = {**options, "networks": ["10.0.0.0/8"], "exposed": True}
    with pytest.raises(Failure, match=f"gateway_host is {host}, which is no address of this host") as caught:
        apply.Gateway(options, True, []).check()
    assert caught.value.error_kind == "usage" and "ip address" in caught.value.hint
    apply.Gateway({**options, "host": "127.0.0.1"}, True, []).check()
