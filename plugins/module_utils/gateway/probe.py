# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the gateway itself, over TLS, as a client does: whom it lets in, and to what."""

from __future__ import annotations

import http.client
import time
from typing import Any, Dict, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import bounded, certificates
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

TIMEOUT = 10.0  # s; of one request
OTHERS = 5.0  # s; HAProxy has looked at an engine that runs by then
# What each engine is asked that costs it nothing.
QUESTIONS = {"ollama": "/api/tags"}
# What no engine's gateway lets through.
CLOSED = ("/metrics", "/docs", "/api/pull", "/v1/models/..%2fslots")


class Probe:
    """Requests to one gateway, whose certificate is known."""

    def __init__(self, port: int, fingerprint: str) -> None:
        self.port, self.fingerprint = port, fingerprint

    def status(self, method: str, path: str, key: str = "") -> int:
        """HTTP status of one request. Failure where nobody answers, or somebody else: the key is not sent then."""
        # Its certificate is compared with the one that was written: no name has to be proven.
        channel = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=TIMEOUT, context=certificates.looking())
        bounded.bound(channel, bounded.within(TIMEOUT))
        try:
            channel.connect()
            if not certificates.is_of(channel.sock, self.fingerprint):
                raise Failure(
                    "port %d answers with another certificate than the gateway's" % self.port,
                    hint="Another program has the port, or an old gateway: end it, then run `dsdeploy up` again.",
                    error_kind="verify",
                )
            channel.request(method, path, headers={"Authorization": "Bearer " + key} if key else {})
            return channel.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise Failure(
                "the gateway does not answer on port %d: %s" % (self.port, error),
                hint="`dsdeploy logs --engine gateway` says more.",
                error_kind="verify",
            ) from None
        finally:
            channel.close()


def verify(found: Dict[str, Any], port: int, key: str, timeout: float) -> Dict[str, int]:
    """What was asked, and the status of each. Failure where the gateway lets in or keeps out whom it should not.

    The engine at the root, which is the one that is deployed now, has to answer. Another one may have been stopped, by
    the user or for this one's sake, and is passed over then.

    :param found: what module `gateway` returns as ``gateway``. `timeout`: s until the first engine counts as ready.
    """
    probe = Probe(port, found["fingerprint"])
    deadline = time.monotonic() + timeout
    seen, answering = {}, []
    for engine, prefix in sorted(found["engines"].items(), key=lambda pair: pair[1]):
        last: Optional[Failure] = None
        began = time.monotonic()
        while True:
            try:
                status, last = probe.status("GET", prefix + "/health"), None
                if status == 200:
                    answering.append((engine, prefix))
                    break
                if prefix and time.monotonic() > min(deadline, began + OTHERS):
                    seen["GET %s/health" % prefix] = status
                    break
            except Failure as failure:
                status, last = 0, failure
            if time.monotonic() > deadline:
                raise last or Failure(
                    "the gateway runs, but no %s behind it answers (status %d)" % (engine, status),
                    hint="`dsdeploy status` says whether the engine does.",
                    error_kind="verify",
                )
            time.sleep(0.25)
    for engine, prefix in answering:
        path = prefix + QUESTIONS.get(engine, "/v1/models")
        wanted = [("GET", path, "", 401), ("GET", path, key, 200)]
        wanted += [("GET", prefix + closed, key, 404) for closed in CLOSED]
        for method, asked, with_key, status in wanted:
            what = "%s %s %s the key" % (method, asked, "with" if with_key else "without")
            seen[what] = probe.status(method, asked, with_key)
            if seen[what] != status:
                raise Failure(
                    "the gateway answers %d to %s, and should answer %d" % (seen[what], what, status),
                    hint="`dsdeploy logs --engine gateway` says what it did with it.",
                    error_kind="verify",
                )
    return seen
