#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""dsdeploy's load generator beside `vllm bench serve`: the same figures on the same server, and what each can absorb.

  load_generators.py compare URL MODEL --vllm PROGRAM --tokenizer DIRECTORY [--streams 1,8] [--rounds 3]
      The same load on a server, in turns. Prints each figure's median of both, and their ratio; and what the server's
      own metrics say of the requests of each, where it has such.
      Without --vllm the other is a reader of its own: a thread a stream, http.client, and nothing of the collection's.
      Of a GGUF file transformers makes the tokenizer: from_pretrained(its directory, gguf_file=NAME).save_pretrained().
  load_generators.py together URL MODEL --vllm PROGRAM --tokenizer DIRECTORY [--streams 1,4]
      Both at the same time, so that they see the same server in the same seconds, however its speed changes. What ours
      measured before the other's first request or after its last is left out.
  load_generators.py ceiling --vllm PROGRAM --tokenizer DIRECTORY [--streams 512]
      A stand-in that sends tokens as fast as it can, read by both and by a reader that only counts bytes. On a machine
      with few cores the stand-in takes its share of them: go by tokens a CPU second of the generator.
  load_generators.py exact [--streams 1,64,512] [--at-once] [--vllm PROGRAM --tokenizer DIRECTORY]
      Against scripted delays, in ms: what is scripted, how late the stand-in sent it, what the client measured. First
      tokens are scripted evenly between 500 and 1000 ms, and the first answer of each stream is left out; --at-once:
      the tokens of all streams are due at the same time. With --vllm also what the other measures on the same script.

PROGRAM is `vllm` with pandas beside it (for prompts of a file). Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".collections"))
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import load, measure, prompts  # noqa: E402

# What a server says itself of the requests that it has answered: ms, as (sum of s, what it is divided by).
WITNESS = {
    "ttft": ("vllm:time_to_first_token_seconds_sum", "vllm:time_to_first_token_seconds_count"),
    "tpot": ("vllm:request_time_per_output_token_seconds_sum", "vllm:request_time_per_output_token_seconds_count"),
    "e2el": ("vllm:e2e_request_latency_seconds_sum", "vllm:e2e_request_latency_seconds_count"),
    # llama.cpp: its work alone, without waiting; of the prompt it is a sum over all requests.
    "prompt": ("llamacpp:prompt_seconds_total", "requests"),
    "decode": ("llamacpp:tokens_predicted_seconds_total", "llamacpp:tokens_predicted_total"),
}
MEANS = ("mean_ttft_ms", "mean_tpot_ms", "mean_e2el_ms")
FIGURES = (
    *MEANS,
    "median_ttft_ms",
    "p99_ttft_ms",
    "median_tpot_ms",
    "p99_tpot_ms",
    "decode_ms",
    "median_e2el_ms",
    "output_throughput",
    "request_throughput",
)


