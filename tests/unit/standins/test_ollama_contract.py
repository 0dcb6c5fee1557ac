# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in Ollama answers as the real one did.

Compared are, of each of 139 requests, status, Content-Type, Transfer-Encoding and the body. What varies is named in
VARYING, with the reason, and is looked at in another way.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "standins")]

import smollm2
from ollama_contract import Contract
from ollama_process import Ollama

RECORD = Path(__file__).parents[1] / "fixtures/ollama/real-0.24.0.jsonl"
REAL = {}
for _line in RECORD.read_text(encoding="utf-8").splitlines():
    _answer = json.loads(_line)
    REAL[_answer.pop("name")] = _answer
REAL_DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

INSTANT = re.compile(r"(20\d\d|2[23]\d\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
DIGEST = re.compile(r"[0-9a-f]{64}\Z")
# Fields that vary: the reason, and what every value of them must be.
VARYING = {
    "created_at": ("when it was answered", INSTANT.fullmatch),
    "modified_at": ("when it was made", INSTANT.fullmatch),
    "expires_at": ("some time after it was answered", INSTANT.fullmatch),
    "total_duration": ("time that passed", lambda value: value > 0),
    "load_duration": ("time that passed", lambda value: value > 0),
    "prompt_eval_duration": ("time that passed", lambda value: value > 0),
    "eval_duration": ("time that passed", lambda value: value > 0),
    # In /api/tags and /api/ps. (The digests of layers are compared: they are in texts, not in this field.)
    "digest": ("of a manifest, in which the path of the store stands", DIGEST.match),
    "content": ("no model computes", lambda value: isinstance(value, str)),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ollama")
    model = directory / "SmolLM2.gguf"
    smollm2.write(model, REAL["show plain"]["body"])
    own = hashlib.sha256(model.read_bytes()).hexdigest()
    # The KV cache in the sizes that the real one told is that of two requests at a time.
    server = Ollama(directory).restart(OLLAMA_KEEP_ALIVE="-1", OLLAMA_NUM_PARALLEL="2", OLLAMA_NO_CLOUD="1")
    contract = Contract(server.port, model, server.models, {str(server.models): "/models", own: REAL_DIGEST})
    try:
        yield contract.run()
    finally:
        server.stop()


def parsed(body):
    """The JSON objects of a body, one a line; None for what is no JSON, or was cut."""
    if not body.startswith("{"):
        return [body]
    try:
        return [json.loads(line) for line in body.splitlines()]
    except ValueError:
        return None


def commands(modelfile):
    """The commands of a Modelfile; the parameters, which Go keeps in a map, in order."""
    found = re.split(r"\n(?=(?:FROM|TEMPLATE|SYSTEM|PARAMETER|LICENSE) )", modelfile.rstrip("\n"))
    return sorted(found, key=lambda one: one.split()[:2] if one.startswith("PARAMETER") else [])


def compared(value, key=None):
    """A value of a body without what varies, which is looked at."""
    if key in VARYING:
        reason, right = VARYING[key]
        assert right(value), f"{key}: {value!r} ({reason})"
        # That there is a text, and whether it is empty, does not vary.
        return [reason, value == ""]
    if key == "modelfile":
        return commands(value)
    if key == "parameters":
        # Go keeps them in a map, which has no order.
        return sorted(value.split("\n"), key=lambda line: line.split()[0])
    if key == "models":
        # Sorted by seconds; in no order within one.
        return sorted((compared(one) for one in value), key=lambda one: one["name"])
    if isinstance(value, dict):
        return {name: compared(one, name) for name, one in value.items()}
    return [compared(one) for one in value] if isinstance(value, list) else value


def of_cut(body, length):
    """A body of /api/show that was cut at `length`: what stands before its details as parsed, the rest as it is."""
    head, mark, rest = body[:length].partition(',"details":')
    return [compared(parsed(head + "}")) if mark else head, mark + rest]


def blobs(found):
    """What lies in the store. Varies: the name of an upload that is not done, which is a random number, and that of a
    model's configuration, in which the digest of the weights stands."""
    special = {20_000_000: "an upload", 414: "a configuration", 636: "a configuration"}
    return sorted([special.get(size, name), size] for name, size in found)


def test_all_requests_are_made(answers):
    assert len(REAL) == 139
    assert list(answers) == list(REAL)


@pytest.mark.parametrize("name", list(REAL))
def test_it_answers_as_the_real_one(answers, name):
    real, own = REAL[name], answers[name]
    if "blobs" in real:
        assert blobs(own["blobs"]) == blobs(real["blobs"])
        return
    assert [own[head] for head in ("status", "type", "te")] == [real[head] for head in ("status", "type", "te")]
    if name == "show verbose size":
        # Varies: the stand-in's file has one long token instead of 49152.
        assert own["body"] > 2 * len(REAL["show plain"]["body"])
        return
    whole = parsed(real["body"])
    if whole is None:
        # Recorded in a store with a longer path, it was cut some characters earlier.
        assert of_cut(own["body"], len(real["body"])) == of_cut(real["body"], len(real["body"]))
    else:
        assert compared(parsed(own["body"])) == compared(whole)


def test_a_model_that_is_kept_for_ever_expires_in_292_years(answers):
    for name in ("ps m2", "ps keepalive -1"):
        ends = [parsed(one[name]["body"])[0]["models"][0]["expires_at"] for one in (answers, REAL)]
        assert [end[:2] for end in ends] == ["23", "23"]
    ends = [parsed(one["ps keepalive"]["body"])[0]["models"][0]["expires_at"] for one in (answers, REAL)]
    assert [end[:2] for end in ends] == ["20", "20"]
