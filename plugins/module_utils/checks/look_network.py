# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of the network: sections `network`, `infiniband` and `listeners` of look.py."""

from __future__ import annotations

import glob
import os
import socket
from typing import Any, Dict, List

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import TIMEOUT, Place, text, whole
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import aside
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import is_loopback
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import sockets, users

SSH = 22  # port; who holds it is no question


def network(place: Place) -> Dict[str, Any]:
    name = socket.gethostname()
    problem, addresses = "", []
    try:
        # Aside: a resolver that does not answer takes minutes.
        addresses = aside(lambda: sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None)}), TIMEOUT)
    except OSError as error:
        problem = one_line(str(error).rpartition("] ")[2], 80)
    links = []
    for path in sorted(glob.glob(place.at("/sys/class/net/") + "*")):
        if os.path.basename(path) == "lo" or not os.path.isdir(path):
            continue
        links.append(
            {
                "name": os.path.basename(path),
                "state": text(os.path.join(path, "operstate")),
                "carrier": whole(os.path.join(path, "carrier")) == 1,
                "downs": whole(os.path.join(path, "carrier_down_count")),
                "physical": os.path.exists(os.path.join(path, "device")),
                "mtu": whole(os.path.join(path, "mtu")),
            }
        )
    return {"name": name, "addresses": addresses, "problem": problem, "links": links}


def infiniband(place: Place) -> List[Dict[str, Any]]:
    """The ports of InfiniBand and RoCE cards. `gids`: of a RoCE port, the indexes of RoCE v2 for an IPv4 address;
    `interface`: the network interface of the first of them."""
    found = []
    for path in sorted(glob.glob(place.at("/sys/class/infiniband/") + "*/ports/*")):
        words = path.split("/")
        found.append(
            {
                "device": words[-3],
                "card": text(os.path.join("/".join(words[:-2]), "hca_type")),
                "port": words[-1],
                "state": text(os.path.join(path, "state")).rpartition(": ")[2],
                "rate": text(os.path.join(path, "rate")),
                "downed": whole(os.path.join(path, "counters/link_downed")),
                "roce": text(os.path.join(path, "link_layer")) == "Ethernet",
                "gids": _gids(path),
                "interface": _interface(path),
            }
        )
    return found


def _gids(port: str) -> List[int]:
    found = []
    for path in glob.glob(os.path.join(port, "gid_attrs/types/*")):
        index = os.path.basename(path)
        address = text(os.path.join(port, "gids", index)).lower()
        # ::ffff:10.0.0.1, written out in whole.
        if index.isdigit() and text(path) == "RoCE v2" and address.startswith("0000:0000:0000:0000:0000:ffff:"):
            found.append(int(index))
    return sorted(found)


def _interface(port: str) -> str:
    paths = sorted(glob.glob(os.path.join(port, "gid_attrs/ndevs/*")), key=lambda path: (len(path), path))
    return next(filter(None, map(text, paths)), "")


def listeners(_place: Place) -> List[Dict[str, Any]]:
    """TCP ports that listen: `{address, port, user, program}`; `program` is None for one that cannot be seen."""
    found = [one for one in sockets.listeners(sockets.read()) if one.protocol.startswith("tcp")]
    owners: Dict[str, str] = {}
    if any(not is_loopback(one.address) and one.port != SSH for one in found):
        for directory in glob.glob("/proc/[0-9]*/fd"):
            try:
                links = [os.readlink(os.path.join(directory, name)) for name in os.listdir(directory)]
            except OSError:
                continue
            inodes = [link[8:-1] for link in links if link.startswith("socket:[")]
            if inodes:
                name = text(os.path.join(os.path.dirname(directory), "comm"))
                words = text(os.path.join(os.path.dirname(directory), "cmdline")).split(" ")
                # `python3` says little: the words after it name what it runs.
                words = [os.path.basename(word) for word in words[:3]]
                # A process that has named itself has its name, cut to 15 letters, and that as its only word.
                shown = one_line(" ".join(words if words[0].startswith(name) else [name, *words]), 80)
                owners.update(dict.fromkeys(inodes, shown))
    return [
        {
            "address": one.address,
            "port": one.port,
            "user": users.named(one.uid) or str(one.uid),
            "program": owners.get(one.inode),
        }
        for one in found
    ]
