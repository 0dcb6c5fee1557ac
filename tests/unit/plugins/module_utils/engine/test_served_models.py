# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an engine says it serves: a list of names, or one line."""

import json
from pathlib import Path

import mutations
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import EngineFailure, list_models
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama_api import Api

CASES = Path(__file__).resolve().parents[3] / "fixtures" / "foreign"
MODELS = {
    "openai": {"object": "list", "data": [{"id": "a", "object": "model"}, {"id": "b", "object": "model"}]},
    "ollama": {"models": [{"name": "a", "size": 5, "details": {"family": "x"}}, {"name": "b"}]},
}


class Endpoint:
    """An engine that answers one body, whatever it is asked."""

    url, headers = "http://127.0.0.1:1", {}

    def __init__(self, body):
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()

    def get(self, _path, _timeout):
        return 200, "application/json", self.body


@pytest.mark.parametrize("api", MODELS)
def test_names_in_the_servers_order(api):
    assert list_models(Endpoint(MODELS[api]), api) == ["a", "b"]


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("ollama", (CASES / "chat" / "ollama-tags-null.json").read_bytes()),
        ("openai", {"object": "list", "data": None}),
        ("openai", {"data": []}),
        ("ollama", {"models": []}),
    ],
)
def test_null_is_no_model(api, body):
    assert list_models(Endpoint(body), api) == []


@pytest.mark.parametrize(
    "body", [[], 5, None, {}, {"data": 5}, {"data": [5]}, {"data": [{"id": 5}]}, {"data": [{}]}, b"[" * 5000, b"", b"<"]
)  # fmt: skip
def test_a_wrong_shape_is_one_line(body):
    for api in MODELS:
        with pytest.raises(EngineFailure, match="not a list of models") as caught:
            list_models(Endpoint(body), api)
        mutations.assert_one_line(caught.value)
        assert "another API" in caught.value.hint


@pytest.mark.parametrize("api", MODELS)
def test_any_damage_gives_names_or_one_line(api):
    for text in mutations.mutations(MODELS[api], f"models-{api}"):
        try:
            assert all(isinstance(name, str) for name in list_models(Endpoint(text), api))
        except EngineFailure as error:
            mutations.assert_one_line(error)


@pytest.mark.parametrize(("body", "names"), [({"models": None}, []), ({}, []), (MODELS["ollama"], ["a", "b"])])
def test_ollamas_own_lists(body, names, monkeypatch):
    api = Api("http://127.0.0.1:1")
    monkeypatch.setattr(api, "_json", lambda *_: body)
    assert [item["name"] for item in api.tags()] == [item["name"] for item in api.ps()] == names


@pytest.mark.parametrize("body", [{"models": 5}, {"models": [5]}, {"models": [{}]}, {"models": [{"name": None}]}])
def test_ollamas_own_lists_in_another_shape(body, monkeypatch):
    api = Api("http://127.0.0.1:1")
    monkeypatch.setattr(api, "_json", lambda *_: body)
    for call in (api.tags, api.ps):
        with pytest.raises(EngineFailure, match="GET /api/.*: models") as caught:
            call()
        mutations.assert_one_line(caught.value)
