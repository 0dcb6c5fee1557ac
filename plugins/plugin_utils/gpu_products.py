# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's GPUs as data: what a plan, or a check with a threshold, needs to know of a product. Pure.

Sources: ``memory_mib`` is what real outputs of nvidia-smi print (tests/unit/fixtures/nvidia_smi, and outputs in public
repositories); ``reserved_mib`` is what the driver keeps of it, from the same outputs, None where none was seen.
``capability`` is NVIDIA's page "CUDA GPUs". ``nvlink_gb_s`` (both directions, all links) and ``bandwidth_gb_s`` (the
GPU's memory) are NVIDIA's data sheets; those of products for China (A800, H800, H20, L20) have none that is public and
are of resellers' pages and of DeepSeek's papers (DeepSeek-V3 report, section 3.2.2: H800's NVLink 160 GB/s one way
measured, 400 GB/s nominal in both). ``unverified`` names what nobody could check at its source.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.words import nearest


class Product(NamedTuple):
    """One product with one size of memory."""

    name: str  # as `dsdeploy plan --gpus` takes it; what nvidia-smi prints is understood, too
    gb: int  # the nominal memory, by which people tell it from its siblings
    memory_mib: int
    reserved_mib: Optional[int]
    capability: str
    nvlink_gb_s: int  # 0: it has none
    bandwidth_gb_s: int
    unverified: Tuple[str, ...] = ()

    @property
    def fp8(self) -> bool:
        """Whether its tensor cores multiply FP8 (Ada Lovelace, Hopper and later)."""
        return number_of(self.capability) >= (8, 9)

    @property
    def fp4(self) -> bool:
        """Whether they multiply FP4 (Blackwell and later)."""
        return number_of(self.capability) >= (10, 0)


_CHINA = ("nvlink_gb_s", "bandwidth_gb_s")
PRODUCTS: Tuple[Product, ...] = (
    Product("T4-16GB", 16, 15360, None, "7.5", 0, 320),
    Product("V100-32GB", 32, 32510, None, "7.0", 300, 900),
    Product("RTX3090-24GB", 24, 24576, None, "8.6", 112, 936),
    Product("RTX4090-24GB", 24, 24564, None, "8.9", 0, 1008),
    Product("RTX5090-32GB", 32, 32607, None, "12.0", 0, 1792),
    Product("RTXA6000-48GB", 48, 49140, None, "8.6", 112, 768),
    Product("RTX6000Ada-48GB", 48, 49140, None, "8.9", 0, 960),
    Product("RTXPRO6000-96GB", 96, 97887, None, "12.0", 0, 1792),
    Product("A10-24GB", 24, 23028, None, "8.6", 0, 600),
    Product("A40-48GB", 48, 46068, None, "8.6", 112, 696),
    Product("L4-24GB", 24, 23034, None, "8.9", 0, 300),
    Product("L20-48GB", 48, 46068, None, "8.9", 0, 864, ("bandwidth_gb_s",)),
    Product("L40S-48GB", 48, 46068, None, "8.9", 0, 864),
    Product("A100-40GB", 40, 40960, 605, "8.0", 600, 1555),
    Product("A100-80GB", 80, 81920, None, "8.0", 600, 2039),
    Product("A800-80GB", 80, 81920, None, "8.0", 400, 2039, _CHINA),
    Product("H100-80GB", 80, 81559, 480, "9.0", 900, 3350),
    Product("H800-80GB", 80, 81559, 551, "9.0", 400, 3350, _CHINA),
    Product("H20-96GB", 96, 97871, None, "9.0", 900, 4000, _CHINA),
    Product("H20-141GB", 141, 143771, None, "9.0", 900, 4800, ("memory_mib", *_CHINA)),
    Product("H200-141GB", 141, 143771, 616, "9.0", 900, 4800),
    Product("GH200-96GB", 96, 97871, 586, "9.0", 900, 4000),
    Product("B200-180GB", 180, 183359, None, "10.0", 1800, 8000),
)

LARGEST_HOST = 16  # GPUs of one host that are sold
_WORD = re.compile(r"[A-Z0-9]+(?:[ -][A-Z0-9]+)*")


def number_of(version: str) -> Tuple[int, ...]:
    """``9.0`` as ``(9, 0)``."""
    return tuple(int(part) for part in version.split("."))


