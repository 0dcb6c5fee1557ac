# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file that is put together from pieces which several hosts give, before any of them has all of it.

So all links of the hosts work while the hub still gives the file to one of them, also where a model is one file. A
piece has no hash: only the whole file tells whether all of them were right (`swarm` says what becomes of one that is
not).
"""

from __future__ import annotations

import os

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.chunk_journal import CHUNK, PartFile
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import READ, OpenFile
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import HttpError, shown

PIECES = 64  # of a file, about, ...
MOST = 16  # ... as long as a piece has no more chunks than these
LEAST = 4 * CHUNK  # bytes; smaller files are taken whole


def is_cut(size):
    """Whether a file of so many bytes is worth pieces."""
    return size >= LEAST


def unit_of(size):
    """Chunks of a piece of such a file: few enough that there is something to give soon, and not a request for each."""
    return max(1, min(MOST, size // CHUNK // PIECES))


class Assembly:
    """One such file.

    :ivar mine: pieces that are here, as bits. `taken`: those under way. `over`: no more are to be taken.
    """

    def __init__(self, remote, directory, place, hosts):
        path = os.path.join(directory, remote.path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.remote = remote
        self.part = PartFile(path, remote.size, remote.sha256)
        self.item = OpenFile(remote, self.part)
        self.unit = unit_of(remote.size)
        self.size = self.unit * CHUNK
        self.count = -(-remote.size // self.size)
        self.full = (1 << self.count) - 1
        self.mine = self.part.there(self.unit)
        # Those that this host is the first to pass on.
        self.own = sum(1 << number for number in range(place, self.count, hosts))
        self.taken, self.over = 0, False

    def wanted(self):
        return 0 if self.over else self.full & ~self.mine & ~self.taken

    def done_bytes(self):
        return self.part.done_bytes()

    def fetch(self, client, url, headers, number, came):
        """Fetch one piece. HttpError where it is not given, Failure where something else is.

        :param came: called with the count of bytes that came; ends the fetch by an exception.
        """
        position, end = number * self.size, min((number + 1) * self.size, self.remote.size)
        asked = "bytes %d-%d/%d" % (position, end - 1, self.remote.size)
        buffer = memoryview(bytearray(READ))
        with client.open(url, dict(headers, Range="bytes=%d-%d" % (position, end - 1))) as response:
            if response.status != 206 or response.headers.get("Content-Range") != asked:
                raise Failure("%s answered something else than piece %d" % (shown(response.url), number))
            while position < end:
                count = response.readinto(buffer[: min(READ, end - position)])
                if not count:
                    raise HttpError("%s ended at byte %d of %d" % (shown(response.url), position, end))
                came(count)
                self.part.write(buffer[:count], position)
                position += count
        self.part.mark(number * self.size, end)

    def close(self):
        """Keep what is here for a later run, or for whoever takes the file otherwise."""
        try:
            self.part.sync()
        finally:
            self.part.close()
