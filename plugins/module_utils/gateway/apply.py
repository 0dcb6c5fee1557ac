# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's files as they are wanted, and the gateway that runs told of what changed."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from typing import Any, Dict, List, Optional, Set
from urllib.parse import urlsplit

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import (
    certificate,
    config,
    keyring,
    keys,
    paths,
    trust,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway.runtime import ADMIN, MASTER, Runtime
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import run
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import owned, preflight, sockets, users
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.accounts import ensure_user
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import deployments

SERVICE = "dsdeploy-gateway"
CONFIG_FILE = places.GATEWAY + "/haproxy.cfg"
CERTIFICATE = places.GATEWAY + "/certificate.pem"
SELF_SIGNED = places.GATEWAY + "/self-signed.pem"
PROBE_KEY = places.GATEWAY + "/probe.key"
TIMEOUT = 60.0  # s
# HAProxy's own limit of a socket's path, with what it adds while it makes one.
SOCKET_PATH = 90


def pools_of(records: List[Dict[str, Any]], replicas: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """What stands behind the gateway, by engine: what is deployed on this host, and the replicas that are named. Pure.

    :param replicas: ``{name, engine, host, port}`` of engines on other addresses.
    """
    pools = []
    for record in records:
        # Of a gang the first rank answers, on its own host.
        if record["engine"] not in paths.ALLOWED or deployments.rank_of(record):
            continue
        url = urlsplit(record["endpoint"])
        own = {
            "name": record["engine"],
            "host": url.hostname or "127.0.0.1",
            "port": url.port or (443 if url.scheme == "https" else 80),
            "tls": url.scheme == "https",
            "own": True,
            "streams": record.get("streams"),
        }
        pools.append(
            {
                "engine": record["engine"],
                "model": record.get("model") or "",
                "health_path": record["health_path"],
                "has_key": bool(record.get("api_key_file")),
                "key_file": record.get("api_key_file"),
                "replicas": [own],
            }
        )
    for replica in replicas:
        pool = next((pool for pool in pools if pool["engine"] == replica["engine"]), None)
        if pool is None:
            raise Failure(
                "gateway_replicas: %s is one of %s, which is not deployed on this host"
                % (replica["name"], replica["engine"]),
                hint="Deploy that engine here, too, or correct the replica's engine.",
                error_kind="usage",
            )
        if replica["name"] in [other["name"] for other in pool["replicas"]]:
            raise Failure("gateway_replicas: there are two of the name %s" % replica["name"], error_kind="usage")
        # What is not said of it is as it is here: the same engine, with the same variables.
        given = {key: value for key, value in replica.items() if value is not None}
        pool["replicas"].append(dict({"streams": pool["replicas"][0]["streams"]}, **given))
    return pools


def record() -> Optional[Dict[str, Any]]:
    """The gateway's deployment record, None where there is none."""
    return next((found for found in deployments.read_records()[0] if found["engine"] == "gateway"), None)


def own_address() -> str:
    """The address by which this host goes out, of IPv6 where it has no other; loopback where it has none."""
    # The addresses of documentation: nothing is sent.
    for family, anywhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((anywhere, 9))
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return config.LOOPBACK


class Gateway:
    """One run of module `gateway`."""

    def __init__(self, want: Dict[str, Any], check_mode: bool, connection: List[str]) -> None:
        """:param want: the module's options."""
        self.want, self.connection = dict(want), connection
        self.desired = Desired(check_mode, self._note)
        self.check_mode = check_mode
        self.warnings: List[str] = []
        self._before: Dict[str, Optional[str]] = {}  # what was in files that the gateway loads, None: not there
        self.state_dir = "%s/%s" % (want["data_dir"].rstrip("/"), SERVICE)
        self.want.update(
            replicated=bool(want["replica_key"]), directory=places.GATEWAY, socket=self.state_dir + "/" + ADMIN
        )
        self.runtime = Runtime(self.state_dir)

    def _note(self, path: str) -> None:
        if not (path + "/").startswith(places.CONFIG + "/"):
            owned.note("directories", path)

    def check(self) -> None:
        """Failure, with all that is wrong, for values that cannot be meant. Nothing is changed."""
        found, hints = config.problems(self.want), []
        if self.want["exposed"] and not any(line.startswith("gateway_host: ") for line in found):
            problem = preflight.address_problem(self.want["host"], sockets.unbindable(self.want["host"]), "gateway")
            if problem:
                found.append(problem.msg)
                hints.append(problem.hint)
        if len(self.state_dir + "/" + MASTER) > SOCKET_PATH:
            found.append("dsdeploy_data_dir: %s is too long a path for the gateway's sockets" % self.want["data_dir"])
        if bool(self.want["certificate"]) != bool(self.want["certificate_key"]):
            found.append("gateway_certificate and gateway_certificate_key must be set together")
        for step in (lambda: paths.check_extra(self.want["extra_paths"]), self._given, self._authorities):
            try:
                step()
            except Failure as failure:
                found += failure.problems
                hints.append(failure.hint)
        if found:
            hint = " ".join(dict.fromkeys(filter(None, hints))) or "docs/gateway.md explains the gateway's variables."
            raise Failure(found, hint=hint, error_kind="usage")

    def _given(self) -> str:
        """The certificate that is given, with its key; "" where none is."""
        if not self.want["certificate"] or not self.want["certificate_key"]:
            return ""
        return certificate.read_given(self.want["certificate"], self.want["certificate_key"], self.want["names"])

    def _authorities(self) -> None:
        """Failure where a file by which a replica is to be known is none, or is missing."""
        for replica in self.want["replicas"]:
            path = replica.get("ca_file")
            if replica["tls"] and not path:
                trust.system_file()
            elif path and path != trust.known_file(replica["name"]):
                trust.read_authority(replica["name"], path)

    def names(self) -> List[str]:
        """By what names and addresses others come."""
        if self.want["names"] or not self.want["exposed"]:
            return list(self.want["names"])
        if self.want["certificate"]:
            # Clients take no other name than its own.
            own = certificate.names_of(certificate.decoded(self.want["certificate"]))
            told = [name for name in own if not name.startswith("*") and name not in ("localhost", "127.0.0.1")]
            if told:
                return told
        return [own_address() if self.want["host"] in ("0.0.0.0", "::") else self.want["host"]]

    def configure(self) -> Dict[str, Any]:
        """Make the files, and let the gateway that runs take them up. What module `gateway` returns."""
        self.check()
        records, problems = deployments.read_records()
        for problem in problems:
            raise Failure(str(problem), hint=deployments.UNREADABLE_HINT)
        replicas = self.want["replicas"]
        if self.check_mode:
            # The engine that they are more of may be one that this very run would deploy.
            here = [record["engine"] for record in records]
            replicas = [replica for replica in replicas if replica["engine"] in here]
        known = trust.settle(self.desired, replicas)
        for name in known["unknown"]:
            self.warnings.append(
                "%s gets no requests: its certificate is not known here yet. "
                "Run `dsdeploy up` for all hosts of its replicas" % name
            )
        pools = pools_of(records, known["replicas"])
        if not pools and not self.check_mode:
            self.warnings.append("the gateway has no engine behind it: it answers 404 until one is deployed")
        self.want["pools"] = pools
        account = ensure_user(self.desired, self.want["user"], self.state_dir, self.connection)
        self.desired.directory(places.CONFIG, 0o755)
        self.desired.directory(places.GATEWAY, 0o750, 0, account.gid if account else 0)
        with keyring.alone(self.check_mode):
            return self._made(account, pools, known["changed"])

    def _made(
        self, account: Optional[users.Account], pools: List[Dict[str, Any]], known_changed: bool
    ) -> Dict[str, Any]:
        hashes = self._keys()
        reload = self._certificate(account)
        reload |= self._own_certificate(account) or known_changed
        wanted = keys.maps(hashes, pools)
        for name, entries in wanted.items():
            self._readable(name, keys.map_text(entries), account, secret=True)
        reload |= self._readable(
            "pools.map", keys.map_text({pool["engine"]: keys.pool_model(pool) for pool in pools}), account
        )
        reload |= self._readable("engines.map", keys.map_text(self._engine_keys(pools)), account, secret=True)
        reload |= self._config(account)
        version = self._version()
        self._tell(wanted, reload, version)
        return self._result(pools, version)

    def _readable(self, name: str, text: str, account: Optional[users.Account], secret: bool = False) -> bool:
        """A file of root's that the gateway may read, and nobody else."""
        path, gid = "%s/%s" % (places.GATEWAY, name), account.gid if account else 0
        before = _text(path)
        if not self.desired.file(path, text, 0o640, 0, gid, secret=secret):
            return False
        self._before.setdefault(path, before)
        return True

    def _keys(self) -> List[keys.Key]:
        """The keys, the host's own among them, which is made where it is missing."""
        found = keyring.read()
        try:
            with open(PROBE_KEY, encoding="ascii") as handle:
                own = handle.read().strip()
        except (OSError, UnicodeDecodeError):
            own = ""
        own = own or secrets.token_urlsafe(32)
        # Also where it is there: somebody may have made it readable.
        self.desired.file(PROBE_KEY, own + "\n", 0o600, secret=True, what=PROBE_KEY)
        digest = hashlib.sha256(own.encode("ascii")).hexdigest()
        found = [key for key in found if key["name"] not in keys.OWN]
        found.append(keys.make(config.PROBE, digest, "", {}))
        if self.want["replica_key"]:
            # All that comes from another gateway comes with it: no limit of one client's.
            most = {"streams": self.want["max_connections"], "requests_per_minute": 1_000_000_000}
            digest = hashlib.sha256(self.want["replica_key"].encode("utf-8")).hexdigest()
            found.append(keys.make(config.REPLICAS, digest, "", most))
        self.desired.file(keyring.FILE, keys.dump(found), 0o600, secret=True)
        return found

    def _certificate(self, account: Optional[users.Account]) -> bool:
        """Whether there is another certificate than before."""
        text = self._given()
        if not text:
            names = self.names()
            if certificate.days_left(SELF_SIGNED, names) <= certificate.RENEW_DAYS:
                if self.check_mode:
                    self.desired.change("make a self-signed certificate")
                    return True
                self.desired.file(SELF_SIGNED, certificate.make(names, places.GATEWAY), 0o600, secret=True)
            with open(SELF_SIGNED, encoding="ascii") as handle:
                text = handle.read()
            self.desired.file(SELF_SIGNED, text, 0o600, secret=True)
        self.fingerprint = certificate.fingerprint(text)
        return self._readable("certificate.pem", text, account, secret=True)

    def _own_certificate(self, account: Optional[users.Account]) -> bool:
        """That by which other gateways know this one, where there are others; whether it is another than before."""
        if not self.want["replicated"] or not os.path.isfile(trust.OWN):
            return self.desired.absent(trust.SERVED)
        self.want["own_certificate"] = trust.SERVED
        with open(trust.OWN, encoding="ascii") as handle:
            text = handle.read()
        self.desired.file(trust.OWN, text, 0o600, secret=True)
        return self._readable(os.path.basename(trust.SERVED), text, account, secret=True)

    def _engine_keys(self, pools: List[Dict[str, Any]]) -> Dict[str, str]:
        """The API keys that the engines ask for, by engine."""
        found = {}
        for pool in pools:
            if pool["key_file"]:
                try:
                    with open(pool["key_file"], encoding="utf-8") as handle:
                        found[pool["engine"]] = handle.read().strip()
                except OSError as error:
                    raise Failure(
                        "the API key of %s cannot be read: %s: %s" % (pool["engine"], pool["key_file"], error.strerror),
                        hint="`dsdeploy up --engine %s` writes it anew." % pool["engine"],
                    ) from None
        return found

    def _config(self, account: Optional[users.Account]) -> bool:
        """haproxy.cfg, which HAProxy itself has checked before; whether it is another one than before."""
        text = config.render(self.want)
        if not self.check_mode:
            self._ask_haproxy(text)
        return self._readable("haproxy.cfg", text, account)

    def _ask_haproxy(self, text: str) -> None:
        """Failure, with HAProxy's own words, where it does not take the configuration."""
        candidate = CONFIG_FILE + ".check"
        descriptor = os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as handle:
                handle.write(text)
            done = run([self.want["program"], "-c", "-f", candidate], TIMEOUT)
        finally:
            os.unlink(candidate)
        if done.rc != 0:
            said = [line for line in done.stderr.splitlines() if "ALERT" in line] or [
                done.stderr.strip() or "no answer"
            ]
            what = re.sub(r"\[ALERT\]\s*\(\d+\) : ", "", said[0])[:400]
            hint = "Does the key belong to the certificate?" if "private key" in what or "certificate" in what else ""
            raise Failure("HAProxy does not take the gateway's configuration: %s" % what, hint=hint)

    def _version(self) -> str:
        """Of the program that is installed; "" where it is not yet."""
        found = re.search(r"version (\S+)", run([self.want["program"], "-v"], TIMEOUT).stdout)
        return found.group(1) if found else ""

    def _tell(self, wanted: Dict[str, Dict[str, str]], reload: bool, version: str) -> None:
        """Let the gateway that runs take up what changed; one that does not run reads it when it starts."""
        if self.runtime.workers() is None:
            return
        if reload or self.runtime.version() not in ("", version):
            try:
                self.desired.change("reload the gateway; its streams go on", self.runtime.reload)
            except Failure:
                self._put_back(set(self._before) - {"%s/%s" % (places.GATEWAY, name) for name in wanted})
                raise
            return
        maps = {"%s/%s" % (places.GATEWAY, name): entries for name, entries in wanted.items()}
        if self.runtime.sync(maps, check=True):
            self.desired.change("load the keys into the gateway", lambda: self.runtime.sync(maps))

    def _put_back(self, paths: Set[str]) -> None:
        """What the gateway did not load must not stay: with it, it would not start again, and the next run would find
        nothing to change. Keys stay: they are those of the keyring."""
        gid = os.stat(places.GATEWAY).st_gid
        for path in sorted(paths):
            before = self._before[path]
            if before is None:
                Desired().absent(path)
            else:
                Desired().file(path, before, 0o640, 0, gid, secret=True)

    def _result(self, pools: List[Dict[str, Any]], version: str) -> Dict[str, Any]:
        local = "https://" + config.address(config.LOOPBACK, self.want["port"])
        names = self.names()
        public = "https://" + config.address(names[0], self.want["port"]) if names and self.want["exposed"] else None
        return {
            "version": version,
            "endpoint": local,
            "public_endpoint": public,
            "fingerprint": getattr(self, "fingerprint", None),
            "self_signed": not self.want["certificate"],
            "metrics": "http://127.0.0.1:%d/metrics" % self.want["metrics_port"],
            "engines": {
                pool["engine"]: "" if pool["engine"] == self.want["engine"] else "/" + pool["engine"] for pool in pools
            },
            "models": sorted({pool["model"] for pool in pools}),
            "config": CONFIG_FILE,
            "master_socket": self.state_dir + "/" + MASTER,
            "probe_key_file": PROBE_KEY,
        }


def _text(path: str) -> Optional[str]:
    """Of a file of ours; None where there is none that can be read."""
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except (OSError, UnicodeDecodeError):
        return None


def change_key(
    state: str,
    name: str,
    desired: Desired,
    sha256: str = "",
    created: str = "",
    limits: Optional[Dict[str, Any]] = None,
    replace: bool = False,
) -> List[keys.Key]:
    """Add a key or take it away, on disk and in the gateway that runs; all keys but the host's own.

    :param state: present or absent.
    """
    found = record()
    if found is None:
        raise Failure(
            "there is no gateway on this host",
            hint="`dsdeploy up -e dsdeploy_gateway=true` makes one; with dsdeploy_expose=true others can reach it.",
        )
    with keyring.alone(desired.check_mode):
        return _change_key(str(found.get("state_dir")), state, name, desired, sha256, created, limits or {}, replace)


def _change_key(
    state_dir: str,
    state: str,
    name: str,
    desired: Desired,
    sha256: str,
    created: str,
    limits: Dict[str, Any],
    replace: bool,
) -> List[keys.Key]:
    before = keyring.read()
    after = [key for key in before if key["name"] != name]
    if state == "present":
        if len(after) < len(before) and not replace:
            raise Failure(
                "a key %s exists already" % name,
                hint="Choose another name, or replace it (--replace): the old one is then refused.",
                error_kind="usage",
            )
        if any(key["sha256"] == sha256 for key in after):
            raise Failure("the same key exists already, under another name", error_kind="usage")
        after.append(keys.make(name, sha256, created, limits))
    elif len(after) == len(before):
        raise Failure(
            "there is no key %s on this host" % name,
            hint="`dsdeploy key list` names them.",
            error_kind="usage",
        )
    desired.file(
        keyring.FILE, keys.dump(after), 0o600, secret=True, what="key %s" % name if state == "present" else keyring.FILE
    )
    state_of_dir = os.stat(places.GATEWAY)
    wanted = keys.maps(after, pools_of(deployments.read_records()[0], []))
    for map_name, entries in wanted.items():
        path = "%s/%s" % (places.GATEWAY, map_name)
        desired.file(path, keys.map_text(entries), 0o640, 0, state_of_dir.st_gid, secret=True)
    runtime = Runtime(state_dir)
    if not desired.check_mode and runtime.workers() is not None:
        runtime.sync({"%s/%s" % (places.GATEWAY, map_name): entries for map_name, entries in wanted.items()})
    return [key for key in after if key["name"] not in keys.OWN]
