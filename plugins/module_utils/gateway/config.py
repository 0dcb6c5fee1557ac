# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's configuration of HAProxy (2.4 or newer), from one dict. Pure.

No secret is in it: who has which key, and the engines' own keys, stand in maps of their own (`keys.py`).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Dict, List, Optional, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import paths
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?\Z")  # a name in the DNS
NOBODY = "nobody"  # who has no key
LOOPBACK = "127.0.0.1"
BUFFER = 65536  # bytes of one request that are held at a time
HEADER = 16384  # bytes of a request's header at most
REPLICAS = "dsdeploy-replicas"  # the key by which other replicas come: what they bring is answered here
HERE = ".here"  # after the name of a pool: of it what is on this host
HERE_HEADER = "x-dsdeploy-here"  # of a health check that asks for that
PROBE = "dsdeploy"  # the host's own key, by which it asks itself
NUMBERS = (
    "max_body_mib",
    "max_connections",
    "address_connections",
    "max_streams",
    "queue_timeout",
    "header_timeout",
    "client_timeout",
    "server_timeout",
    "key_streams",
    "key_requests_per_minute",
)
# Request headers that an engine gets. What else a client sends (whose request it is, which worker is to take it, where
# it came from) would steer the engine, or lie to it.
HEADERS = ("accept", "accept-encoding", "connection", "content-length", "content-type", "expect", "host", "user-agent")

# Status: message, type, code, as OpenAI's clients read an error.
ERRORS = {
    400: ("The request is malformed, or its header is too large.", "invalid_request_error", "bad_request"),
    401: ("Give an API key: Authorization: Bearer KEY.", "invalid_request_error", "invalid_api_key"),
    403: ("This key may not use this model.", "invalid_request_error", "model_not_allowed"),
    404: ("There is no such path here.", "invalid_request_error", "not_found"),
    408: ("The request came too slowly.", "invalid_request_error", "request_timeout"),
    411: ("Send the body with its length (Content-Length).", "invalid_request_error", "length_required"),
    413: ("The body is too large.", "invalid_request_error", "request_too_large"),
    429: ("Too many requests with this key.", "rate_limit_error", "rate_limit_exceeded"),
    502: ("The server's answer was cut.", "server_error", "bad_gateway"),
    503: ("The server is busy or not ready.", "server_error", "overloaded"),
    504: ("The server did not answer in time.", "server_error", "timeout"),
}
RETRY_AFTER = {502: 5, 503: 5, 504: 5}  # s


def error_body(status: int) -> str:
    """The error's JSON."""
    message, kind, code = ERRORS[status]
    return '{"error":{"message":"%s","type":"%s","param":null,"code":"%s"}}' % (message, kind, code)


def _reply(status: int, retry_after: str = "") -> str:
    retry_after = retry_after or str(RETRY_AFTER.get(status, ""))
    text = error_body(status).replace("\\", "\\\\").replace('"', '\\"')
    retry = ' hdr Retry-After "%s"' % retry_after if retry_after else ""
    challenge = ' hdr WWW-Authenticate "Bearer"' if status == 401 else ""
    return 'status %d content-type application/json string "%s"%s%s' % (status, text, retry, challenge)


def _deny(status: int, condition: str, retry_after: str = "") -> str:
    return "  http-request return %s if %s" % (_reply(status, retry_after), condition)


def _word(text: str) -> str:
    """A word of the configuration, taken literally."""
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise Failure("a value of the gateway holds a control character", error_kind="usage")
    return "'%s'" % text.replace("'", "'\\''")


def _ip(text: str) -> Any:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def address(host: str, port: int) -> str:
    """host:port as HAProxy and URLs have it."""
    found = _ip(host)
    return "[%s]:%d" % (host, port) if found is not None and found.version == 6 else "%s:%d" % (host, port)


def problems(want: Dict[str, Any]) -> List[str]:
    """What is wrong with the gateway's values, a line each."""
    found = []
    for network in want["networks"]:
        try:
            if ipaddress.ip_network(network).prefixlen == 0 and not want.get("open_to_all"):
                found.append("gateway_networks: %s lets every host in" % network)
        except ValueError:
            found.append("gateway_networks: '%s' is not a network such as 10.0.0.0/8" % network)
    if want["exposed"] and not want["networks"]:
        found.append("dsdeploy_expose is set, and gateway_networks is empty: name the networks that may connect")
    if _ip(want["host"]) is None:
        found.append("gateway_host: '%s' is not an address" % want["host"])
    if want["port"] == want["metrics_port"]:
        found.append("gateway_metrics_port: %d is gateway_port, too" % want["port"])
    for name in NUMBERS:
        if want[name] < 1:
            found.append("gateway_%s: %d is less than 1" % (name, want[name]))
    for name in want["names"]:
        if _ip(name) is None and not HOST.match(name):
            found.append("gateway_names: '%s' is neither a host name nor an address" % name)
    return found + [line for replica in want.get("replicas") or () for line in _replica_problems(replica)]


