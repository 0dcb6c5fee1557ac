"""Words that are like a wrong one."""

from __future__ import annotations

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.words import did_you_mean, nearest


def test_the_nearest_word_is_named():
    assert nearest("tensor_paralel", ["pipeline_parallel", "tensor_parallel"]) == "tensor_parallel"
    assert did_you_mean("floot16", {"float16", "bfloat16"}) == "; did you mean float16?"


def test_nothing_is_guessed_where_nothing_is_like_it():
    assert nearest("zzz", ["float16"]) is None
    assert did_you_mean(7, []) == ""
