"""Which engine a name means, and how long it may take to start."""

from __future__ import annotations

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.engines import resolve_engine
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.start_timeout import start_timeout

ENGINES = {"llama_cpp": {"role": "llama_cpp"}, "vllm": {"role": "vllm_venv"}}


@pytest.mark.parametrize("name", ["llama_cpp", "llama-cpp", "llama.cpp", "LLAMA_CPP", "llamacpp"])
def test_every_spelling(name):
    assert resolve_engine(ENGINES, name) == {"name": "llama_cpp", "role": "llama_cpp"}


def test_did_you_mean():
    with pytest.raises(Failure, match="there is no engine vlm; did you mean vllm") as raised:
        resolve_engine(ENGINES, "vlm")
    assert raised.value.hint == "Engines of this dsdeploy: llama_cpp, vllm."


def test_no_guess_where_nothing_is_near():
    with pytest.raises(Failure, match="^there is no engine zzz$"):
        resolve_engine(ENGINES, "zzz")


def test_start_timeout():
    assert start_timeout(0, 60) == 60
    assert start_timeout(98362432, 60) == 61
    assert start_timeout(404_430_186_272, 60) == 4105  # DeepSeek R1 Q4_K_M: 68 minutes
    with pytest.raises(ValueError):
        start_timeout(-1, 60)
    with pytest.raises(ValueError):
        start_timeout(1, 0)
