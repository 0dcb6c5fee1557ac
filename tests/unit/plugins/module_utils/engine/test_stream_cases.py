# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Streams as engines of several versions send them, errors in the middle, thinking in the text, and any damage."""

import json
import math
import random
import re
import time
import tracemalloc
from pathlib import Path

import mutations
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import metrics, thinking
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import stream as engine_stream
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import judge
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.stream import Answer, StreamError, lines_of, sse_data
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.thinking import split_thinking
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import catalog

CASES = Path(__file__).resolve().parents[3] / "fixtures" / "foreign"


def read(data, size=64, api="openai", **more):
    answer = Answer(0.0, **more)
    lines = lines_of(data[i : i + size] for i in range(0, len(data), size))
    if api == "ollama":
        for line in lines:
            if line:
                answer.ollama(line, 1.0)
    else:
        for event in sse_data(lines):
            answer.openai(event, 1.0)
    answer.check_complete()
    return answer.result()


def case(name):
    return (CASES / "sse" / f"{name}.sse").read_bytes()


def sse(*events):
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + b"data: [DONE]\n\n"


def said(content, reason="stop", **delta):
    return sse({"choices": [{"index": 0, "delta": dict(delta, content=content), "finish_reason": reason}]})


@pytest.mark.parametrize("size", [1, 7, 10000])
@pytest.mark.parametrize("name", ["delta-null", "empty-data-keepalive", "bom"])
def test_what_a_server_sends_besides_the_answer(name, size):
    result = read(case(name), size)
    assert result["answer"] == "The answer is 42"
    if name == "delta-null":
        assert result["finish_reason"] == "stop"
        assert result["usage"] == {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12}


@pytest.mark.parametrize(
    "extra",
    [
        b"event: ping\ndata: {}\n\n",
        b'event: ping\ndata: {"type": "ping"}\n\n',
        b":\n\n",
        b"data\n\n",
        b"data:  \n\n",
        b"retry: 3000\n\n",
        b"id: 5\nevent: message\n\n",
        b'data: {"choices": [], "usage": null}\n\n',
        b'data: {"choices": null, "usage": {"completion_tokens": 4}}\n\n',
        b'data: {"choices": [{"delta": {"content": null, "reasoning_content": null, "tool_calls": null}}]}\n\n',
        b'data: {"error": null, "choices": []}\n\n',
    ],
)
@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
def test_pings_nulls_and_line_ends(extra, ends):
    data = (b"\xef\xbb\xbf" + extra + said("The answer is 42") + extra).replace(b"\n", ends)
    for size in (1, 3, 10000):
        assert read(data, size)["answer"] == "The answer is 42"


def test_an_error_field_is_the_engines_report():
    with pytest.raises(StreamError, match="^the engine reports: the request exceeds the available context size. try"):
        read(case("llamacpp-error-field"))


ERRORS = [
    b'error: {"code":500,"message":"no slot"}\n\n',
    b"error: no slot\n\n",
    b'event: error\ndata: {"error": {"message": "no slot"}}\n\n',
    b"event: error\ndata: no slot\n\n",
    b'data: {"error": {"object": "error", "message": "no slot", "type": "abort", "code": 503}}\n\n',
    b'data: {"error": "no slot"}\n\n',
    b'data: {"object": "error", "message": "no slot", "type": "BadRequestError", "param": null, "code": 400}\n\n',
    b'data: {"code": 400, "message": "no slot", "type": "invalid_request_error"}\n\n',
    b'data: {"detail": "no slot"}\n\n',
]


@pytest.mark.parametrize("event", ERRORS)
@pytest.mark.parametrize(
    "before", [b"", said("The answer is", None)[: -len(b"data: [DONE]\n\n")]], ids=["first", "later"]
)
def test_errors_of_all_engines(event, before):
    with pytest.raises(StreamError) as caught:
        read(before + event + b"data: [DONE]\n\n")
    assert str(caught.value) == "the engine reports: no slot"


