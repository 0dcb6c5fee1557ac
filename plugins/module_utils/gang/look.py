# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host of a gang tells before anything is started: its address and link, its RDMA devices, its clock."""

from __future__ import annotations

import fcntl
import glob
import ipaddress
import os
import socket
import struct
import time
from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import aside
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import is_one_host
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import lock

RESOLVE = 10.0  # s that a name may take
_SIOCGIFADDR = 0x8915  # netdevice(7)


def text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as handle:
            return handle.read().strip()
    except OSError:
        return ""


def resolve(name: str) -> List[str]:
    """The addresses that a name means here; empty where it means none."""
    try:
        return aside(lambda: sorted({str(one[4][0]) for one in socket.getaddrinfo(name, None)}), RESOLVE)
    except OSError:
        return []


def is_own(address: str) -> bool:
    """Whether an address is one of this host's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
            return True
        except OSError:
            return False


def interface_of(address: str, root: str = "/") -> str:
    """The interface that has an address; "" where none is found (a second address of an interface, for example)."""
    if ":" in address:
        wanted = ipaddress.ip_address(address).exploded.replace(":", "")
        for line in text(root + "proc/net/if_inet6").splitlines():
            words = line.split()
            if len(words) == 6 and words[0] == wanted:
                return words[5]
        return ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name in sorted(os.listdir(root + "sys/class/net")):
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return ""


def rdma(root: str = "/") -> List[Dict[str, Any]]:
    """The RDMA devices with a port that works: ``{name, ethernet, gid_index}``.

    `gid_index`: of the first RoCE v2 GID that holds an IPv4 address, which is what routers know; None on InfiniBand,
    and where there is none. Source: Documentation/ABI/stable/sysfs-class-infiniband.
    """
    found = []
    for port in sorted(glob.glob(root + "sys/class/infiniband/*/ports/*")):
        if not text(port + "/state").endswith("ACTIVE"):
            continue
        ethernet = text(port + "/link_layer") == "Ethernet"
        index: Optional[int] = None
        kinds = glob.glob(port + "/gid_attrs/types/*") if ethernet else []
        for path in sorted(kinds, key=lambda path: int(os.path.basename(path))):
            gid = text("%s/gids/%s" % (port, os.path.basename(path)))
            if text(path) == "RoCE v2" and gid.startswith("0000:0000:0000:0000:0000:ffff:"):
                index = int(os.path.basename(path))
                break
        found.append({"name": port.split("/")[-3], "ethernet": ethernet, "gid_index": index})
    return found


def look(names: Dict[str, str], here: str, interface: str = "", root: str = "/") -> Dict[str, Any]:
    """What this host tells.

    :param names: address or name by host of the gang. `here`: this host. `interface`: the one that the user names.
    :returns: ``{address, interface, mtu, hcas, gid_index, resolved, time, place, problem}``; `place`
        (`lock.place`) tells two names of one host; `problem` says on one line why it cannot take part, else "".
    """
    resolved = {host: resolve(name) for host, name in names.items()}
    # Hosts whose names mean several addresses take the same kind, and none that other hosts cannot reach.
    own = sorted(
        (address for address in resolved[here] if is_own(address)),
        key=lambda address: (ipaddress.ip_address(address).is_loopback, ":" in address, address),
    )
    problem = ""
    if not resolved[here]:
        problem = "its own address %s cannot be resolved here" % one_line(names[here], 80)
    elif not own:
        problem = "%s is not an address of this host's own (NAT?)" % ", ".join(resolved[here])
    elif not is_one_host(own[0]):
        problem = "%s is not the address of one host" % own[0]
    elif ipaddress.ip_address(own[0]).is_loopback:
        problem = "%s is a loopback address here, which no other host reaches (/etc/hosts?)" % one_line(names[here], 80)
    address = own[0] if own else ""
    link = interface or (interface_of(address, root) if address else "")
    if not problem and not link:
        problem = "no interface has %s: set dsdeploy_gang_interface" % address
    elif not problem and not os.path.isdir(root + "sys/class/net/" + link):
        problem = "it has no interface %s (dsdeploy_gang_interface)" % one_line(link, 40)
    elif problem:
        problem += ": set dsdeploy_gang_address"
    devices = rdma(root)
    indexes = {device["gid_index"] for device in devices if device["ethernet"]}
    mtu = text("%ssys/class/net/%s/mtu" % (root, link)) if link else ""
    return {
        "address": address,
        "interface": link,
        "mtu": int(mtu) if mtu.isdigit() else None,
        "hcas": [device["name"] for device in devices],
        # One for all of them, or none: NCCL takes one number.
        "gid_index": indexes.pop() if len(indexes) == 1 else None,
        "resolved": resolved,
        "time": time.time(),
        "place": lock.place(),
        "problem": problem,
    }
