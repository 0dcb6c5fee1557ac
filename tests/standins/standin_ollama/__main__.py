# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`ollama serve`, `ollama runner …` (its child process), `ollama --version`."""

from __future__ import annotations

import os
import sys

if __package__ == "":  # run by the path of its directory, or as the one file of the archive
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from standin_ollama import VERSION, write_archive


def main(arguments):
    if arguments[:1] == ["archive"]:
        print(*write_archive(*arguments[1:3]))
    elif arguments[:1] == ["runner"]:
        from standin_ollama import runner

        runner.main(arguments[1:])
    elif arguments == ["serve"]:
        from standin_ollama import server

        try:
            server.serve(dict(os.environ))
        except OSError as error:
            # As Go tells it.
            what = f"{error.filename}: " if error.filename else ""
            sys.exit(f"Error: {what}{(error.strerror or str(error)).lower()}")
    elif arguments == ["--version"]:
        print("Warning: could not connect to a running Ollama instance")
        print(f"Warning: client version is {VERSION}")
    else:
        sys.exit("usage: ollama serve | --version")


main(sys.argv[1:])
