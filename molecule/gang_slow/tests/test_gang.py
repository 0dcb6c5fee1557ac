"""A real vLLM over two hosts: it answers as one, and starts anew as one."""

import json
import os
import subprocess
import sys
import time

import pytest
from _play import CHECKOUT, hosts, play
from _python_engine import SENTENCE, Engine

VLLM = Engine("vllm", 8000)
READY = 900  # s; two starts at once on two cores


def head():
    return hosts()["gang-1"]


def pids():
    """The main process of each rank."""
    return {
        name: host.check_output(f"systemctl show -p MainPID --value {VLLM.service}") for name, host in hosts().items()
    }


def test_it_answers_exactly_over_both():
    assert VLLM.ask(head())[0]["content"].strip() == SENTENCE
    ranks = {name: json.loads(host.file(VLLM.record).content_string)["gang"] for name, host in hosts().items()}
    assert [ranks[name]["rank"] for name in ("gang-1", "gang-2")] == [0, 1]
    assert all(rank["hosts"] == ["gang-1", "gang-2"] for rank in ranks.values())
    # The second has no API.
    assert not hosts()["gang-2"].socket("tcp://127.0.0.1:8000").is_listening


def test_ask_asks_the_first_host_alone():
    asked = play(None, "ask", "-v").split("TASK [Ask | Ask it]")[1].split("TASK [")[0]
    assert SENTENCE in asked
    assert "ok: [gang-1]" in asked
    assert "skipping: [gang-2]" in asked
    said = play(hosts()["gang-2"], "ask", fails=True)
    assert "gang-1 answers for its gang (gang-1, gang-2)" in said


def command(*words, fails=False):
    """What the command says."""
    done = subprocess.run(
        [sys.executable, "-m", "dsdeploy", *words, "-i", os.environ["MOLECULE_INVENTORY_FILE"]],
        env=dict(os.environ, PYTHONPATH=str(CHECKOUT / "python"), COLUMNS="200", NO_COLOR="1"),
        capture_output=True,
        text=True,
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_plan_status_and_logs_know_it():
    said = command("plan")
    assert "rank 0: gang-1 (" in said
    assert "rank 1: gang-2 (" in said
    assert "would refuse" not in said
    said = command("status")
    assert "rank 1 of gang-1" in said
    assert "vllm is one deployment on gang-1, gang-2" in said
    said = command("logs", "-n", "5000")
    assert "dsdeploy-gang: rank 1 is there" in said
    assert "dsdeploy-gang: the first rank is there" in said


def test_a_part_of_it_is_not_rolled_back():
    before = pids()
    said = " ".join(command("rollback", "--limit", "gang-2", fails=True).split())
    assert "it is one gang on gang-1, gang-2, and is changed as a whole or not at all: without gang-1" in said
    assert pids() == before


def test_a_second_run_leaves_it_alone():
    before = pids()
    said = play(None, "deepseek_r1")
    assert pids() == before
    assert said.count("changed=0") == 2


@pytest.mark.parametrize("victim", ["gang-2", "gang-1"])
def test_a_rank_that_dies_takes_the_other_with_it_and_they_answer_again(victim):
    before = pids()
    # The engine, not its guard: the guard's child.
    hosts()[victim].check_output(f"sudo pkill -KILL -P {before[victim]}")
    began = time.monotonic()
    message = VLLM.answers_within(head(), READY)
    assert message["content"].strip() == SENTENCE
    after = pids()
    assert not set(before.items()) & set(after.items()), "a rank went on beside a new one"
    print(f"{victim} killed: answers after {time.monotonic() - began:.0f} s")
