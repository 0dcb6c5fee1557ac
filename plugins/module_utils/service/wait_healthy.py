# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The start check of a unit: wait until a URL answers as an engine that can take questions: any status but 5xx.

It is installed on hosts as a program of its own, so it needs nothing but Python's own library.

usage: wait_healthy.py URL

The one who starts this sets the time limit (systemd's TimeoutStartSec), and names the
process that is to answer in MAINPID, as systemd does: when that dies there is nothing to
wait for, and systemd itself would go on waiting for this to end.
"""

from __future__ import annotations

import os
import ssl
import sys
import time
import urllib.error
import urllib.request


def main(url):
    # Its own service's health is asked for over loopback, where no public name can be proven.
    context = ssl._create_unverified_context()
    # A proxy in the environment is not on the way to a service of this host.
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    while os.path.exists("/proc/" + os.environ["MAINPID"]):
        try:
            opener.open(url, timeout=5).close()
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.5)
    raise SystemExit("the engine died before it answered at " + url)


if __name__ == "__main__":
    main(sys.argv[1])
