# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A headless Chromium without a network, spoken to over a pipe (Chrome DevTools Protocol)."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Any


class Page:
    """One page; what it asked for and what it complained of is kept in `requests` and `said`."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.said: list[str] = []
        self._number, self._read = 0, b""
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # its helpers write a little longer
        ours, theirs = os.pipe(), os.pipe()  # (read, write): to it, from it

        def hand_over() -> None:
            # Chromium reads descriptor 3 and writes 4.
            kept = [os.dup(ours[0]), os.dup(theirs[1])]
            for descriptor, number in zip(kept, (3, 4), strict=True):
                os.dup2(descriptor, number)

        command = ["unshare", "-n", "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += ["--hide-scrollbars", f"--user-data-dir={self._profile.name}", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [*command, "about:blank"], preexec_fn=hand_over, close_fds=False, stderr=subprocess.DEVNULL
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._out, self._in = ours[1], theirs[0]
        self._session = ""
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self(f"{domain}.enable")

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)
        self._profile.cleanup()

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(60)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self, seconds: float) -> dict[str, Any]:
        """The next message, of which events are noted; {} when none comes in time."""
        deadline = time.monotonic() + seconds
        while b"\0" not in self._read:
            ready, _w, _x = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return {}
            data = os.read(self._in, 1 << 20)
            assert data, "chromium has ended"
            self._read += data
        text, _end, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        method, about = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(json.dumps(about))
        return message

    def open(self, url: str, wide: int, high: int, media: str = "screen", scheme: str = "light") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self("Emulation.setEmulatedMedia", media=media, features=features)
        self("Emulation.setDeviceMetricsOverride", width=wide, height=high, deviceScaleFactor=1, mobile=False)
        self("Page.navigate", url=url)
        while self._next(60).get("method") != "Page.loadEventFired":
            pass
        self.value("new Promise(done => setTimeout(done, 300))")  # what a page does after it has loaded

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript comes to in the page."""
        found = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self) -> bytes:
        return base64.b64decode(self("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"])

    def pdf(self) -> bytes:
        return base64.b64decode(self("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])
