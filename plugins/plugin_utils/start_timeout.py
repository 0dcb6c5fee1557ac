# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an engine may take to start."""

from __future__ import annotations

import math

# What a start must not be slower than to count as hung: a cold read from a network disk.
# Users raised the engines' fixed limits to 1,800-3,600 s for 671B models (vllm#35547, ollama#8470).
SLOWEST_READ_BYTES_PER_S = 100_000_000


def start_timeout(model_bytes: int, base_s: int) -> int:
    """Seconds after which a start counts as hung.

    base_s (what the engine needs for a model of no size: imports, kernels, graphs)
    + model_bytes / 100 MB/s (a cold read).

    :param model_bytes: size of the weights in bytes, >= 0.
    :param base_s: seconds, > 0.
    """
    if model_bytes < 0 or base_s <= 0:
        raise ValueError("model_bytes must be >= 0 and base_s > 0, not %r and %r" % (model_bytes, base_s))
    return base_s + math.ceil(model_bytes / SLOWEST_READ_BYTES_PER_S)