def cpu_s() -> float:
    """CPU time of this process and of its children that have ended, s."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


class Given:
    """Prompts that are given, in their order, and from the start again."""

    def __init__(self, texts: list[str]) -> None:
        self._texts, self._at = texts, 0

    def take(self) -> str:
        self._at += 1
        return self._texts[(self._at - 1) % len(self._texts)]

    def reseed(self) -> None:
        pass


def ours(url: str, model: str, streams: int, count: int, output: int, supply: Any, without: int = 0) -> dict[str, Any]:
    """`without`: so many requests, those that were sent first, are left out."""
    parts = urlsplit(url)
    target = load.Target(str(parts.hostname), parts.port or 80, "", {}, None, "completions", model)
    before = cpu_s()
    point = load.run_point(target, supply, output, streams, count, time.monotonic() + 3600)
    requests = sorted(point.requests, key=lambda item: item.sent)[without:]
    begin, end = load.span(requests)
    found = measure.summarise(requests, begin, end, streams, None, point.lags)
    return {**found, "cpu_s": cpu_s() - before}  # with its arithmetic, as the other's


def vllms(
    program: str, tokenizer: str, url: str, model: str, streams: int, output: int, texts: list[str], more: tuple = ()
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        dataset = Path(directory, "prompts.jsonl")
        dataset.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        command = [
            program, "bench", "serve", "--backend", "openai", "--base-url", url, "--endpoint", "/v1/completions",
            "--model", tokenizer, "--served-model-name", model, "--tokenizer", tokenizer, "--dataset-name", "custom",
            "--dataset-path", str(dataset), "--custom-output-len", str(output), "--num-prompts", str(len(texts)),
            "--disable-shuffle", "--skip-chat-template",
            "--max-concurrency", str(streams), "--request-rate", "inf", "--ignore-eos", "--disable-tqdm",
            "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "99",
            "--save-result", "--result-dir", directory, "--result-filename", "result.json", "--temperature", "0",
            "--num-warmups", "0", "--ready-check-timeout-sec", "0", *more,
        ]  # fmt: skip
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_TARGET_DEVICE": "cpu", "no_proxy": "*"}
        before = cpu_s()
        done = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"vllm bench serve: {done.stderr[-2000:]}")
        return {**json.loads(Path(directory, "result.json").read_text()), "cpu_s": cpu_s() - before}


def plain(url: str, model: str, streams: int, output: int, texts: list[str]) -> dict[str, Any]:
    """The same load and figures by a reader that shares no line with the collection."""
    parts = urlsplit(url)
    pending, done, gate = iter(texts), [], threading.Lock()

    def stream() -> None:
        while True:
            with gate:
                text = next(pending, None)
            if text is None:
                return
            # A connection each: a server may close one that was used.
            connection = http.client.HTTPConnection(str(parts.hostname), parts.port or 80, timeout=600)
            connection.connect()
            asked = {"model": model, "prompt": text, "max_tokens": output, "stream": True, "temperature": 0,
                     "ignore_eos": True, "stream_options": {"include_usage": True}}  # fmt: skip
            sent = time.monotonic()
            connection.request("POST", "/v1/completions", json.dumps(asked), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            first = last = None
            tokens = 0
            while line := answer.readline():
                now = time.monotonic()
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if any(choice.get("text") for choice in event.get("choices") or ()):
                    first, last = first or now, now
                tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
            assert first and last and tokens == output, (tokens, output)
            done.append((sent, first, last))
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(streams) as pool:
        for running in [pool.submit(stream) for _i in range(streams)]:
            running.result()
    seconds = max(last for _sent, _first, last in done) - min(sent for sent, _first, _last in done)
    found: dict[str, Any] = {"request_throughput": len(done) / seconds, "cpu_s": 0.0}
    found["output_throughput"] = found["request_throughput"] * output
    for name, values in (
        ("ttft", [first - sent for sent, first, _last in done]),
        ("tpot", [(last - first) / (output - 1) for _sent, first, last in done]),
        ("e2el", [last - sent for sent, _first, last in done]),
    ):
        found[f"mean_{name}_ms"] = 1000 * statistics.fmean(values)
        found[f"median_{name}_ms"] = 1000 * statistics.median(values)
        found[f"p99_{name}_ms"] = 1000 * statistics.quantiles(values, n=100, method="inclusive")[98]
    return found


def counters(url: str) -> dict[str, float]:
    """Sums over all labels of the server's metrics; empty where it has none."""
    found: dict[str, float] = {}
    with contextlib.suppress(OSError), urllib.request.urlopen(url + "/metrics", timeout=30) as answer:
        for line in answer.read().decode().splitlines():
            name, _space, value = line.rpartition(" ")
            if name and not name.startswith("#"):
                plain = name.partition("{")[0]
                found[plain] = found.get(plain, 0.0) + float(value)
    return found


def witness(before: dict[str, float], after: dict[str, float], requests: int) -> dict[str, float]:
    """What the server says of the requests between the two, ms each."""
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    grown["requests"] = requests
    return {
        f"server_{name}_ms": 1000 * grown[sum_of] / grown[by]
        for name, (sum_of, by) in WITNESS.items()
        if sum_of in grown and grown.get(by)
    }


