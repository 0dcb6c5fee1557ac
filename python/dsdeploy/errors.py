"""Exit codes, and the one exception that carries a message, the next thing to do and the exit code."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit status of `dsdeploy` means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    VERIFY = 3
    UNREACHABLE = 4
    REBOOT = 5
    INTERRUPTED = 130


MEANING = {
    ExitCode.OK: "everything asked for is done",
    ExitCode.FAILED: "a host failed",
    ExitCode.USAGE: "wrong usage, inventory or variable; nothing to retry until it is corrected",
    ExitCode.VERIFY: "deployed, but the service does not answer as it should (status: recorded, not ready)",
    ExitCode.UNREACHABLE: "a host could not be reached",
    ExitCode.REBOOT: "prepared, but a host needs a reboot before it can go on",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C or a signal",
}

# Several hosts can end differently: the code is that of the trouble to look at first. An input that is wrong
# comes before a host that failed because of it; a host that failed tells more than one that never answered.
PRECEDENCE = (
    ExitCode.INTERRUPTED,
    ExitCode.USAGE,
    ExitCode.FAILED,
    ExitCode.UNREACHABLE,
    ExitCode.REBOOT,
    ExitCode.VERIFY,
    ExitCode.OK,
)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The one exit code for many outcomes, by PRECEDENCE; OK when there are none."""
    return min(codes, key=PRECEDENCE.index, default=ExitCode.OK)


class DsdeployError(Exception):
    """Ends the command: `message` says what and where, `hint` how to fix it."""

    def __init__(self, message: str, hint: str = "", exit_code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
