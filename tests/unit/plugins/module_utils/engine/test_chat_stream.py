# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.stream import (
    MAX_LINE,
    Answer,
    StreamError,
    lines_of,
    sse_data,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.thinking import split_thinking
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import error_text, one_line

# The end of a real answer of llama.cpp b11549 (SmolLM2, max_tokens 6), as it came over the wire, shortened.
LLAMA_CPP = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"model":"m.gguf"}'
    b'\n\ndata: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"You"}}],"model":"m.gguf"}\n\n'
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"\'re"}}],"model":"m.gguf"}\n\n'
    b'data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"model":"m.gguf"}\n\n'
    b'data: {"choices":[],"model":"m.gguf","usage":{"completion_tokens":6,"prompt_tokens":32,"total_tokens":38,'
    b'"prompt_tokens_details":{"cached_tokens":0}},"timings":{"cache_n":0,"prompt_n":32,"prompt_ms":540.25,'
    b'"predicted_n":6,"predicted_ms":226.23,"predicted_per_token_ms":45.24,"predicted_per_second":26.52}}\n\n'
    b"data: [DONE]\n\n"
)


def chunk(content=None, reasoning=None, **more):
    delta = {"content": content, "reasoning_content": reasoning}
    return json.dumps(dict({"model": "m", "choices": [{"delta": delta}]}, **more))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10000])
def test_lines_survive_every_cut(size):
    data = 'data: 木\r\n\r\ndata: "乞"\n\n'.encode()
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    assert list(lines_of(chunks)) == ["data: 木", "", 'data: "乞"', ""]


def test_a_line_without_its_newline_was_cut_and_is_dropped():
    assert list(lines_of([b"one\ntw"])) == ["one"]


def test_an_endless_line_is_refused():
    with pytest.raises(StreamError, match="malformed stream: a line of more than"):
        list(lines_of([b"x" * MAX_LINE, b"x"]))


def test_sse_events():
    lines = [": ping", "", "event: message", "data: one", "data:two", "", "id: 3", "", "data", "", "data: last"]
    assert list(sse_data(lines)) == ["one\ntwo", "last"]


