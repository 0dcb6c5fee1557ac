# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CMake and Ninja are asked, and what their output means. Pure: module `cmake_build` runs them."""

from __future__ import annotations

import collections
import re
import signal
from typing import Deque, Dict, List, Optional, Tuple

TAIL_LINES = 30
LONGEST_LINE = 500  # characters; a failed link prints all its object files in one line

# Set in Ninja's environment, so that its lines can be read: finished and total steps (ninja manual, NINJA_STATUS).
NINJA_STATUS = "[%f/%t] "
_PROGRESS = re.compile(r"^\[(\d+)/(\d+)\] ")

# Kinds of lines that say what is wrong, the more telling first: a compiler's error inside CMake's own report of it
# (try_compile) says more than that report, and a full disk explains whatever the compiler said of it.
_CAUSES = [
    (
        re.compile(r"No space left on device"),
        "The disk is full: free space on the file system of {directory}.",
    ),
    (
        re.compile(
            r"Killed signal terminated program|(^|: |sh: \d+: )Killed\b|[Cc]annot allocate memory|out of memory"
        ),
        "A compiler was killed, most likely for lack of memory: run fewer jobs at once (now {jobs}), or add memory.",
    ),
    (
        re.compile(r"#error .*unsupported (GNU|clang) version"),
        "This CUDA toolkit does not know this compiler: install a compiler that it names and give its path in "
        "-DCMAKE_CUDA_HOST_COMPILER=..., or install a newer CUDA toolkit.",
    ),
    (
        re.compile(r"Unsupported gpu architecture|CUDA_ARCHITECTURES.*is (empty|not)"),
        "This CUDA toolkit (nvcc --version) does not know this GPU architecture: install a toolkit that does.",
    ),
    (
        re.compile(r"No CMAKE_\w+_COMPILER could be found|CMAKE_\w+_COMPILER.* not a full path to an existing"),
        "The compiler is missing: install it, or give its path.",
    ),
    (
        re.compile(r"CMake \d[\d.]* or higher is required"),
        "This CMake is too old for this source: install a newer one, or build an older version.",
    ),
    (
        re.compile(r"Could NOT find \w+|Could not find a package configuration file|fatal error: .*: No such file"),
        "A library that the build needs is missing: install its development package, or switch off what needs it.",
    ),
]
_ERRORS = [
    re.compile(r"(?::|^)\s*(?:fatal )?error(?: [A-Z]*\d+)?\s*:|: #error |nvcc (?:fatal|error)|^ptxas (?:fatal|error)"),
    re.compile(r"undefined reference to|cannot find -l|multiple definition of"),
]
_CMAKE_ERROR = re.compile(r"^CMake Error")
_LAST_RESORT = re.compile(r"^(ninja: (error|fatal)|FAILED: |collect2: error)")


def configure_argv(cmake: str, source: str, build: str, cmake_args: List[str]) -> List[str]:
    """The configure command. Programs go to `<build>/bin`, wherever the project's own targets are."""
    own = ["-DCMAKE_RUNTIME_OUTPUT_DIRECTORY=" + build + "/bin"]
    return [cmake, "-G", "Ninja", "-S", source, "-B", build] + own + list(cmake_args)


def build_argv(ninja: str, build: str, jobs: int, targets: List[str]) -> List[str]:
    """The build command; `jobs` compilers at once."""
    return [ninja, "-C", build, "-j", str(jobs)] + list(targets)


def targets_argv(ninja: str, build: str) -> List[str]:
    """The command that lists all targets of a configured tree."""
    return [ninja, "-C", build, "-t", "targets", "all"]


def known_targets(listing: str, wanted: List[str]) -> Tuple[List[str], List[str]]:
    """`(there, missing)` of the wanted targets, by the output of `targets_argv` (`NAME: RULE` lines)."""
    there = {line.rpartition(":")[0] for line in listing.splitlines()}
    return [name for name in wanted if name in there], [name for name in wanted if name not in there]


def progress(line: str) -> Optional[Tuple[int, int]]:
    """`(finished, total)` steps when this is a line of Ninja's progress, printed with `NINJA_STATUS`."""
    found = _PROGRESS.match(line)
    return (int(found.group(1)), int(found.group(2))) if found else None


def shallowest(paths: List[str]) -> List[str]:
    """The paths (of CMakeLists.txt files) with the fewest directories above them."""
    least = min((path.count("/") for path in paths), default=0)
    return [path for path in paths if path.count("/") == least]


class Output:
    """What a build printed: its last lines, and the first line of each kind that says what is wrong."""

    def __init__(self) -> None:
        self._tail: Deque[str] = collections.deque(maxlen=TAIL_LINES)
        self._first: Dict[str, str] = {}
        self._hint = ""
        self._report: List[str] = []  # CMake's first report of an error: its head and its first paragraph
        self._in_report = False
        self._paragraph_ended = False

    def feed(self, line: str) -> None:
        """Take one line, in the order printed, without its line end."""
        line = line.rstrip()[:LONGEST_LINE]
        if line:
            self._tail.append(line)
        reported = self._feed_report(line)
        for cause, hint in _CAUSES:
            if cause.search(line):
                # Of several causes in one output the first one printed came first.
                if not self._hint:
                    self._hint = hint
                if not reported:
                    self._first.setdefault("cause", line.strip())
                return
        if any(error.search(line) for error in _ERRORS):
            self._first.setdefault("error", line.strip())
        elif _LAST_RESORT.search(line):
            self._first.setdefault("last", line.strip())

    def _feed_report(self, line: str) -> bool:
        """Whether the line is CMake's own words: "CMake Error at FILE:LINE (COMMAND):" and paragraphs after it.

        They are indented by two; by four is what CMake quotes, such as a compiler's output. The first paragraph
        is what is kept.
        """
        if _CMAKE_ERROR.match(line):
            self._in_report = True
            if not self._report:
                self._paragraph_ended = False
                self._report.append(line.strip())
            return True
        own = self._in_report and (not line or line.startswith("  ") and not line.startswith("    "))
        if self._in_report and line and not line.startswith("  "):
            self._in_report = False
        if own and line and not self._paragraph_ended:
            self._report.append(line.strip())
        elif len(self._report) > 1:
            self._paragraph_ended = True
        return own

    def first_error(self) -> str:
        """The line that says best why it failed; empty when there is none."""
        self._first.setdefault("report", " ".join(self._report)[:LONGEST_LINE])
        return next((self._first[kind] for kind in ("cause", "error", "report", "last") if self._first.get(kind)), "")

    def hint(self, directory: str, jobs: int) -> str:
        """What to do about it; empty when the output does not tell."""
        return self._hint.format(directory=directory, jobs=jobs)

    def tail(self) -> List[str]:
        """The last lines, at most `TAIL_LINES`, without empty ones."""
        return list(self._tail)


def how_it_ended(returncode: int) -> str:
    """An exit status for people: `exit status 1`, `killed by SIGKILL`."""
    if returncode >= 0:
        return "exit status %d" % returncode
    try:
        return "killed by %s" % signal.Signals(-returncode).name
    except ValueError:
        return "killed by signal %d" % -returncode


def start_hint(returncode: Optional[int], output: str) -> str:
    """What to do when a program that was just built or unpacked does not run."""
    library = re.search(r"error while loading shared libraries: ([^:\s]+)", output)
    if library:
        return "Install the package that holds %s." % library.group(1)
    if re.search(r"version `[^']+' not found", output):
        return "It was built for a newer system than this one: build it on this host."
    if returncode == -signal.SIGILL:
        return "This processor lacks an instruction set that was compiled in: switch it off in the CMake arguments."
    return ""
