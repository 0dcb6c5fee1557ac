# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the engines behind a gateway have to answer for it to count as good."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import probe
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

FOUND = {"fingerprint": "aa", "engines": {"vllm": "/vllm", "sglang": ""}}


def verified(monkeypatch, ready, found=FOUND):
    """What was seen, where these engines answer, by their prefixes."""

    def status(self, method, path, key=""):
        prefix = "/vllm" if path.startswith("/vllm") else ""
        if path.endswith("/health") or (key and path.endswith("/v1/models")):
            return 200 if prefix in ready else 503
        return 404 if key else 401

    monkeypatch.setattr(probe.Probe, "status", status)
    return probe.verify(found, 8443, "a-key", timeout=0.0)


def test_all_that_answer_are_tried(monkeypatch):
    seen = verified(monkeypatch, {"", "/vllm"})
    assert seen["GET /vllm/v1/models with the key"] == seen["GET /v1/models with the key"] == 200
    assert seen["GET /vllm/v1/models without the key"] == 401


def test_one_that_was_stopped_for_the_sake_of_the_one_that_is_deployed_is_passed_over(monkeypatch):
    seen = verified(monkeypatch, {""})
    assert seen["GET /vllm/health"] == 503
    assert seen["GET /v1/models with the key"] == 200
    assert not [what for what in seen if "/vllm/v1" in what]


def test_the_one_that_is_deployed_has_to_answer(monkeypatch):
    with pytest.raises(Failure, match="no sglang behind it answers \\(status 503\\)"):
        verified(monkeypatch, {"/vllm"})


def test_a_rank_without_an_api_has_none_that_has_to(monkeypatch):
    found = {"fingerprint": "aa", "engines": {"vllm": "/vllm"}}
    assert verified(monkeypatch, set(), found) == {"GET /vllm/health": 503}
