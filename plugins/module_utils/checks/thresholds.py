# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is normal, by model of GPU. Pure data with its sources; None is not known, and then not judged."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional


class Normal(NamedTuple):
    """Of one GPU model.

    :ivar nvlinks: links that each GPU has on a machine where all of them are connected.
    :ivar all_reduce_gb_s: least bus bandwidth of an all-reduce over the GPUs of one machine, in GB/s (10^9).
    :ivar host_copy_gb_s: least bandwidth of a copy from pinned memory of the host, in GB/s.
    """

    nvlinks: Optional[int]
    all_reduce_gb_s: Optional[float]
    host_copy_gb_s: Optional[float]


# NVLink: 18 links of 50 GB/s are the 900 GB/s of H100, H200 and H20 (data sheets); 400 GB/s of H800 and A800 are 8;
# A100 has 12. All-reduce: nccl-tests#212 (H100 about 480), azurehpc-health-checks (fails below 460), nccl#1374 (H800
# about 215); the floors leave a tenth. Host copies: azurehpc-health-checks nd96isr_h100_v5 (48 GB/s on Gen5 x16); Gen4
# is half of that.
_TABLE = (
    (r"\bH(?:100|200) (?:PCIe|NVL)\b", Normal(None, None, 48.0)),
    (r"\bH(?:100|200)\b", Normal(18, 430.0, 48.0)),
    (r"\bH800 PCIe\b", Normal(None, None, 48.0)),
    (r"\bH800\b", Normal(8, 190.0, 48.0)),
    (r"\bH20\b", Normal(18, 430.0, 48.0)),
    (r"\bA100[- ]SXM", Normal(12, None, 20.0)),
    (r"\bA800[- ]SXM", Normal(8, None, 20.0)),
    (r"\bB(?:100|200|300)\b", Normal(18, None, 48.0)),
)
UNKNOWN = Normal(None, None, None)


def normal(name: Optional[str]) -> Normal:
    """What is normal for a GPU of this name, as nvidia-smi gives it."""
    return next((found for pattern, found in _TABLE if re.search(pattern, name or "")), UNKNOWN)