def test_an_aborted_answer_is_none():
    with pytest.raises(StreamError, match=r"the engine aborted the answer \(abort\) after 13 characters"):
        read(case("abort"))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("abort", "(abort)"),
        ("error", "(error)"),
        ("cancelled", "(cancelled)"),
        ({"type": "abort", "message": "no memory", "status_code": 503}, "(abort) after 2 characters: no memory"),
    ],
)
def test_reasons_that_break_an_answer_off(reason, words):
    with pytest.raises(StreamError, match=re.escape(words)):
        read(said("42", reason))
    line = {"model": "m", "message": {"content": "42"}, "done": True, "done_reason": reason}
    with pytest.raises(StreamError, match=re.escape(words)):
        read(json.dumps(line).encode() + b"\n", api="ollama")


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", {"type": "stop"}, {"type": "length", "length": 5}])
def test_reasons_that_end_an_answer(reason):
    result = read(said("42", reason))
    assert result["finish_reason"] == (reason["type"] if isinstance(reason, dict) else reason)


@pytest.mark.parametrize("reason", [True, 5, ["abort"], {"type": ["abort"]}])
def test_a_reason_that_is_no_text_is_no_good_end(reason):
    with pytest.raises(StreamError, match="malformed stream: finish_reason is not a string"):
        read(said("42", reason))


def test_half_a_character_can_be_printed():
    halves = sse({"choices": [{"delta": {"content": "\ud83d"}}]}, {"choices": [{"delta": {"content": "\ude00"}}]})
    assert read(halves + said(""))["answer"] == "\U0001f600"
    assert read(said("4\ud83d2"))["answer"] == "4\ufffd2"


def test_ollama_says_null_and_odd_counts():
    lines = [
        {"model": "m", "message": {"content": "42", "thinking": None}, "done": False},
        {
            "model": "m",
            "message": None,
            "done": True,
            "done_reason": "stop",
            "eval_count": {"x": 1},
            "eval_duration": None,
        },
    ]
    result = read("\n".join(map(json.dumps, lines)).encode() + b"\n", api="ollama")
    assert (result["answer"], result["usage"], result["tokens_per_s"]) == ("42", None, None)


def test_of_several_answers_the_first_is_read():
    """vLLM and SGLang send n of them through one stream."""
    first = {"index": 0, "delta": {"content": "42"}, "finish_reason": "stop"}
    second = {"index": 1, "delta": {"content": "杚"}, "finish_reason": "length"}
    for choices in ([first, second], [second, first]):
        result = read(sse({"choices": choices}) + said(""))
        assert (result["answer"], result["finish_reason"]) == ("42", "stop")
        result = read(sse({"choices": choices[:1]}, {"choices": choices[1:]}) + said(""))
        assert (result["answer"], result["finish_reason"]) == ("42", "stop")


def test_an_empty_reasoning_content_beside_reasoning():
    deltas = [{"reasoning": "hm", "reasoning_content": ""}, {"reasoning": "", "reasoning_content": " so"}]
    result = read(sse(*({"choices": [{"delta": delta}]} for delta in deltas)) + said("42"))
    assert (result["answer"], result["reasoning"]) == ("42", "hm so")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html><title>502 Bad Gateway</title>\n", "not server-sent events: <html><title>502 Bad Gateway"),
        (b'{"error": {"message": "no such model", "code": 404}}\n', "the engine reports: no such model"),
        (b'{"detail": "Not Found"}\n', "the engine reports: Not Found"),
    ],
)
def test_what_is_no_stream_says_what_it_is(body, message):
    with pytest.raises(StreamError, match=message):
        read(body)


def test_an_engine_that_runs_out_of_resources_gives_no_answer():
    with pytest.raises(StreamError, match="aborted the answer .insufficient_system_resource"):
        read(sse({"choices": [{"delta": {"content": "4"}, "finish_reason": "insufficient_system_resource"}]}))