def compare(arguments: argparse.Namespace) -> None:
    for streams in arguments.streams:
        count = max(arguments.requests, 10 * streams)
        other = "vllm" if arguments.vllm else "plain"
        rounds: dict[str, list[dict[str, Any]]] = {"ours": [], other: []}
        words = prompts.TEXTS[-1].split()

        def fresh(words: list[str] = words, count: int = count) -> list[str]:
            # New ones each time: servers keep what they have computed of a prompt, some in the host's memory.
            return [" ".join(random.choices(words, k=arguments.words)) for _i in range(count)]

        ours(arguments.url, arguments.model, streams, 2 * streams, arguments.output, Given(fresh()))  # warm up
        for number in range(2 * arguments.rounds):
            texts = fresh()
            # ABBA: what drifts drifts for both.
            who = ("ours", other, other, "ours")[number % 4]
            before = counters(arguments.url)
            if who == "ours":
                found = ours(arguments.url, arguments.model, streams, count, arguments.output, Given(texts))
            elif who == "plain":
                found = plain(arguments.url, arguments.model, streams, arguments.output, texts)
            else:
                found = vllms(
                    arguments.vllm,
                    arguments.tokenizer,
                    arguments.url,
                    arguments.model,
                    streams,
                    arguments.output,
                    texts,
                )
            # vLLM's tool counts with its own tokenizer where a server puts the usage into an event with a choice
            # (llama.cpp); the answers are as long as was asked for.
            found["decode_ms"] = (found["mean_e2el_ms"] - found["mean_ttft_ms"]) / (arguments.output - 1)
            told = witness(before, counters(arguments.url), count)
            rounds[who].append({**found, **told})
            shown = [f"{name} {found[name]:.2f}" for name in FIGURES] + [f"{n} {v:.2f}" for n, v in told.items()]
            print(f"  {who}: {', '.join(shown)}", file=sys.stderr)
        print(
            f"{streams} streams, {count} requests, {arguments.words} words each, {arguments.output} tokens of answer, "
            f"{arguments.rounds} rounds, medians"
        )
        told_of = [name for name in rounds["ours"][0] if name.startswith("server_")]
        for name in (*FIGURES, *told_of):
            values = {who: statistics.median(found[name] for found in rounds[who]) for who in rounds}
            spread = {
                who: (max(f[name] for f in rounds[who]) / min(f[name] for f in rounds[who]) - 1) * 100 for who in rounds
            }
            cells = [f"{who} {values[who]:10.2f} (spread {spread[who]:4.1f} %)" for who in rounds]
            print(f"  {name:<20} {'  '.join(cells)}  ratio {values['ours'] / values[other]:.4f}")


def together(arguments: argparse.Namespace) -> None:
    parts = urlsplit(arguments.url)
    target = load.Target(str(parts.hostname), parts.port or 80, "", {}, None, "completions", arguments.model)
    words = prompts.TEXTS[-1].split()

    def fresh(count: int) -> list[str]:
        return [" ".join(random.choices(words, k=arguments.words)) for _i in range(count)]

    for streams in arguments.streams:
        ratios: dict[str, list[float]] = {}
        for _round in range(arguments.rounds):
            given = (arguments.vllm, arguments.tokenizer, arguments.url, arguments.model, streams, arguments.output)
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                other = pool.submit(vllms, *given, fresh(max(arguments.requests, 10 * streams)), ("--save-detailed",))
                forever = time.monotonic() + 3600
                supply = Given(fresh(100000))
                point = load.run_point(target, supply, arguments.output, streams, 10**6, forever, other.done)
                theirs = other.result()
            # Both clocks are CLOCK_MONOTONIC.
            ends = [
                start + first + sum(gaps)
                for start, first, gaps in zip(theirs["start_times"], theirs["ttfts"], theirs["itls"], strict=True)
            ]
            begin, end = min(theirs["start_times"]), max(ends)
            kept = [one for one in point.requests if one.sent >= begin and one.ended <= end]
            mine = measure.summarise(kept, begin, end, streams, None, point.lags)
            # Of a request that reaches over an edge the part that is inside.
            parts_of = [
                (min(one.ended, end) - max(one.sent, begin)) / (one.ended - one.sent)
                for one in point.requests
                if one.error is None and one.ended > begin and one.sent < end
            ]
            mine["request_throughput"] = sum(parts_of) / (end - begin)
            mine["output_throughput"] = mine["request_throughput"] * arguments.output
            # Answers are as long as was asked for. The other counts those of llama.cpp with its own tokenizer: its TPOT
            # and tokens/s mean nothing there.
            theirs["output_throughput"] = theirs["request_throughput"] * arguments.output
            for found in (mine, theirs):
                found["decode_ms"] = (found["mean_e2el_ms"] - found["mean_ttft_ms"]) / (arguments.output - 1)
            shown = []
            for name in FIGURES:
                ratios.setdefault(name, []).append(mine[name] / theirs[name])
                shown.append(f"{name} {mine[name]:.2f} {theirs[name]:.2f}")
            print(f"  ours and vllm, {len(kept)} and {len(ends)} requests: {', '.join(shown)}", file=sys.stderr)
        print(f"{streams} streams of each at the same time, {arguments.rounds} rounds: ratio of ours to vllm's")
        for name, values in ratios.items():
            print(f"  {name:<20} {statistics.median(values):.4f}  ({', '.join(f'{one:.4f}' for one in values)})")


