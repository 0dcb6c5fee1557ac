# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that has imported what all modules import, and forks one for each module that it is asked to run.

Python's start and Ansible's imports are most of what a module's process computes, and the tests run hundreds. Its
standard input is a JSON object a line, `{"module", "input", "environment", "path", "directory", "umask"}`; for each it
writes `{"stdout", "stderr", "returncode"}`. It has imported nothing of this collection.
"""

import json
import os
import runpy
import selectors
import sys
import tempfile

import ansible.module_utils.basic  # noqa: F401
import ansible.module_utils.urls  # noqa: F401

OWN = os.path.dirname(os.path.abspath(__file__))


def become(asked, stdout, stderr):
    """This process becomes the module's, whose end is the end of the program."""
    with tempfile.TemporaryFile() as given:
        given.write(asked["input"].encode())
        given.seek(0)
        for handle, number in ((given.fileno(), 0), (stdout, 1), (stderr, 2)):
            os.dup2(handle, number)
    tempfile.tempdir = None
    os.closerange(3, 64)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["directory"])
    os.umask(asked["umask"])
    for stream, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        setattr(sys, stream, open(number, mode, encoding="utf-8", closefd=False))
    sys.path[:] = [os.path.dirname(asked["module"]), *asked["path"], *(path for path in sys.path if path != OWN)]
    sys.argv[:] = [asked["module"]]
    runpy.run_path(asked["module"], run_name="__main__")


def collect(pid, handles):
    """What is written to both until nobody holds them open any more, and how the process ended."""
    said = {handle: b"" for handle in handles}
    with selectors.DefaultSelector() as waits:
        for handle in handles:
            waits.register(handle, selectors.EVENT_READ)
        while waits.get_map():
            for key, _events in waits.select():
                part = os.read(key.fd, 65536)
                said[key.fd] += part
                if not part:
                    waits.unregister(key.fd)
                    os.close(key.fd)
    stdout, stderr = (text.decode("utf-8", "replace") for text in said.values())
    return {
        "stdout": stdout,
        "stderr": stderr,
        "returncode": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]),
    }


def main():
    while line := sys.stdin.readline():
        asked = json.loads(line)
        (reads, stdout), (reads_errors, stderr) = os.pipe(), os.pipe()
        pid = os.fork()
        if not pid:
            become(asked, stdout, stderr)
            return
        os.close(stdout)
        os.close(stderr)
        print(json.dumps(collect(pid, (reads, reads_errors))), flush=True)


if __name__ == "__main__":
    main()