THINKING = {
    "harmony": case("unseparated-harmony"),
    "harmony-commentary": said(
        "<|channel|>analysis<|message|>maybe 杚?<|end|><|start|>assistant<|channel|>commentary to=x <|constrain|>json"
        "<|message|>{}<|call|><|start|>assistant<|channel|>final<|message|>unknown<|return|>"
    ),
    "harmony-opened-by-the-template": said("maybe 杚?<|end|><|start|>assistant<|channel|>final<|message|>unknown"),
    "harmony-without-special-tokens": said("analysismaybe 杚? noassistantfinalunknown"),
    "magistral": case("unseparated-magistral"),
    "magistral-opened-by-the-template": said("maybe 杚[/THINK]unknown"),
    "think": said("<think>maybe 杚</think>unknown"),
    "think-opened-by-the-template": said("maybe 杚</think>unknown"),
    "think-twice": said("<think>maybe 杚</think><think>杚</think>unknown"),
    "separated-and-again": said("<think>杚 again</think>unknown", reasoning_content="maybe 杚"),
    "thinking": said("<thinking>maybe 杚</thinking>unknown"),
    "thought": said("<|begin_of_thought|>maybe 杚<|end_of_thought|>unknown"),
    "seed": said("<seed:think>maybe 杚</seed:think>unknown"),
    "kimi": said("◁think▷maybe 杚◁/think▷unknown"),
    "think-in-think": said("<think>maybe <think>deep</think> 杚 again</think>unknown"),
    "think-named-in-think": said("<think>the tag <think> opens; 杚</think>unknown"),
    "think-in-think-opened-by-the-template": said("maybe <think>deep</think> 杚 again</think>unknown"),
    "think-with-a-suffix": said("<think:opensource>maybe 杚</think:opensource>unknown"),
    "think-in-other-letters": said("<Think>maybe 杚</Think>unknown"),
    "think-and-answer": said("<think>\nmaybe 杚\n</think>\n<answer>\nunknown\n</answer>"),
    "think-and-response": said("<think>maybe 杚</think><response>unknown</response>"),
    "separated-and-begun-again": said("<think>杚", reasoning_content="maybe 杚").replace(
        b"[DONE]", b'{"choices": [{"delta": {"content": "</think>unknown"}}]}\n\ndata: [DONE]'
    ),
    "cohere": said("<|START_THINKING|>maybe 杚<|END_THINKING|><|START_RESPONSE|>unknown<|END_RESPONSE|>"),
    "cohere-of-command-4": said("<|START_THINKING|>杚<|END_THINKING|><|START_TEXT|>unknown<|END_TEXT|>"),
    "exaone": said("<thought>\nmaybe 杚\n</thought>\n\nunknown"),
    "exaone-of-marco": said("<Thought>maybe 杚</Thought><Output>unknown</Output>"),
    "gemma": said("<|channel>thought\nmaybe 杚<channel|>unknown<turn|>"),
    "gemma-empty-first": said("<|channel>thought\n<channel|><|channel>thought\n杚<channel|>unknown"),
    "minimax": said("<mm:think>maybe 杚</mm:think>unknown"),
    "k2": said("<ifm|think_fast>maybe 杚</ifm|think_fast>unknown"),
    "kimi_k3": said("<|open|>think<|sep|>杚<|close|>think<|sep|><|open|>response<|sep|>unknown<|close|>message<|sep|>"),
    "apertus": said("<|inner_prefix|>maybe 杚<|inner_suffix|>unknown"),
    "plamo": said("<|plamo:begin_think:plamo|>maybe 杚<|plamo:end_think:plamo|>unknown"),
    "reka": said("<reasoning>maybe 杚</reasoning>unknown"),
    "inkling": said("<|content_thinking|>杚<|end_message|><|message_model|><|content_text|>unknown<|end_message|>"),
    "muse": said(" to=self<|message|>maybe 杚<|eom|><|start|>assistant to=user<|message|>unknown<|eot|>"),
    "solar": said("<|think|>maybe 杚<|end|><|begin|>assistant<|content|>unknown"),
    "granite": said("Here is my thought process: maybe 杚 Here is my response: unknown"),
}  # fmt: skip


@pytest.mark.parametrize("name", THINKING)
def test_an_expectation_never_matches_the_thinking(name):
    for size in (1, 10000):
        result = read(THINKING[name], size)
        assert result["answer"] == "unknown"
        assert "杚" in result["reasoning"]
        assert judge(result, "杚")[0].startswith("the answer does not match")
    kind = name.partition("-")[0]
    if kind in thinking.TAGS:
        assert read(THINKING[name], tags=kind)["answer"] == "unknown"


