# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixed paths stand in places.py alone; what documents or templates repeat is what stands there."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils import places

ROOT = Path(__file__).resolve().parents[4]
FIXED = re.compile(r"/(?:etc|run)/dsdeploy[A-Za-z0-9_./-]*")
KNOWN = {value for name, value in vars(places).items() if name.isupper()}
PLUGINS = sorted(path for path in (ROOT / "plugins").rglob("*.py") if path.name != "places.py")


def code_strings(path):
    """String constants of a file that are neither its documents nor docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and node.targets[0].__class__ is ast.Name:
            if node.targets[0].id in ("DOCUMENTATION", "EXAMPLES", "RETURN"):
                documents.add(node.value)
        elif isinstance(node, ast.Expr):
            documents.add(node.value)
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documents
    ]


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_no_code_has_a_fixed_path_of_its_own(path):
    assert [text for text in code_strings(path) if FIXED.search(text)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "plugins/modules").glob("*.py")), ids=lambda path: path.stem)
def test_documented_defaults_are_those_of_places(path):
    source = path.read_text(encoding="utf-8")
    document = re.search(r'DOCUMENTATION = r?"""\n(.*?)"""', source, re.S).group(1)
    for option in (yaml.safe_load(document).get("options") or {}).values():
        default = option.get("default")
        assert not (isinstance(default, str) and FIXED.match(default)) or default in KNOWN


def test_the_roles_have_the_same_directory():
    variables = yaml.safe_load((ROOT / "roles/_common/vars/main.yml").read_text())
    assert variables["_dsdeploy_config_dir"] == places.CONFIG


def test_no_variable_moves_what_every_run_must_find():
    texts = [path.read_text() for path in (ROOT / "roles").rglob("*.yml")]
    assert not [text for text in texts if re.search(r"(?<!_)dsdeploy_config_dir", text)]