@contextlib.contextmanager
def standin(processes: int) -> Iterator[int]:
    program = [sys.executable, str(ROOT / "tests" / "standins" / "scripted_stream.py"), "0", str(processes)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            yield int(server.stdout.readline())
        finally:
            server.kill()


def count_bytes(port: int, model: str, streams: int, count: int, output: int) -> tuple[float, float, int]:
    """A reader that looks at nothing: (s, CPU s, events) of `count` answers over `streams` connections."""
    body = json.dumps({"model": model, "prompt": [1] * 8, "max_tokens": output, "stream": True}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    selector, left, ended, events = selectors.DefaultSelector(), count, 0, 0
    before, begin = cpu_s(), time.monotonic()
    for _i in range(streams):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(head + body)
        left -= 1
        selector.register(connection, selectors.EVENT_READ)
    while ended < count:
        for key, _mask in selector.select():
            data = key.fileobj.recv(262144)  # type: ignore[union-attr]
            events += data.count(b"\n\n")
            if b"data: [DONE]" in data:
                ended += 1
                if left > 0:
                    left -= 1
                    key.fileobj.sendall(head + body)  # type: ignore[union-attr]
    return time.monotonic() - begin, cpu_s() - before, events


def ceiling(arguments: argparse.Namespace) -> None:
    model = json.dumps({"ttft": 0, "gap": 0, "tokens": arguments.output, "burst": arguments.burst})
    for streams in arguments.streams:
        count = 4 * streams
        supply = prompts.Prompts(8, range(1000))
        tokens = count * arguments.output
        with standin(arguments.processes) as port:
            url = f"http://127.0.0.1:{port}"
            rows = []
            for _round in range(arguments.rounds):
                found = ours(url, model, streams, count, arguments.output, supply)
                assert found["completed"] == count, found["errors"]
                rows.append(("ours", tokens / found["duration"], tokens / found["cpu_s"]))
                if arguments.vllm:
                    base = vllms(arguments.vllm, arguments.tokenizer, url, model, 1, 1, ["x"])["cpu_s"]
                    texts = ["word word"] * count
                    found = vllms(arguments.vllm, arguments.tokenizer, url, model, streams, arguments.output, texts)
                    assert found["completed"] == count
                    # What starting it costs is not the load.
                    rows.append(("vllm bench serve", tokens / found["duration"], tokens / (found["cpu_s"] - base)))
                seconds, cpu, _events = count_bytes(port, model, streams, count, arguments.output)
                rows.append(("bytes only", tokens / seconds, tokens / cpu))
        shape = f"{count} answers of {arguments.output} tokens, an event each, {arguments.burst} a write"
        print(f"{streams} streams, {shape}; medians of {arguments.rounds}")
        for who in dict.fromkeys(row[0] for row in rows):
            walls, cpus = ([row[i] for row in rows if row[0] == who] for i in (1, 2))
            print(
                f"  {who:<17} {statistics.median(walls):10,.0f} tokens/s with the stand-in beside it, "
                f"{statistics.median(cpus):10,.0f} tokens a CPU second"
            )


def exact(arguments: argparse.Namespace) -> None:
    ttft, gap, tokens = 0.5, 0.05, 41
    spread = 0.0 if arguments.at_once else ttft
    scripts = {
        # Evenly between ttft and ttft + spread.
        "ttft": lambda wanted: ttft + spread * wanted / 100,
        "tpot": lambda _wanted: gap,
        "e2el": lambda wanted: ttft + spread * wanted / 100 + gap * (tokens - 1),
    }
    with standin(arguments.processes) as port, tempfile.TemporaryDirectory() as directory:
        for streams in arguments.streams:
            log = Path(directory, f"log-{streams}")
            scripted = {"ttft": ttft, "gap": gap, "tokens": tokens, "spread": spread, "log": str(log)}
            url, supply = f"http://127.0.0.1:{port}", prompts.Prompts(64, range(1000))
            quick = json.dumps({"ttft": 0.01, "gap": 0.001, "tokens": 10})
            ours(url, quick, streams, streams, 10, supply)  # warm up, as `dsdeploy bench` does
            # The first requests of all streams come at one moment, and wait for each other before the stand-in has read
            # them; that time is neither scripted nor on its side's clock.
            first = 0 if arguments.at_once else streams
            found = ours(
                url, json.dumps(scripted), streams, max(arguments.requests, 3 * streams) + first, tokens, supply, first
            )
            lag, load = found["client_lag_p99_ms"], os.getloadavg()[0]
            print(f"{streams} streams: {found['completed']} completed, client lag p99 {lag} ms, load {load:.1f}")
            beside(found, log, first, tokens, scripts)
            if arguments.vllm:
                other = Path(directory, f"log-{streams}-vllm")
                texts = [
                    " ".join(str(number) for number in supply.take())
                    for _i in range(max(arguments.requests, 3 * streams))
                ]
                script = json.dumps({**scripted, "log": str(other)})
                theirs = vllms(arguments.vllm, arguments.tokenizer, url, script, streams, tokens, texts)
                print("  vllm bench serve, on the same script")
                beside(theirs, other, 0, tokens, scripts)


def beside(found: dict[str, Any], log: Path, first: int, tokens: int, scripts: dict[str, Any]) -> None:
    """What a generator measured, beside what was scripted and what the stand-in sent by its own clock."""
    sent = [tuple(map(float, line.split())) for line in log.read_text().splitlines()][first:]
    truth = {"ttft": sorted(first for first, _last in sent), "e2el": sorted(last for _first, last in sent)}
    truth["tpot"] = sorted((last - first) / (tokens - 1) for first, last in sent)
    for name, script in scripts.items():
        cells = []
        for wanted in (50, 99):
            seen = found[f"median_{name}_ms" if wanted == 50 else f"p{wanted}_{name}_ms"]
            true = (measure.percentile(truth[name], wanted) or 0) * 1000
            due = script(wanted) * 1000
            measured = f"measured {seen - due:+6.2f} ({seen - true:+.2f})"
            cells.append(f"p{wanted} scripted {due:7.2f}, sent {true - due:+6.2f}, {measured}")
        print(f"  {name}  " + "  ".join(cells))


def above_0(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for work in (compare, together, ceiling, exact):
        verb = verbs.add_parser(work.__name__)
        verb.set_defaults(work=work)
        default = {"compare": [1, 8], "together": [1, 4], "ceiling": [512], "exact": [1, 64, 512]}[work.__name__]
        verb.add_argument("--streams", type=lambda text: [above_0(word) for word in text.split(",")], default=default)
        verb.add_argument("--rounds", type=above_0, default=3)
        verb.add_argument("--words", type=int, default=20, help="of each prompt")
        verb.add_argument("--output", type=int, default=128)
        verb.add_argument("--requests", type=int, default=20)
        verb.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="of the stand-in")
        verb.add_argument("--burst", type=int, default=32, help="events that the stand-in sends in one write")
        verb.add_argument("--vllm", help="the program")
        verb.add_argument("--tokenizer", help="directory of the served model")
        if work is exact:
            verb.add_argument("--at-once", action="store_true")
        if work in (compare, together):
            verb.add_argument("url")
            verb.add_argument("model")
    arguments = parser.parse_args()
    arguments.work(arguments)


if __name__ == "__main__":
    main()