@pytest.mark.parametrize(
    "content",
    [
        "<|channel|>analysis<|message|>maybe 杚",
        "[THINK]maybe 杚",
        "<think>maybe 杚",
        "<seed:think>maybe 杚",
        "analysisWe 杚",
        "analysis我们 杚",
        "<|START_THINKING|>maybe 杚",
        "<thought>maybe 杚",
        "<|channel>thought\nmaybe 杚",
        "thought\nmaybe 杚",
        "Here's my thought process: maybe 杚",
        "<think>a<think>b</think>c</think> <think>maybe 杚",
    ],
)
def test_an_answer_that_was_cut_while_thinking_is_none(content):
    answer, reasoning = split_thinking(content)
    assert answer == "" and reasoning.endswith("杚")
    assert split_thinking("analysismaybe 杚", tags="harmony") == ("", "maybe 杚")


def test_the_models_own_tags_are_no_others():
    text = "[THINK] opens it for Mistral, <think> elsewhere."
    assert split_thinking(text, tags="none") == (text, "")
    assert split_thinking(text, tags="harmony") == (text, "")
    assert split_thinking("analysis of assistant roles", tags="auto") == ("analysis of assistant roles", "")
    assert set(catalog.REASONING_TAGS) == set(thinking.TAGS) - {"auto"}


def test_what_only_speaks_of_a_mark_is_the_answer():
    for text in ("The tag <think> opens it.", "Command A writes <|END_THINKING|> there.", "a <|end|> and <|eom|>"):
        assert split_thinking(text, "hm") == (text, "hm")
    assert split_thinking("a <|end|> and <|eom|> and <|eot|>") == ("a <|end|> and <|eom|> and <|eot|>", "")
    assert split_thinking("Here is my thought process: none", tags="think")[0] == "Here is my thought process: none"


def test_many_marks_are_read_once():
    """One pass each: with a look at the rest of the text at every mark it would be minutes."""
    started = time.process_time()
    for text in ("<think>" * 30000, "</think>" * 30000, "<think>x</think>" * 15000, "x <think>" * 15000):
        for reasoning in ("", "hm"):
            split_thinking(text, reasoning)
    assert time.process_time() - started < 5


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(engine_stream, "MAX_ANSWER", 1000)
    with pytest.raises(StreamError, match="the answer does not end"):
        read(said("x" * 600) * 2)
    with pytest.raises(StreamError, match="an event of more than"):
        list(sse_data(["data: " + "x" * 1000] * 2000))


def metric(name):
    return metrics.parse((CASES / "metrics" / f"{name}.txt").read_text())


def test_speculative_decoding_counts_tokens_and_not_events():
    before, after = metric("vllm-speculative-before"), metric("vllm-speculative-after")
    assert metrics.tokens_per_s(before, after) == 50.0
    for reading in (before, after):  # vLLM before it had this one
        for name in ("sum", "count"):
            del reading[f"request_time_per_output_token_seconds_{name}"]
    assert metrics.tokens_per_s(before, after) == 50.0
    # Two requests: each one's first token has none before it.
    both = dict(after, generation_tokens_total=102.0, time_to_first_token_seconds_count=2.0)
    assert metrics.tokens_per_s(before, both) == 50.0


@pytest.mark.parametrize(
    ("text", "speed"),
    [
        # SGLang 0.5.23
        ("s:request_time_per_output_token_seconds_sum 1\ns:request_time_per_output_token_seconds_count 20", 20.0),
        # SGLang 0.4, vLLM before 0.11
        ("sglang:time_per_output_token_seconds_sum 2\nsglang:time_per_output_token_seconds_count 40", 20.0),
        ("time_per_output_token_seconds_sum 2\ntime_per_output_token_seconds_count 4\ngeneration_tokens 101", 50.0),
        # llama.cpp
        ("llamacpp:tokens_predicted_total 60\nllamacpp:tokens_predicted_seconds_total 2.5", 24.0),
        # The engine was started anew: its counters went down.
        ("vllm:inter_token_latency_seconds_sum -1\nvllm:inter_token_latency_seconds_count -5", None),
        ("vllm:inter_token_latency_seconds_sum 0\nvllm:inter_token_latency_seconds_count 5", None),
        ("vllm:inter_token_latency_seconds_sum NaN\nvllm:inter_token_latency_seconds_count 5", None),
        ("", None),
    ],
)  # fmt: skip
def test_names_of_all_engines_and_versions(text, speed):
    assert metrics.tokens_per_s({}, metrics.parse(text)) == speed


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("vllm:a 1.5", 1.5),
        ('vllm:a{x="}\\" 9",y="{"}\t1e3 1700000000', 1000.0),
        ("a 2 # {trace_id=\"x\"} 0.5 1700000000.5", 2.0),
        ("a -.5", -0.5),
        ('a{x="1"} 2 # {trace_id="x"} 0.5 1700000000.5', 2.0),
        ('  a {x="\u2028"} 2\r', 2.0),
        ('a{x="1"} 2\na{x="2"} NaN\na{x="3"} 1', None),
        ("a +Inf", None),
        ("a NaN", None),
        ("a 1e", None),
        ("a -", None),
        ("a 1e999", None),
        ("a", None),
    ],
)  # fmt: skip
def test_lines_of_metrics(line, value):
    assert metrics.parse(line).get("a") == value


