# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`ollama runner --model PATH --port PORT`: the child process that holds a loaded model, on a port of loopback.

As with the real one nothing ends it when the server dies of SIGKILL but whoever ends the whole group.
"""

from __future__ import annotations

import contextlib
import socket


def main(arguments):
    port = int(arguments[arguments.index("--port") + 1])
    with socket.create_server(("127.0.0.1", port)) as listening:
        while True:
            connection, _address = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                connection.recv(65536)
                body = b'{"status":"ok","progress":1}'
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                    + body
                )
