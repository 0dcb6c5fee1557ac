# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release is current, which can be gone back to, and what is removed."""

import json
import os

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import releases
from run_module import run


@pytest.fixture
def root(tmp_path):
    """Three releases with their locks, none of them current."""
    for name in ("1", "2", "3"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.lock").write_text("")
    (tmp_path / ".cache").mkdir()
    return tmp_path


def answered(root, name):
    (root / name / releases.SERVED).write_text("{}")


def test_a_bare_host_has_none_and_check_mode_makes_none(tmp_path):
    root = str(tmp_path / "vllm")
    assert run("python_releases", {"root": root})["current"] == ""
    told = run("python_releases", {"root": root, "release": "1"}, check=True)
    assert told["changed"] and told["current"] == "1" and not os.path.exists(root)
    assert not run("python_releases", {"root": root, "served": "{}"}, check=True)["changed"]


def test_one_that_has_answered_can_be_gone_back_to(root):
    first = run("python_releases", {"root": str(root), "release": "1"})
    assert (first["changed"], first["current"], first["can_go_back"]) == (True, "1", False)
    assert not run("python_releases", {"root": str(root), "release": "1"})["changed"]
    answered(root, "1")
    second = run("python_releases", {"root": str(root), "release": "2"})
    assert (second["previous"], second["can_go_back"], second["has_answered"]) == ("1", True, False)
    # 2 never answered: it is nothing to go back to.
    third = run("python_releases", {"root": str(root), "release": "3"})
    assert (third["current"], third["previous"], third["can_go_back"]) == ("3", "1", True)


def test_going_back_changes_the_places_of_two_that_have_answered(root):
    releases.switch(str(root), "1")
    answered(root, "1")
    releases.switch(str(root), "2")
    answered(root, "2")
    back = run("python_releases", {"root": str(root), "release": "1"})
    assert (back["current"], back["previous"], back["can_go_back"]) == ("1", "2", True)


@pytest.mark.parametrize(
    ("served", "hosts"),
    [
        ('{"record": {"gang": {"hosts": ["gpu1", "gpu2"], "rank": 1}}}', ["gpu1", "gpu2"]),
        ('{"record": {"engine": "vllm"}}', []),
        ("{", []),
        ('{"record": {"gang": 5}}', []),
    ],
)
def test_who_served_the_one_before_together_goes_back_together(root, served, hosts):
    releases.switch(str(root), "1")
    (root / "1" / releases.SERVED).write_text(served)
    alone = run("python_releases", {"root": str(root), "release": "2"})
    assert releases.look(str(root)).previous_gang == hosts
    assert alone["can_go_back"] is not bool(hosts) and bool(alone["why_not_back"]) is bool(hosts)
    assert not hosts or alone["why_not_back"]["msg"].endswith(
        "1 was served by gpu1, gpu2 together, and 2 is not: nothing was changed"
    )
    together = run("python_releases", {"root": str(root), "gang": ["gpu1", "gpu2"]})
    assert (together["can_go_back"], together["why_not_back"]) == (True, None)


def test_one_that_answers_is_noted_and_the_older_ones_go(root):
    releases.switch(str(root), "1")
    answered(root, "1")
    releases.switch(str(root), "3")
    served = {"root": str(root), "served": '{"environment": {"TOKEN": "hunter2"}}'}
    told = run("python_releases", dict(served, _ansible_diff=True), check=True)
    assert told["changed"] and told["removed"] == [str(root / "2"), str(root / "2.lock")] and (root / "2").exists()
    told = run("python_releases", served)
    assert told["changed"] and told["has_answered"] and "hunter2" not in str(told)
    note = root / "3" / releases.SERVED
    assert note.stat().st_mode & 0o777 == 0o600 and "hunter2" in note.read_text()
    left = sorted(path.name for path in root.iterdir())
    assert left == [".cache", "1", "1.lock", "3", "3.lock", "current", "previous"]
    assert not run("python_releases", served)["changed"]


@pytest.mark.parametrize("there", [True, False])
def test_one_whose_model_is_gone_is_not_gone_back_to(root, tmp_path, there):
    model = tmp_path / "models/r1/main"
    if there:
        model.mkdir(parents=True)
    releases.switch(str(root), "1")
    served = json.dumps({"record": {"engine": "vllm", "model_path": str(model)}})
    (root / "1" / releases.SERVED).write_text(served)
    found = run("python_releases", {"root": str(root), "release": "2"})
    assert found["can_go_back"] is there
    assert there or str(model) in found["why_not_back"]["msg"]
