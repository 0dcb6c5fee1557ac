# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments on one host have places of their own."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.common_place import common_place, shared_place

SGLANG = {
    "engine": "sglang",
    "service": {"name": "dsdeploy-sglang"},
    "environment_file": "/etc/dsdeploy/dsdeploy-sglang.env",
    "state_dir": "/var/lib/dsdeploy/dsdeploy-sglang",
    "api_key_file": "/etc/dsdeploy/keys/dsdeploy-sglang",
    "dirs": ["/opt/dsdeploy/sglang", "/opt/dsdeploy/libexec/sglang"],
    "write_paths": [],
    "model_path": "/var/lib/dsdeploy/models/tiny-qwen2/1",
}
OWN = ["/etc/dsdeploy/dsdeploy-ollama.env", "/var/lib/dsdeploy/dsdeploy-ollama", "/opt/dsdeploy/ollama"]


@pytest.mark.parametrize(
    ("place", "theirs"),
    [
        ("/etc/dsdeploy/dsdeploy-sglang.env", "/etc/dsdeploy/dsdeploy-sglang.env"),
        ("/var/lib/dsdeploy/dsdeploy-sglang/", "/var/lib/dsdeploy/dsdeploy-sglang"),
        ("/var/lib/dsdeploy/dsdeploy-sglang/ollama", "/var/lib/dsdeploy/dsdeploy-sglang"),
        ("/var/lib/dsdeploy", "/var/lib/dsdeploy/dsdeploy-sglang"),
        # All models would be given to Ollama's user.
        ("/var/lib/dsdeploy/models", "/var/lib/dsdeploy/models/tiny-qwen2/1"),
        ("/var/lib/dsdeploy/models/tiny-qwen2", "/var/lib/dsdeploy/models/tiny-qwen2/1"),
        ("/opt", "/opt/dsdeploy/sglang"),
        ("/etc/dsdeploy/keys/dsdeploy-sglang", "/etc/dsdeploy/keys/dsdeploy-sglang"),
    ],
)
def test_what_another_has_is_refused(place, theirs):
    assert common_place([*OWN, place], "dsdeploy-ollama", [SGLANG]) == (place, theirs, SGLANG)


@pytest.mark.parametrize(
    "place",
    ["/var/lib/dsdeploy/ollama", "/var/lib/dsdeploy/dsdeploy-sglang2", "/var/lib/dsdeploy/models/tiny-qwen2/1/x"],
)
def test_what_nobody_has_is_taken(place):
    assert common_place([*OWN, place], "dsdeploy-ollama", [SGLANG]) is None


def test_its_own_is_its_own():
    assert common_place([SGLANG["state_dir"], "/var/lib/dsdeploy"], "dsdeploy-sglang", [SGLANG]) is None


def test_a_link_is_what_it_leads_to(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    record = dict(SGLANG, state_dir=str(tmp_path / "data/sglang"))
    assert common_place([str(tmp_path / "link/sglang")], "dsdeploy-ollama", [record])


NOTE = {
    "engine": "ollama",
    "environment_file": "/etc/dsdeploy/dsdeploy-ollama.env",
    "state_dir": "/var/lib/dsdeploy/dsdeploy-ollama",
    "dirs": ["/opt/dsdeploy/ollama"],
    "write_paths": [],
}


@pytest.mark.parametrize(
    ("more", "place", "theirs"),
    [
        ({"environment_file": SGLANG["environment_file"]}, SGLANG["environment_file"], SGLANG["environment_file"]),
        ({"state_dir": "/var/lib/dsdeploy"}, "/var/lib/dsdeploy", SGLANG["state_dir"]),
        ({"dirs": ["/opt/dsdeploy/ollama", "/opt"]}, "/opt", "/opt/dsdeploy/sglang"),
        ({"write_paths": ["/opt/dsdeploy/sglang/x"]}, "/opt/dsdeploy/sglang/x", "/opt/dsdeploy/sglang"),
    ],
)
def test_whatever_it_is_going_to_make_is_looked_at(more, place, theirs):
    problem = shared_place({**NOTE, **more}, "dsdeploy-ollama", [SGLANG])
    assert problem.msg == f"{place} cannot be ollama's: {theirs} is sglang's on this host"
    assert problem.hint and problem.kind == "usage"


def test_places_of_its_own_are_no_problem():
    assert shared_place(NOTE, "dsdeploy-ollama", [SGLANG]) is None
    assert shared_place({**NOTE, "dirs": SGLANG["dirs"]}, "dsdeploy-sglang", [SGLANG]) is None