def _key(word: str) -> str:
    """The name without what people write in many ways: case, blanks, dashes, NVIDIA, GeForce, GiB."""
    word = re.sub(r"NVIDIA|GEFORCE|TESLA|SXM\d?|PCIE|HBM\d?E?", "", word.upper())
    word = re.sub(r"G(?:I)?B\b", "GB", word)
    return re.sub(r"[\s_-]+", "", word)


def find(word: str) -> Product:
    """The product that a user names: ``H800-80GB``, ``h800``, ``RTX 4090``; ValueError, one line, for what is none."""
    by_key = {_key(one.name): one for one in PRODUCTS}
    key = _key(word)
    if key in by_key:
        return by_key[key]
    alone = [one for one in PRODUCTS if _key(one.name)[: -len("%dGB" % one.gb)] == key]
    if len(alone) == 1:
        return alone[0]
    if alone:
        raise ValueError("%s is sold as %s: say which" % (word, " and ".join(one.name for one in alone)))
    size = re.match(r"(\d{1,4})GB\Z", key)
    if size:
        such = [one.name for one in PRODUCTS if one.gb == int(size.group(1))]
        raise ValueError(
            "%s is a size, not a GPU: %s" % (word, "say which, such as %s" % ", ".join(such) if such else known())
        )
    stem = re.sub(r"-?\d+\s*GI?B\Z", "", word.strip().upper())
    same = [one.name for one in PRODUCTS if _key(one.name) == "%s%dGB" % (_key(stem), one.gb)]
    if same:
        raise ValueError("there is no %s: it is sold as %s" % (word, " and ".join(same)))
    names = dict({_key(one.name.rpartition("-")[0]): one.name for one in PRODUCTS},
                 **{name: one.name for name, one in by_key.items()})  # fmt: skip
    near = nearest(key, list(names))
    guess = "; did you mean %s?" % names[near] if near else ""
    raise ValueError("%s is not in the table of GPUs%s (%s)" % (word, guess, known()))


def known() -> str:
    """All names in one line."""
    return "known: %s" % ", ".join(one.name for one in PRODUCTS)


def machines(text: str) -> Tuple[int, List[Product]]:
    """``(hosts, GPUs of each)`` of what ``--gpus`` is given: ``8xH800-80GB``, ``2x8xH100-80GB``, ``4xL40S,4xA40``.

    ``×`` and ``*`` stand for ``x``. ValueError, one line, for what is none; hosts are alike, so that a list of
    different GPUs is one host.
    """
    found: List[Product] = []
    hosts = 0
    parts = [part.strip() for part in re.sub(r"[×*✕]", "x", text).split(",")]
    for part in parts:
        match = re.match(r"(?:(\d+)\s*x\s*)?(?:(\d+)\s*x\s*)?(?!\d*\s*x\s*\Z)(\S.*)\Z", part, re.I | re.A)
        if not match or not part.isascii():
            raise ValueError("'%s' names no GPUs: write them as 8xH800-80GB, or 2x8xH100-80GB for two hosts" % part)
        counts = [int(one) for one in match.groups()[:2] if one is not None]
        if 0 in counts:
            raise ValueError("'%s' is no GPU at all: the number before x must be 1 or more" % part)
        product = find(match.group(3).strip())
        count, times = (counts or [1])[-1], counts[0] if len(counts) == 2 else 1
        if hosts and times != hosts:
            raise ValueError("'%s': hosts of different kinds are planned one after the other" % text.strip())
        hosts = times
        if count + len(found) > LARGEST_HOST:
            raise ValueError(
                "'%s': no host has more than %d GPUs; write 2x8xH100-80GB for two hosts of 8" % (part, LARGEST_HOST)
            )
        if times > 64:
            raise ValueError("'%s': at most 64 hosts are planned" % part)
        found += [product] * count
    return hosts, found


def facts_of(products: List[Product]) -> Dict[str, Any]:
    """The products as fact ``nvidia_smi`` would have them, idle. What the driver would say is None."""
    gpus = []
    for index, one in enumerate(products):
        gpus.append(
            {
                "index": index,
                "name": "NVIDIA %s" % one.name,
                "memory_total_mib": one.memory_mib,
                "memory_used_mib": 0,
                "memory_free_mib": one.memory_mib - (one.reserved_mib or 0),
                "memory_reserved_mib": one.reserved_mib,
                "compute_capability": one.capability,
                "mig": {"mode": None, "instances": []},
                "processes": [],
            }
        )
    return {"status": "ok", "gpus": gpus, "driver_version": None, "cuda_version": None}
