# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measurements that are kept, compared and drawn."""

import errno
import json
import os
import re
from html.parser import HTMLParser

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import measure, turns
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import bench_expected, bench_report, bench_results, svg_plot
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.bench_words import WORDS

HOSTILE = """</script><script>alert(1)</script><img src=x onerror=alert(2)> "quotes" '木乞' 🦙 &amp; {{ 7*7 }}"""


def result(rate=100.0, model="m", gpus=("NVIDIA H800",) * 8, profile=None):
    def point(streams):
        requests = [
            measure.Request(0.0, 0.1, 1.1, 1.1, 11, [0.1] * 10, 100, 11, finish="length") for _i in range(streams * 10)
        ]
        found = measure.summarise(requests, 0.0, 2.0, streams, {"ttft": 500.0, "tpot": 200.0}, [0.001])
        return dict(found, output_throughput=rate * streams, gpu_strip=[], queue=[], gpus=[], energy_j=None)

    return {
        "schema": 1,
        "points": [point(1), point(8)],
        "profile": {"name": "quick", "prompt_tokens": 100, "output_tokens": 11, "shared_prefix": 0.0, "budget_s": 50,
                    "api": "completions", "ignore_eos": True, "prompts": "token ids, unique", **(profile or {})},
        "environment": {"record": {"engine": "vllm", "version": "0.32.0", "model": model}, "gpus": list(gpus),
                        "driver": "550.1", "host": "node"},
        "ended": "all points measured",
        "interrupted": False,
        "warnings": [HOSTILE],
    }  # fmt: skip


def beside(rates=(100.0, 101.0, 99.0), theirs=(95.0, 96.0, 94.0), tool="vllm", ended=None):
    """What a point has of rounds in turns; `theirs` may be fewer."""
    values = {turns.OURS: list(rates), turns.TOOL: list(theirs)}
    done = []
    for who in turns.order(3):
        if not values[who]:
            break
        figures = {"output_throughput": values[who].pop(0), "median_ttft_ms": 20.0, "median_tpot_ms": None}
        done.append(turns.Round(who, figures, None, 1.25, 0.31, 64.0))
    return turns.compare(tool, turns.Load(64, 128, 10, 1), 3, done, ended)