LLAMA_CPP = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"model":"m"}\n\n'
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"You"}}],"model":"m"}\n\n'
    b'data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"model":"m"}\n\n'
    b'data: {"choices":[],"usage":{"completion_tokens":6,"prompt_tokens":32,"details":{"cached_tokens":0}},'
    b'"timings":{"prompt_n":32,"prompt_ms":540.25,"predicted_n":6,"predicted_ms":226.23}}\n\ndata: [DONE]\n\n'
)
OLLAMA = (
    b'{"model":"r1","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}\n'
    b'{"model":"r1","message":{"role":"assistant","content":"42"},"done":false}\n'
    b'{"model":"r1","message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":2,"eval_count":29,'
    b'"eval_duration":4799921000}\n'
)
STREAMS = {name: ("openai", data) for name, data in THINKING.items()}
STREAMS.update({path.stem: ("openai", path.read_bytes()) for path in sorted((CASES / "sse").glob("*.sse"))})
STREAMS.update(llama_cpp=("openai", LLAMA_CPP), ollama=("ollama", OLLAMA))


def damage(data, api, source):
    """The stream with one event's JSON changed, or its bytes."""
    if source.random() < 0.5:
        return mutations.mutate_bytes(data, source)
    lines = data.decode("utf-8-sig").split("\n")
    number = source.choice([number for number, line in enumerate(lines) if "{" in line])
    start = lines[number].index("{")
    changed = mutations.mutate_json(json.loads(lines[number][start:]), source)
    lines[number] = lines[number][:start] + json.dumps(changed)
    return "\n".join(lines).encode()


def is_result(result):
    json.dumps(result)
    assert all(isinstance(result[key], str) for key in ("answer", "reasoning"))
    assert all(result[key] is None or isinstance(result[key], str) for key in ("model", "finish_reason"))
    assert result["usage"] is None or isinstance(result["usage"], dict)
    speed = result["tokens_per_s"]
    assert speed is None or math.isfinite(speed) and speed >= 0
    assert "\n" not in f"{result['model']}{result['finish_reason']}"


def test_any_damage_gives_an_answer_or_one_line():
    names, good, started = list(STREAMS), 0, time.process_time()
    tracemalloc.start()
    for number in range(mutations.COUNT):
        source = random.Random(f"stream-{number}")
        api, data = STREAMS[names[number % len(names)]]
        damaged = damage(data, api, source)
        try:
            is_result(read(damaged, source.choice((1, 5, 4096)), api))
            good += 1
        except StreamError as error:
            mutations.assert_one_line(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < good < mutations.COUNT
    assert peak < 32 * 1024 * 1024
    assert time.process_time() - started < 0.1 * mutations.COUNT


def test_any_damage_to_metrics_gives_a_speed_or_none():
    text = (CASES / "metrics" / "vllm-speculative-after.txt").read_bytes()
    for number in range(mutations.COUNT):
        damaged = mutations.mutate_bytes(text, random.Random(f"metrics-{number}")).decode("utf-8", "replace")
        speed = metrics.tokens_per_s({}, metrics.parse(damaged))
        assert speed is None or math.isfinite(speed) and speed >= 0


def test_all_engines_refusals_are_failures():
    assert issubclass(StreamError, Failure)