def certified_name(replica: Dict[str, Any]) -> str:
    """The name that a replica's certificate must be for."""
    return str(replica.get("server_name") or replica["host"])


def _replica_problems(replica: Dict[str, Any]) -> List[str]:
    found, what = [], "gateway_replicas: %s" % replica["name"]
    if not NAME.match(replica["name"]):
        found.append(
            "gateway_replicas: '%s' is not a replica's name (letters, digits, '.', '_', '-')" % replica["name"]
        )
    if _ip(replica["host"]) is None and not HOST.match(replica["host"]):
        found.append("%s: host: '%s' is neither a host name nor an address" % (what, replica["host"]))
    if not 0 < replica["port"] < 65536:
        found.append("%s: port: %d is not a port" % (what, replica["port"]))
    if replica.get("tls"):
        name = certified_name(replica)
        if _ip(name) is not None:
            found.append("%s: server_name is missing: HAProxy compares a certificate's names, not its addresses" % what)
        elif not HOST.match(name):
            found.append("%s: server_name: '%s' is not a host name" % (what, name))
    elif replica.get("ca_file") or replica.get("server_name"):
        found.append("%s: ca_file and server_name are of a replica that speaks TLS (tls: true)" % what)
    return found


def render(want: Dict[str, Any]) -> str:
    """The text of haproxy.cfg.

    :param want: ``host``, ``port``, ``exposed``, ``networks``, ``metrics_port``, ``names``, ``directory`` (of the
        certificate and the maps), ``socket`` (path of the runtime API), ``engine`` (the pool at the root),
        ``extra_paths``, ``replicated`` (whether other gateways come here as this one goes to them), the numbers of
        `NUMBERS`, ``own_certificate`` (file of the one by which other gateways know this one, or none), and ``pools``:
        a list of ``{engine, model, health_path, has_key,
        replicas: [{name, host, port, tls, own, ca_file, server_name, streams}]}``.
    :raises Failure: see `problems`.
    """
    wrong = problems(want)
    if wrong:
        raise Failure(wrong, error_kind="usage")
    maps = want["directory"]
    lines = [
        "# Written by dsdeploy; changes here are overwritten.",
        "global",
        "  log stdout format raw local0 info",
        "  stats socket %s mode 600 level admin" % _word(want["socket"]),
        "  maxconn %d" % want["max_connections"],
        "  hard-stop-after %ds" % want["server_timeout"],
        # A body up to this size is here before the engine hears of it.
        "  tune.bufsize %d" % BUFFER,
        "  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
        "  ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20",
        "  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
        "",
        "defaults",
        "  mode http",
        "  log global",
        "  option dontlognull",
        # A client that leaves is not served to the end.
        "  option abortonclose",
        "  option clitcpka",
        "  option srvtcpka",
        "  timeout connect 5s",
        "  timeout check 10s",
        "  timeout http-request %ds" % want["header_timeout"],
        "  timeout http-keep-alive 60s",
        # Of a client that is to send or to take something. While the server thinks, it does not count.
        "  timeout client %ds" % want["client_timeout"],
        "  timeout server %ds" % want["server_timeout"],
        "  timeout queue %ds" % want["queue_timeout"],
        "  retries 1",
        "  option redispatch",
    ]
    lines += ["  http-error %s" % _reply(status) for status in (400, 408, 502, 503, 504)]
    lines += ["", *_frontend(want, maps), ""]
    # How often a key has been let in, and what it has under way.
    lines += [
        "backend keys",
        "  stick-table type string len 64 size 10k expire 10m store gpc0_rate(60s),conn_cur",
        "",
        "backend addresses",
        "  stick-table type ipv6 size 100k expire 10m store conn_cur",
        "",
    ]
    for pool in want["pools"]:
        lines += [*_backend(pool, want, maps), ""]
        if want.get("replicated"):
            own = dict(pool, replicas=pool["replicas"][:1])
            lines += [*_backend(own, want, maps, HERE), ""]
    lines += [
        "frontend metrics",
        "  bind %s" % address(LOOPBACK, want["metrics_port"]),
        "  option dontlog-normal",
        "  http-request use-service prometheus-exporter if { path /metrics }",
        "  http-request return status 404",
        "",
    ]
    return "\n".join(lines)


def _addresses(host: str) -> List[str]:
    """Where it listens: loopback is always among it, because the host asks itself there."""
    return [host] if _ip(host) in (_ip("0.0.0.0"), _ip("::"), _ip(LOOPBACK)) else [host, LOOPBACK]


