# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import stat
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.dsdeploy.llm.plugins.plugin_utils import fleet

PLAY = ["a", "b", "c", "d"]


def looked(complete=(), other=()):
    return {
        host: {"wanted": "y" if host in other else "x", "complete": host in complete, "address": "10.0.0.1", "port": 1}
        for host in PLAY
    }


def names(here, found, forks=25, play=PLAY):
    return [member["name"] for member in fleet.members(here, play, found, forks)]


def test_hosts_that_fetch_the_same_model_are_told_of_each_other():
    assert names("b", looked()) == PLAY
    assert names("b", looked(other="d")) == ["a", "b", "c"]
    assert names("d", looked(other="d")) == []
    assert names("a", {"a": looked()["a"]}) == []


def test_who_has_the_model_gives_it_and_where_all_have_it_nobody_does():
    found = fleet.members("b", PLAY, looked(complete="a"), 25)
    assert [member["seed"] for member in found] == [True, False, False, False]
    assert names("a", looked(complete=PLAY)) == []


def test_hosts_that_ansible_does_not_work_on_at_once_do_not_wait_for_each_other():
    assert names("a", looked(), forks=2) == ["a", "b"]
    assert names("d", looked(), forks=3) == []
    assert names("c", looked(), forks=2) == ["c", "d"]


def test_only_what_is_fetched_counts():
    entry = {"name": "m", "format": "gguf", "sources": [{"kind": "url", "base": "http://h"}], "files": []}
    assert fleet.wanted(entry) == fleet.wanted(dict(entry, architecture={"layers": 3}))
    assert fleet.wanted(entry) != fleet.wanted(dict(entry, include=["*.json"]))


def test_a_run_has_one_secret_that_nobody_else_can_read(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _number: fleet.token_of_run(str(tmp_path)), range(64)))
    assert len(found) == 1
    assert len(found.pop()) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["dsdeploy-peers"]
    assert stat.S_IMODE((tmp_path / "dsdeploy-peers").stat().st_mode) == 0o600
