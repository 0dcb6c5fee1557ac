"""Values of variables that cannot be meant."""

from __future__ import annotations

import pytest
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.value_rules import value_problem


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (8080, "port", ()),
        ("65535", "port", ()),
        (1, "count", ()),
        ("0", "seconds_or_zero", ()),
        (0.9, "share", ()),
        ("1", "share", ()),
        ("all", "count_or_zero", ("all", "auto")),
        ("16", "count_or_zero", ("all", "auto")),
        ("tiny", None, ("tiny", "large")),
        ("0.5", "rate", ()),
        ("550.90.12", "version", ()),
        ("0.4.3.post2", "version", ()),
        ("2026.10.11549", "version", ()),
        ("0.24.0-rc1", "version", ()),
        ("", "version", ("",)),
        (12.4, "cuda_version", ()),
    ],
)
def test_good_values(value, kind, words):
    assert value_problem("x", value, kind, words) is None


@pytest.mark.parametrize(
    ("value", "kind", "words", "said"),
    [
        (99999, "port", (), "x is 99999, expected a whole number from 1 to 65535"),
        (0, "port", (), "x is 0, expected"),
        ("-5", "tokens", (), "x is '-5', expected a whole number from 1 up"),
        ("4k", "tokens", (), "x is '4k', expected"),
        ("1.5", "count", (), "x is '1.5', expected"),
        ("", "count", (), "x is '', expected"),
        (None, "count", (), "x is None, expected"),
        (True, "count", (), "x is True, expected"),
        ("nan", "share", (), "x is 'nan', expected a number from 0.01 to 1"),
        ("90", "share", (), "x is '90', expected a number from 0.01 to 1"),
        ("lots", "count_or_zero", ("all", "auto"), "x is 'lots', expected a whole number from 0 up, all or auto"),
        ("al", "count_or_zero", ("all", "auto"), "x is 'al' (did you mean all?), expected"),
        ("tny", None, ("tiny", "large"), "x is 'tny' (did you mean tiny?), expected tiny or large"),
        ("x", None, ("tiny",), "x is 'x', expected tiny"),
        ("x", None, (), "x is 'x', expected nothing: there is none"),
        (-1, "rate", (), "x is -1, expected a number from 0 up"),
        ("latest", "version", (), "x is 'latest', expected a version, such as 1.2.3"),
        ("580", "version", ("",), "x is '580', expected a version, such as 1.2.3 or nothing"),
        ("1.2.3; reboot", "version", (), "x is '1.2.3; reboot', expected a version"),
        ("12", "cuda_version", (), "x is '12', expected two numbers in quotes, such as \"12.4\""),
        ("12.4.1", "cuda_version", (), "x is '12.4.1', expected two numbers in quotes"),
        (17, "connections", (), "x is 17, expected a whole number from 1 to 16"),
    ],
)
def test_bad_values(value, kind, words, said):
    problem = value_problem("x", value, kind, words)
    assert problem is not None and problem.startswith(said)
    assert "\n" not in problem


@pytest.mark.parametrize("value", ["10m", "-1", "1h30m", "0", "24h", "1.5h", "3600", "-1s", "500ms"])
def test_durations_that_ollama_understands(value):
    assert value_problem("ollama_keep_alive", value, "duration") is None


@pytest.mark.parametrize("value", ["forever", "10 m", "5min", "1d", "", "10m!"])
def test_durations_that_it_would_take_for_five_minutes(value):
    said = value_problem("ollama_keep_alive", value, "duration")
    assert said == f"ollama_keep_alive is '{value}', expected a duration such as 10m or 24h, seconds, or -1 for ever"


@pytest.mark.parametrize(
    "value", ["http://a", "https://a:3000,http://b", "*", "http://10.0.0.*", "app://*", "chrome-extension://abc", ""]
)
def test_origins_that_ollama_starts_with(value):
    assert value_problem("ollama_origins", value, "origins", [""]) is None


@pytest.mark.parametrize(
    "value", ["example.org", "http://*.*", "app://x", "http://a,example.org", "http://a, http://b"]
)
def test_origins_that_make_it_panic(value):
    assert "ollama_origins is" in value_problem("ollama_origins", value, "origins", [""])


@pytest.mark.parametrize(
    ("given", "version", "said"),
    [
        ({"temperature": 0.6, "stop": ["x"]}, "0.24.0", None),
        ({"num_gpus": 1}, "0.24.0", "ollama_parameters: Ollama has no parameter num_gpus; did you mean num_gpu?"),
        ({"num_ctx": "many"}, "0.24.0", "ollama_parameters: num_ctx is 'many', not a whole number"),
        (
            {"draft_num_predict": 4},
            "0.24.0",
            "ollama_parameters: Ollama 0.24.0 ignores draft_num_predict, which came with 0.30.0",
        ),
        ({"draft_num_predict": 4}, "0.30.0", None),
        (
            "temperature=1",
            "0.24.0",
            "ollama_parameters: 'temperature=1' is not a dictionary, such as {temperature: 0.6}",
        ),
    ],
)
def test_parameters_of_ollama_are_checked_before_anything_is_fetched(given, version, said):
    value = {"parameters": given, "version": version}
    assert value_problem("ollama_parameters", value, "ollama_parameters") == said


def test_names_of_ollama():
    assert value_problem("ollama_served_model_name", "", "ollama_name", [""]) is None
    assert "is not a model's name" in value_problem("ollama_served_model_name", "a b", "ollama_name", [""])
