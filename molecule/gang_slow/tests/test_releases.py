"""Another release of the engine on all hosts of a gang, and back."""

import json

from _play import hosts, play
from _python_engine import SENTENCE, Engine
from test_gang import READY, command, head, pids

VLLM = Engine("vllm", 8000)
NEW, OLD = "0.32.0", "0.31.0"


def served():
    """The release that each host's record and link are of, and what the first one answers."""
    found = set()
    for host in hosts().values():
        record = json.loads(host.file(VLLM.record).content_string)
        found.add((record["version"], VLLM.current(host).split("-")[0]))
    return found, VLLM.answers_within(head(), READY)["content"].strip()


def test_another_release_reaches_both_and_rollback_takes_both_back():
    before = served()
    assert before == ({(NEW, NEW)}, SENTENCE)
    seen = json.loads(head().file(VLLM.record).content_string)["measured"]["ready_s"]
    said = " ".join(play(None, "deepseek_r1", "-e", json.dumps({"vllm_venv_version": OLD})).split())
    # How long it is going to take is said before, by the last start.
    assert "stops and starts as one: there are no answers until it is ready again (about " in said
    assert f"as the last start of {NEW} took {seen} s; at most " in said
    assert served() == ({(OLD, OLD)}, SENTENCE)
    old = pids()
    said = command("rollback")
    assert served() == before, said
    assert not set(old.items()) & set(pids().items()), "a rank of the other release went on"
