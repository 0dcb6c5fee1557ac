# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of module gang and of its action plugin."""

from __future__ import annotations

from typing import Any, Dict

OPTIONS: Dict[str, Dict[str, Any]] = {
    "state": {
        "type": "str",
        "choices": ["looked", "compared", "recorded", "shown", "met", "here", "whole", "stopping", "answered"],
        "required": True,
    },
    "size": {"type": "int", "default": 1},
    "name": {"type": "str", "default": ""},
    "record": {"type": "dict", "default": {}},
    "partly": {"type": "bool", "default": False},
    "role": {"type": "str", "default": ""},
    "engine": {"type": "str", "choices": ["vllm", "sglang"]},
    "common": {"type": "dict", "default": {}},
    "address": {"type": "str", "default": ""},
    "interface": {"type": "str", "default": ""},
    "hcas": {"type": "list", "elements": "str", "default": []},
    "gid_index": {"type": "int", "default": -1},
    "port": {"type": "int", "default": 0},
    "timeout": {"type": "int", "default": 20},
    "stop_timeout": {"type": "int", "default": 0},
    "at": {"type": "str", "choices": ["met", "ready", "start"], "default": "met"},
    "has_key": {"type": "bool", "default": False, "no_log": False},
    "guard_port": {"type": "int", "default": 29401},
}
