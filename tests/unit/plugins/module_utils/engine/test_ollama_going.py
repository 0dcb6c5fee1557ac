# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which models of Ollama's store are removed, and what is said of it."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama_store import Stored, going, told

NAMES = ("mine:latest", "new:q4", "Yours:latest")
STORED = [Stored(name, f"/store/{name}", "sha256:0", None, {}, 0, 0) for name in NAMES]
# The second was made before the note had the catalog's name.
OURS = {"mine:latest": "deepseek-r1", "new:q4": None}


@pytest.mark.parametrize(
    ("wanted", "all_of_ours", "names"),
    [
        ([], False, []),
        ([], True, ["mine:latest", "new:q4"]),
        (["MINE"], False, ["mine:latest"]),
        (["mine:latest"], False, ["mine:latest"]),
        (["DeepSeek-R1"], False, ["mine:latest"]),
        (["new"], False, []),
        (["new:q4"], False, ["new:q4"]),
        # Somebody else's.
        (["yours", "Yours:latest"], False, []),
        (["yours"], True, ["mine:latest", "new:q4"]),
    ],
)
def test_ours_go_by_either_name_and_nobody_elses(wanted, all_of_ours, names):
    assert [one.name for one in going(STORED, OURS, wanted, all_of_ours)] == names


def test_what_is_said_of_it():
    kept = [{"name": "Yours:latest", "bytes": 3 << 20}]
    assert told([], [], "/store") == ""
    assert told(["a", "b"], [], "/store") == "removed from Ollama's store: a, b"
    assert told(["a"], kept, "/store") == (
        "removed from Ollama's store: a; /store keeps models that dsdeploy has not made: Yours:latest (3.0 MiB)"
    )
