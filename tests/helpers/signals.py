# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests start hears signals as from a terminal, however the tests themselves were started."""

import signal


def hear() -> None:
    """A shell's job in the background inherits that SIGINT is ignored, and nohup's that SIGHUP is: so would all that
    the tests start, and what ignores a signal because its caller does would not be stopped by it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