def _frontend(want: Dict[str, Any], maps: str) -> List[str]:
    networks = " ".join(["127.0.0.0/8", "::1", *want["networks"]])
    # The first is for everybody, the second for who asks for its name: other gateways.
    certificates = [_word(maps + "/certificate.pem")]
    if want.get("own_certificate"):
        certificates.append(_word(want["own_certificate"]))
    shown = " ".join("crt " + path for path in certificates)
    lines = ["frontend gateway"]
    for host in _addresses(want["host"] if want["exposed"] else LOOPBACK):
        # Of "::" the kernel's setting would decide.
        both = " v4v6" if _ip(host) == _ip("::") else ""
        lines.append("  bind %s%s ssl %s alpn h2,http/1.1" % (address(host, want["port"]), both, shown))
    lines += [
        "  maxconn %d" % want["max_connections"],
        "  tcp-request connection reject if !{ src %s }" % networks,
        "  tcp-request connection track-sc1 src table addresses",
        "  tcp-request connection reject if { sc1_conn_cur gt %d }" % want["address_connections"],
        # Who, what, how long; never a query, a body or a key.
        '  log-format "%ci key=%[var(txn.key)] model=%[var(txn.model)] method=%HM path=%[var(txn.path)] status=%ST '
        'bytes_in=%U bytes_out=%B queue_ms=%Tw first_byte_ms=%Tr total_ms=%Ta server=%s end=%tsc"',
        "  http-request set-var(txn.key) str(%s)" % NOBODY,
        "  http-request set-var(txn.model) str(-)",
        # Of what is listed the path is logged, of the rest no more than that it is something else.
        "  http-request set-var(txn.path) str(other)",
        # Two ways to read one request are two requests.
        _deny(400, "{ req.fhdr_cnt(host) gt 1 } or { req.fhdr_cnt(content-length) gt 1 }"),
        _deny(400, "{ req.fhdr_cnt(upgrade) gt 0 } or { req.hdrs -m len gt %d }" % HEADER),
    ]
    root = next((pool for pool in want["pools"] if pool["engine"] == want["engine"]), None)
    for pool in want["pools"]:
        if want.get("replicated"):
            lines += _health(pool, pool is root, HERE)
        lines += _health(pool, pool is root)
    if root is None:
        lines.append(_deny(503, "{ path -m str %s } { method GET }" % paths.HEALTH))
    for pool in want["pools"]:
        lines += _entries(pool, pool is root, want["extra_paths"])
    lines += [
        _deny(404, "!{ var(txn.pool) -m found }"),
        "  http-request set-var(txn.model) var(txn.pool),map_str(%s/pools.map,-)" % maps,
        # Which of two keys is meant is not guessed. A key is one word.
        _deny(401, "{ req.fhdr_cnt(authorization) gt 1 } or { req.fhdr_cnt(x-api-key) gt 1 }"),
        "  http-request set-var(txn.token) req.fhdr(authorization),regsub('^[Bb][Ee][Aa][Rr][Ee][Rr] +','') "
        "if { req.fhdr(authorization) -m reg -i '^Bearer +[!-~]+$' }",
        "  http-request set-var(txn.token) req.fhdr(x-api-key) if !{ req.fhdr(authorization) -m found }",
        "  http-request set-var(txn.digest) var(txn.token),sha2(256),hex,lower if { var(txn.token) -m len gt 0 }",
        "  http-request unset-var(txn.token)",
        "  http-request set-var(txn.key) var(txn.digest),map_str(%s/keys.map,%s)" % (maps, NOBODY),
        "  http-request unset-var(txn.digest)",
        # The host's own key is for the host.
        "  http-request set-var(txn.key) str(%s) if { var(txn.key) -m str %s } !{ src 127.0.0.0/8 ::1 }"
        % (NOBODY, PROBE),
        _deny(401, "{ var(txn.key) -m str %s }" % NOBODY),
        # A key for some models: which engines serve those is known here, so that no body need be read.
        _deny(
            403,
            "{ var(txn.key),map_str(%s/limited.map) -m found } "
            "!{ var(txn.key),concat(/,txn.pool),map_str(%s/allowed.map) -m found }" % (maps, maps),
        ),
    ]
    lines += [
        # Without a length the size of a body is not known before it is there.
        _deny(411, "{ method POST } !{ req.fhdr(content-length) -m found }"),
        _deny(413, "{ req.hdr_val(content-length) gt %d }" % (want["max_body_mib"] * 1024 * 1024)),
        _deny(400, "{ method GET } { req.hdr_val(content-length) gt 0 }"),
        _deny(400, "{ req.fhdr(transfer-encoding) -m found }"),
        "  http-request set-var(txn.most) var(txn.key),map_str_int(%s/streams.map,%d)" % (maps, want["key_streams"]),
        "  http-request set-var(txn.rate) var(txn.key),map_str_int(%s/rates.map,%d)"
        % (maps, want["key_requests_per_minute"]),
        "  http-request track-sc0 var(txn.key) table keys",
        _deny(429, "{ sc0_conn_cur,sub(txn.most) gt 0 }", "1"),
        # What was refused is not counted: who waits as he is told is let in.
        _deny(429, "{ sc0_gpc0_rate,sub(txn.rate) ge 0 }", "%[int(60),div(txn.rate),add(1)]"),
        "  http-request sc-inc-gpc0(0)",
        "  http-request wait-for-body time %ds if { method POST }" % want["header_timeout"],
        # Of an absolute URI nothing else is left either: engines do not know that form.
        "  http-request set-uri %[var(txn.path)]",
        "  http-request del-header '^(?!(%s)$)' -m reg" % "|".join(HEADERS),
        "  http-response del-header server",
        "  http-response del-header '^access-control-' -m reg",
    ]
    if want.get("replicated"):
        lines.append("  use_backend %%[var(txn.pool)]%s if { var(txn.key) -m str %s }" % (HERE, REPLICAS))
    lines.append("  use_backend %[var(txn.pool)]")
    return lines