class Page(HTMLParser):
    """The elements of a page, and the text of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag == "script"

    def handle_data(self, data):
        if self.inside:
            self.scripts.append(data)
            self.inside = False


@pytest.mark.parametrize("language", sorted(WORDS))
def test_a_page_fetches_nothing_runs_nothing_and_takes_no_orders_from_names(language):
    measured = result(model=HOSTILE)
    measured["points"][0]["against"] = beside(tool=HOSTILE, theirs=[95.0], ended=HOSTILE)
    text = bench_report.render(measured, language)
    page = Page(text)
    names = [tag for tag, _attrs in page.tags]
    assert "img" not in names and names.count("script") == 1
    for _tag, attrs in page.tags:
        assert not {"src", "href", "style", "onerror", "onload"} & set(attrs)
    [script] = page.scripts
    # What is embedded is the whole measurement, to the letter.
    assert json.loads(script) == json.loads(json.dumps(measured))
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
    assert names.count("svg") >= 4 and len(text.encode()) < 200_000
    assert "url(" not in text and "@import" not in text


def test_both_languages_say_everything():
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for key, text in WORDS["en"].items():
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", WORDS["zh"][key])), key


# Terms that are the same in Chinese.
TERMS = r"tokens?/s|\btokens?\b|\b(TTFT|TPOT|E2EL|GPU|CPU|SM|MHz|ms|W|p50|p90|p99)\b"


def test_a_chinese_page_names_nothing_in_english():
    measured = result()
    measured["points"][0]["against"] = beside()
    page = bench_report.render(measured, "zh")
    named = re.findall(r"<(figcaption|th|h2|text)(?: [^>]*)?>([^<]*)</", page)
    assert len(named) > 40 and any("中位数" in text for tag, text in named if tag == "text")
    tool = measured["points"][0]["against"]["tool"]
    english = [text for _tag, text in named if re.search("[A-Za-z]{2}", re.sub(TERMS, "", text.replace(tool, "")))]
    assert english == []


@pytest.mark.parametrize("language", sorted(WORDS))
def test_rounds_in_turns_are_a_table(language):
    words, measured = WORDS[language], result()
    assert words["against"] not in bench_report.render(measured, language)
    measured["points"][0]["against"] = beside()
    measured["points"][1]["against"] = beside(theirs=[95.0], ended="broken off")
    text = bench_report.render(measured, language)
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", text)]
    rate = [row for row in rows if len(row) == 9 and row[2] == words["tokens_s"]]
    assert rate == [
        ["1", "3, 3", words["tokens_s"], "100.0", "2.0 %", "95.0", "2.1 %", "+5.3 %", words["beyond"]],
        ["8", "1, 1", words["tokens_s"], "100.0", "–", "95.0", "–", "+5.3 %", words["unknown"]],
    ]
    first = [row for row in rows if row[2:3] == ["TTFT p50, ms"]][0]
    assert first[3:] == ["20.0", "0.0 %", "20.0", "0.0 %", "+0.0 %", words["within"]]
    assert [row[3] for row in rows if row[2:3] == [words["client"]]] == ["0.31, 1.2", "0.31, 1.2"]
    assert "broken off: rounds 3 to 6 are missing" in text and words["turns"] in text.replace("&#x27;", "'")


def test_the_verdict():
    expected = {"low": 500.0, "high": 900.0, "streams": 8, "measured": 800.0, "sources": ["a card"]}
    said = bench_report.verdict(result(), WORDS["en"], expected)
    assert said == (
        "100.0 output tokens/s at 1 stream(s); at best 800.0, at 8. The medians meet the service level up to 8 "
        "stream(s). At 8 stream(s) 800.0 are what the catalog expects: 500.0 to 900.0 (a card)."
    )
    assert "800.0 are below" in bench_report.verdict(result(), WORDS["en"], {**expected, "low": 801.0})
    assert "800.0 are above" in bench_report.verdict(result(), WORDS["en"], {**expected, "high": 799.0})
    slow = result()
    for point in slow["points"]:
        point["median_ttft_ms"] = 501.0
    assert "No number of streams meets" in bench_report.verdict(slow, WORDS["en"])
    unknown = result()
    for point in unknown["points"]:
        point["output_throughput"] = None
    assert bench_report.verdict(unknown, WORDS["en"]) == WORDS["en"]["not_counted"]
    assert "<svg" in bench_report.render(unknown)


def published(*rows):
    return {"m": {"recipes": {"vllm": [{"published": [dict(row, source="a card") for row in rows]}]}}}


def test_what_is_expected_is_what_was_published_for_the_same_model_engine_gpus_and_streams():
    one = {"gpus": "8 x H800", "streams": 1, "tok_s": 60.0}
    found = bench_expected.expected(result(), published(one, dict(one, tok_s=80.0), dict(one, streams=32)))
    assert found == {"low": 54.0, "high": 88.0, "streams": 1, "measured": 100.0, "sources": ["a card"]}
    # H80 is not H800, four are not eight; another model, no GPU, an unknown rate: nothing is expected.
    for other in (dict(one, gpus="8 x H80"), dict(one, gpus="4 x H800"), dict(one, gpus="8 x H200")):
        assert bench_expected.expected(result(), published(other)) is None
    assert bench_expected.expected(result(model="n"), published(one)) is None
    assert bench_expected.expected(result(gpus=()), published(one)) is None
    unknown = result()
    unknown["points"][0]["output_throughput"] = None
    assert bench_expected.expected(unknown, published(one)) is None


def test_the_catalog_has_rates_that_a_measurement_is_compared_with():
    measured = result(rate=62.0, model="deepseek-r1", gpus=("NVIDIA H200",) * 8)
    found = bench_expected.expected(measured, bench_expected.read_catalog())
    assert found and found["streams"] == 1 and found["low"] < 62.0 < found["high"]


def test_a_plot_of_nothing_is_nothing():
    assert svg_plot.plot([], "x", "y") == "" and svg_plot.plot([svg_plot.Series("a", [])], "x", "y") == ""
    assert "<polyline" in svg_plot.plot([svg_plot.Series("a", [(1, 0.0)])], "x", "y", log_x=True)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 7), (0, 0.003), (0, 98765), (0, 0)])
def test_ticks_are_round_and_reach_over_all(low, high):
    ticks = svg_plot.nice_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8


def test_what_is_kept_is_found_again(tmp_path):
    directory = str(tmp_path / "bench")
    first = bench_results.save(directory, "../odd host", result(), now=1.0)
    second = bench_results.save(directory, "../odd host", result(), now=1.0)
    assert first != second and os.path.dirname(first) == os.path.join(directory, "odd_host")
    (tmp_path / "bench" / "odd_host" / "broken.json").write_text("[]")
    rows = bench_results.listing(directory)
    assert [row.get("best_tokens_s") for row in rows] == [None, 800.0, 800.0] and "is not a measurement" in rows[0][
        "problem"
    ]
    measured = changed(("interrupted",), True)
    kept = bench_results.load(bench_results.save(directory, "h", measured))
    assert kept["points"] == json.loads(json.dumps(measured["points"]))
    assert bench_results.load(first)["inventory_hostname"] == "../odd host"
    assert not [name for name in os.listdir(os.path.dirname(first)) if name.startswith(".")]


NO_MEASUREMENT = (
    "",
    "[]",
    "5",
    "null",
    '{"points": []}',
    '{"points": [1], "environment": {}, "profile": {}}',
    '{"points": [{}], "environment": {}, "profile": {}, "schema": 2}',
    "[" * 100000,
)


@pytest.mark.parametrize("text", NO_MEASUREMENT)
def test_what_is_no_measurement_is_said_in_a_line(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(bench_results.NotAResult, match=r"x\.json .*") as caught:
        bench_results.load(str(path))
    assert "\n" not in str(caught.value)


def test_apples_are_not_compared_with_pears():
    assert bench_results.differences(result(), result()) == []
    said = bench_results.differences(result(), result(model="n", gpus=(), profile={"output_tokens": 5}))
    assert said == ["output_tokens: 11 and 5", "model: m and n", "GPUs: 8 x NVIDIA H800 and none"]
    said = bench_results.differences(result(), dict(result(), environment={"record": {"model": "m"}, "gpus": None}))
    assert said == ["GPUs: 8 x NVIDIA H800 and not known"]
    varied = [result(profile={"range_ratio": ratio}) for ratio in (0.0, 0.5)]
    assert bench_results.differences(*varied) == ["range_ratio: 0.0 and 0.5"]


def test_lengths_that_differ_are_said_in_the_report():
    assert "100 + 11 tokens, token ids" in bench_report.render(result(profile={"range_ratio": 0.0}))
    assert "100 + 11 tokens ± 50 %, token ids" in bench_report.render(result(profile={"range_ratio": 0.5}))


def test_a_comparison_says_which_is_better():
    rows = {(row["concurrency"], row["name"]): row for row in bench_results.compare(result(), result(rate=90.0))}
    assert rows[8, "output tokens/s"]["ratio"] == 0.9 and rows[8, "output tokens/s"]["better"] is False
    assert rows[8, "median TTFT, ms"]["better"] is None
    assert all(row["better"] is not False for row in bench_results.compare(result(), result(rate=101.0)))


def changed(place, value):
    """A measurement in which somebody has changed one value. `place`: its keys."""
    found = result()
    found["points"][0]["against"] = beside()
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return found


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("points", 0, "max_concurrency"), "8"),
        (("points", 0, "max_concurrency"), 0),
        (("points", 0, "max_concurrency"), True),
        (("points", 0, "completed"), None),
        (("points", 1, "median_ttft_ms"), "12"),
        (("points", 1, "p90_tpot_ms"), [1]),
        (("points", 1, "timeline"), [[0, 1]]),
        (("points", 1, "timeline"), [{"at_s": None, "tokens_s": 1.0}]),
        (("points", 1, "queue"), [{"at_s": 1, "running": "x"}]),
        (("points", 1, "slo_ms"), {"ttft": "fast"}),
        (("points", 1, "against"), "vllm"),
        (("points", 1, "against"), {}),
        (("points", 0, "against", "tool"), None),
        (("points", 0, "against", "notes"), "one"),
        (("points", 0, "against", "rounds"), [1]),
        (("points", 0, "against", "ratio"), {"output_throughput": "1"}),
        (("points", 0, "against", "spread"), {"ours": {}}),
        (("points", 0, "against", "client", "tool"), {"cpus": []}),
        (("points", 0, "against", "within"), {"output_throughput": "yes"}),
        (("points", 0, "against", "whole"), {"ours": 3}),
        (("points", 0, "against", "problem"), ["x"]),
        (("environment", "record"), "vllm"),
        (("environment", "gpus"), [{"name": "H200"}]),
        (("warnings",), "one"),
    ],
)
def test_a_value_that_somebody_changed_is_named_with_its_file(tmp_path, place, value):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(changed(place, value)))
    with pytest.raises(bench_results.NotAResult, match=re.escape(f"{path}: {place[0]}")):
        bench_results.load(str(path))


def test_a_pipe_a_directory_and_a_folder_of_somebody_else_s_hold_up_no_list(tmp_path, monkeypatch):
    path = bench_results.save(str(tmp_path), "h", result())
    os.mkfifo(tmp_path / "h" / "pipe.json")
    (tmp_path / "h" / "folder.json").mkdir()
    (tmp_path / "h" / ".hidden.json").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refused(place):
        if str(place).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refused)
    rows = {row["path"]: row.get("problem") for row in bench_results.listing(str(tmp_path))}
    assert rows == {
        path: None,
        str(tmp_path / "h" / "pipe.json"): f"{tmp_path}/h/pipe.json: not a file",
        str(tmp_path / "h" / "folder.json"): f"{tmp_path}/h/folder.json: not a file",
        str(tmp_path / "locked"): f"{tmp_path}/locked: Permission denied",
    }
    assert bench_results.listing(str(tmp_path / "none")) == []
    # A directory that cannot be read is not one without measurements.
    with pytest.raises(PermissionError):
        bench_results.listing(str(tmp_path / "locked"))


def test_a_pipe_that_is_named_is_read(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, json.dumps(result()).encode())
    os.close(writing)
    assert bench_results.load(f"/dev/fd/{reading}")["points"]
    os.close(reading)


@pytest.mark.parametrize("host", ["x" * 300, "日本", "\u202eevil", "🦙", "..", "-", "gpu_" * 40])
def test_any_host_has_a_folder_of_its_own(tmp_path, host):
    path = bench_results.save(str(tmp_path), host, result())
    folder = os.path.basename(os.path.dirname(path))
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,80}", folder) and folder.strip(".")
    for other in (host + "y", host + "Ä", host + "ß"):
        assert os.path.dirname(bench_results.save(str(tmp_path), other, result())) != os.path.dirname(path)
    assert bench_results.load(path)["inventory_hostname"] == host


def test_half_a_character_of_an_engine_s_json_is_kept_and_drawn(tmp_path):
    path = bench_results.save(str(tmp_path), "h", result(model="half \ud83d"))
    kept = bench_results.load(path)
    assert kept["environment"]["record"]["model"] == "half \ud83d"
    page = bench_report.render(kept)
    page.encode("utf-8")
    assert "half ?" in page and json.loads(Page(page).scripts[0]) == kept


def test_a_file_system_without_links_keeps_it_all_the_same(tmp_path, monkeypatch):
    def none(*_arguments):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    first = bench_results.save(str(tmp_path), "h", result(), now=1.0)
    second = bench_results.save(str(tmp_path), "h", result(), now=1.0)
    assert first != second and bench_results.load(first)["points"] == bench_results.load(second)["points"]
    assert len(os.listdir(tmp_path / "h")) == 2


def test_where_measurements_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert bench_results.default_directory() == f"{tmp_path}/.local/state/dsdeploy/bench"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert bench_results.default_directory() == f"{tmp_path}/state/dsdeploy/bench"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no $HOME, and a user that the system does not know
    with pytest.raises(OSError, match="--results"):
        bench_results.default_directory()