def test_llama_cpp_answer():
    answer = Answer(100.0)
    for now, data in enumerate(sse_data(lines_of([LLAMA_CPP]))):
        answer.openai(data, 100.0 + now)
    answer.check_complete()
    assert answer.result() == {
        "answer": "You're",
        "reasoning": "",
        "model": "m.gguf",
        "finish_reason": "length",
        "usage": {
            "completion_tokens": 6,
            "prompt_tokens": 32,
            "total_tokens": 38,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
        "ttft_s": 1.0,  # the first chunk holds only the role
        "tokens_per_s": 26.52,
        "tokens_per_s_source": "timings",
    }


def test_own_speed_counts_the_intervals_between_tokens():
    answer = Answer(10.0)
    for now, text in ((12.0, "a"), (13.0, "b"), (14.0, "c")):
        answer.openai(chunk(text), now)
    answer.openai(json.dumps({"choices": [], "usage": {"completion_tokens": 3}}), 19.0)
    result = answer.result()
    assert (result["ttft_s"], result["tokens_per_s"], result["tokens_per_s_source"]) == (2.0, 1.0, "usage")


@pytest.mark.parametrize("usage", [None, {"completion_tokens": 1}, {"completion_tokens": None}])
def test_unknown_speed_is_said_to_be_unknown(usage):
    answer = Answer(0.0)
    answer.openai(chunk("a", usage=usage), 1.0)
    answer.openai(chunk("b"), 2.0)
    assert answer.result()["tokens_per_s"] is None
    assert answer.result()["tokens_per_s_source"] is None


def test_one_token_has_no_speed_whatever_llama_cpp_says():
    answer = Answer(0.0)
    answer.openai(chunk("a", timings={"predicted_n": 1, "predicted_ms": 0.001, "predicted_per_second": 1e6}), 1.0)
    assert answer.result()["tokens_per_s"] is None


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_separated_reasoning_counts_as_first_token(field):
    answer = Answer(0.0)
    answer.openai(json.dumps({"choices": [{"delta": {field: "hm "}}]}), 1.0)
    answer.openai(json.dumps({"choices": [{"delta": {"content": "杚"}, "finish_reason": "stop"}]}), 2.0)
    result = answer.result()
    assert (result["reasoning"], result["answer"], result["ttft_s"]) == ("hm", "杚", 1.0)


def test_ollama_answer():
    answer = Answer(0.0)
    for now, line in enumerate(
        [
            {"model": "r1", "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
            {"model": "r1", "message": {"role": "assistant", "content": "杚"}, "done": False},
            {
                "model": "r1",
                "message": {"role": "assistant", "content": ""},
                "done": True,
                "done_reason": "stop",
                "prompt_eval_count": 26,
                "eval_count": 298,
                "eval_duration": 4799921000,
            },
        ]
    ):
        answer.ollama(json.dumps(line), float(now + 1))
    answer.check_complete()
    assert answer.result() == {
        "answer": "杚",
        "reasoning": "hm",
        "model": "r1",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 26, "completion_tokens": 298, "total_tokens": 324},
        "ttft_s": 1.0,
        "tokens_per_s": 62.08,
        "tokens_per_s_source": "eval_duration",
    }


@pytest.mark.parametrize(
    ("content", "answer", "reasoning"),
    [
        ("杚", "杚", ""),
        ("<think>\nOkay.\n</think>\n\nHello", "Hello", "Okay."),
        ("Okay.\n</think>\n\n杚", "杚", "Okay."),  # DeepSeek R1: the template put the opening tag into the prompt
        ("\n</think>\n\n杚", "杚", ""),
        ("<think>\n好的，我现在", "", "好的，我现在"),  # cut by max_tokens
        ("One <think>a</think>two <think>b</think>three", "One two three", "a\nb"),
        ("", "", ""),
    ],
)
def test_split_thinking(content, answer, reasoning):
    assert split_thinking(content) == (answer, reasoning)


def test_separated_reasoning_leaves_the_content_alone():
    assert split_thinking("The tag <think> opens it.", "hm") == ("The tag <think> opens it.", "hm")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"choices": [{"del', 'malformed stream: not JSON: {"choices": [{"del'),
        ("[1]", "malformed stream: not a JSON object"),
        ('{"hello": 1}', "an event without choices"),
        ('{"choices": ["x"]}', "an event without choices"),
        ('{"choices": [{"text": "x"}]}', "a choice without a delta"),
        ('{"choices": [{"delta": {"content": 5}}]}', "the text is not a string"),
        ('{"error": {"message": "EngineCore died"}}', "the engine reports: EngineCore died"),
        ('{"object": "error", "message": "no memory", "code": 500}', "the engine reports: no memory"),
    ],
)
def test_a_bad_event_is_one_clear_line(data, message):
    with pytest.raises(StreamError) as caught:
        Answer(0.0).openai(data, 1.0)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"error": "model requires more system memory"}', "the engine reports: model requires more system memory"),
        ('{"done": true}', "a line without a message"),
    ],
)
def test_a_bad_ollama_line_is_one_clear_line(data, message):
    with pytest.raises(StreamError, match=message):
        Answer(0.0).ollama(data, 1.0)


def test_a_stream_without_its_end_was_cut():
    answer = Answer(0.0)
    answer.openai(chunk("half an ans"), 1.0)
    with pytest.raises(StreamError, match="cut after 11 characters"):
        answer.check_complete()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, "Loading model"),
        ({"error": "model 'x' not found"}, "model 'x' not found"),
        ({"object": "error", "message": "The model `x` does not exist.", "code": 404}, "The model `x` does not exist."),
        ({"detail": "Not Found"}, "Not Found"),
        ({"detail": [{"msg": "field required"}]}, "field required"),
        ("two\nlines", "two lines"),
    ],
)
def test_error_text(body, text):
    assert error_text(body) == text


def test_one_line():
    assert one_line("a\n b\t c") == "a b c"
    assert one_line("x" * 500) == "x" * 299 + "…"
