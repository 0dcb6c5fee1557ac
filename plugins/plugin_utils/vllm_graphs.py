# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many CUDA graphs vLLM keeps, which is most of what it takes of a GPU beside weights and cache. Pure."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.parameters import version_key
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.mistakes import is_eager

LARGEST = 512  # sequences in a batch that has a graph (vLLM config/vllm.py, max_cudagraph_capture_size)
SEQUENCES = 256  # that vLLM serves at the same time where nothing is set: so many or more on any GPU
# Since when it takes what is known here (`parallel.overhead_range`): 0.26.0 took much less.
SINCE = "0.32.0"
_SAYS_ITSELF = ("--cudagraph-", "--max-cudagraph-", "--compilation-config", "-cc", "-O")


def vllm_graphs(version: Optional[str], settings: Dict[str, Any], max_num_seqs: Any = None) -> Optional[int]:
    """Sizes of batches that have CUDA graphs: 1, 2, 4, then by 8, from 256 by 16, up to twice the sequences.

    :param settings: the role's, without its prefix: ``enforce_eager``, ``max_num_seqs``, ``extra_args``.
    :param max_num_seqs: the recipe's, where the settings say none.
    :returns: 0 in eager mode; ``None`` where it is not known: the arguments say which, or this version was not
        measured.
    """
    if not version or version_key(version) < version_key(SINCE):
        return None
    if is_eager(settings):
        return 0
    if any(str(word).startswith(_SAYS_ITSELF) for word in settings.get("extra_args") or []):
        return None
    largest = min(LARGEST, 2 * int(settings.get("max_num_seqs") or max_num_seqs or SEQUENCES))
    sizes = {1, 2, 4, *range(8, 256, 8), *range(256, LARGEST + 1, 16)}
    return sum(1 for size in sizes if size <= largest)
