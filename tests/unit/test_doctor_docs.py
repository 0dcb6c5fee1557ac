# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/doctor.md and docs/doctor.schema.json say what the checks are."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.make import listing, make
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs/doctor.schema.json").read_text())


def test_the_tables_are_those_of_the_checks():
    done = subprocess.run([sys.executable, ROOT / "tests/lint/doctor_docs.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_check_says_what_it_looks_at_why_how_to_mend_it_and_whence():
    for one in listing():
        assert all(one[key].strip() for key in ("title", "why", "fix", "source")), one
        assert "{" not in one["fix"]
        assert set(one["when"]) <= {"up", "prepare"}
        assert not (one["deep"] and one["when"])


def test_the_schema_is_one_and_this_machine_s_checks_are_of_it(tmp_path):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    found = make(Place(records=str(tmp_path)), only=["system", "disk_space", "engine"])
    event = {"event": "checks", "host": "h", "deep": False}
    event.update({key: found[key] for key in ("status", "counts", "checks")})
    jsonschema.Draft202012Validator(SCHEMA).validate(event)
    event["checks"][0].update(status="fail", fix="")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(event)