def _health(pool: Dict[str, Any], root: bool, here: str = "") -> List[str]:
    """What a probe without a key is told: whether the pool has a replica that answers. It is not logged.

    :param here: `HERE`: what the gateways of other replicas are told.
    """
    where = "{ path -m str %s } { method GET }" % " ".join(
        ["/%s%s" % (pool["engine"], paths.HEALTH), *([paths.HEALTH] if root else [])]
    )
    if here:
        where += " { req.fhdr(%s) -m found }" % HERE_HEADER
    return [
        "  http-request set-log-level silent if %s" % where,
        '  http-request return status 200 content-type application/json string "{\\"status\\":\\"ok\\"}" '
        "if %s { nbsrv(%s%s) gt 0 }" % (where, pool["engine"], here),
        _deny(503, where),
    ]


def _entries(pool: Dict[str, Any], root: bool, extra: Sequence[str]) -> List[str]:
    """The lines that let requests to one pool: at the root, and below its engine's name."""
    lines = []
    for method, path in paths.allowed(pool["engine"], extra):
        for prefix in ["/" + pool["engine"], *([""] if root else [])]:
            condition = "if { method %s } { path -m str %s%s }" % (method, prefix, path)
            lines += [
                "  http-request set-var(txn.pool) str(%s) %s" % (pool["engine"], condition),
                "  http-request set-var(txn.path) str(%s) %s" % (path, condition),
            ]
    return lines


def _backend(pool: Dict[str, Any], want: Dict[str, Any], maps: str, here: str = "") -> List[str]:
    engine = pool["engine"]
    # An engine ignores it; the gateway of another replica tells of that replica alone.
    header = " hdr %s 1" % HERE_HEADER if want.get("replicated") else ""
    lines = [
        "backend %s%s" % (engine, here),
        "  balance leastconn",
        "  option httpchk",
        "  http-check send meth GET uri %s%s" % (_word(pool["health_path"]), header),
        "  http-check expect status 200",
        # Ollama answers to no other name than its own.
        "  http-request set-header Host 127.0.0.1",
        "  default-server check inter 2s fastinter 1s downinter 1s fall 3 rise 1",
    ]
    if pool["has_key"]:
        lines.append(
            '  http-request set-header Authorization "Bearer %%[str(%s),map_str(%s/engines.map)]"' % (engine, maps)
        )
    for replica in pool["replicas"]:
        where = address(replica["host"], replica["port"])
        lines.append("  server %s %s%s maxconn %d" % (replica["name"], where, _tls(replica), _streams(replica, want)))
    return lines


def _tls(replica: Dict[str, Any]) -> str:
    """How a replica is spoken to. It gets the engine's key and what clients ask: another host has to prove its name."""
    if not replica.get("tls"):
        return ""
    if replica.get("own"):
        return " ssl verify none"  # the engine of this very host, whose certificate is for other names
    name = certified_name(replica)
    return " ssl verify required ca-file %s sni str(%s) check-sni %s" % (_word(replica["ca_file"]), name, name)


def _streams(replica: Dict[str, Any], want: Dict[str, Any]) -> int:
    """What one replica gets at a time: more than it works on waits here, where a health check is not behind it."""
    own: Optional[int] = replica.get("streams")
    return min(own, want["max_streams"]) if own else int(want["max_streams"])
