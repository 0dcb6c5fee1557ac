# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of `dsdeploy bench` in a real browser without a network."""

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / ".collections")]

from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import measure, turns  # noqa: E402
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import bench_report  # noqa: E402
from chromium import Page  # noqa: E402

HOSTILE = """</title></script><script>alert(1)</script><img src=http://192.0.2.1/x onerror=alert(2)>"quotes'木🦙"""
# How bright the ground is, from 0 to 1, and the text that differs least from it.
BRIGHT = """
(() => {
  const light = colour => colour.match(/[0-9.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 765;
  const ground = light(getComputedStyle(document.body).backgroundColor);
  const texts = [...document.querySelectorAll("svg text, p, h1, h2, td, th, li, figcaption")].map(part => {
    const style = getComputedStyle(part);
    return light(part.tagName == "text" ? style.fill : style.color);
  });
  texts.sort((one, two) => Math.abs(one - ground) - Math.abs(two - ground));
  return [ground, texts[0]];
})()
"""
# What is wider than the page, or has no size.
MISSHAPEN = """
[...document.querySelectorAll("figure, svg, p, h1, table.facts")].filter(part => {
  const box = part.getBoundingClientRect();
  return box.width < 50 || box.height < 10 || box.right > document.documentElement.clientWidth + 1;
}).map(part => part.tagName + " " + part.className)
"""


def point(streams):
    requests = []
    for stream in range(streams):
        for number in range(5):
            sent = number * 1.5 + stream * 0.01
            first = sent + 0.08 + 0.006 * streams
            last = first + 1.0 + 0.02 * streams
            requests.append(measure.Request(sent, first, last, last, 65, [0.02] * 64, 512, 65, finish="length"))
    found = measure.summarise(
        requests, 0, max(one.ended for one in requests), streams, {"ttft": 500, "tpot": 50}, [0.001]
    )
    rows = [{"at_s": second, "power_w": 4800, "sm_mhz": 1700, "temperature_c": 61 + second % 3} for second in range(8)]
    queue = [{"at_s": second, "running": streams, "waiting": second % 2} for second in range(8)]
    return dict(found, gpu_strip=rows, queue=queue, gpus=[], energy_j=None, interrupted=False, asked=5 * streams)


def beside(streams):
    """Rounds in turns with the engine's own tool, the last of which is missing."""
    figures = {name: 1234.5 + number for number, name in enumerate(turns.FIGURES)}
    done = [turns.Round(who, figures, None, 1.2, 0.3, 512.0) for who in turns.order(3)[:5]]
    return turns.compare(HOSTILE, turns.Load(512, 65, 5 * streams, streams), 3, done, HOSTILE)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """URLs of the report in both languages."""
    result = {
        "schema": 1,
        "points": [dict(point(streams), against=beside(streams)) for streams in (1, 4, 16, 64)],
        "profile": {"name": "chat", "prompt_tokens": 512, "output_tokens": 65, "shared_prefix": 0, "budget_s": 600,
                    "api": "completions", "ignore_eos": True, "prompts": "token ids, unique"},
        "environment": {"record": {"engine": "vllm", "version": "0.32.0", "model": HOSTILE}, "host": "gpu1",
                        "gpus": ["NVIDIA H800"] * 8, "driver": "550.1", "kernel": "6.1", "cpus": 192,
                        "served": {"command": ["python", "-m", "vllm", HOSTILE], "variables": {"VLLM_X": "1"}}},
        "ended": "saturated", "interrupted": False, "warnings": [HOSTILE], "inventory_hostname": HOSTILE,
    }  # fmt: skip
    directory = tmp_path_factory.mktemp("report")
    for language in ("en", "zh"):
        text = bench_report.render(json.loads(json.dumps(result)), language)
        (directory / f"{language}.html").write_text(text, encoding="utf-8")
    return {language: (directory / f"{language}.html").as_uri() for language in ("en", "zh")}


@pytest.fixture(scope="module")
def page():
    with Page() as found:
        yield found


def keep(name, data):
    """Where somebody wants to look at it."""
    if os.environ.get("DSDEPLOY_SCREENSHOTS"):
        Path(os.environ["DSDEPLOY_SCREENSHOTS"], name).write_bytes(data)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_it_is_whole_asks_for_nothing_and_complains_of_nothing(page, pages, language, scheme, media):
    page.requests.clear()
    page.said.clear()
    # A4 at 96 dpi, less its margins.
    page.open(pages[language], *((1280, 900) if media == "screen" else (688, 1000)), media, scheme)
    assert page.requests == [pages[language]]
    assert page.said == []
    assert page.value("document.querySelectorAll('img, iframe, link, object').length") == 0
    assert page.value("document.scripts.length") == 1
    assert page.value("document.querySelectorAll('figure svg').length") == 8
    assert page.value("document.querySelectorAll('svg polyline').length") >= 12
    assert HOSTILE in page.value("document.body.innerText")
    assert page.value(MISSHAPEN) == []
    ground, text = page.value(BRIGHT)
    assert ground < 0.3 if (scheme, media) == ("dark", "screen") else ground > 0.9
    assert abs(text - ground) > 0.4, "a text is hardly seen"
    keep(f"{language}-{scheme}-{media}.png", page.screenshot())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_is_printed_on_a_few_pages(page, pages, language):
    page.open(pages[language], 1280, 900)
    printed = page.pdf()
    keep(f"{language}.pdf", printed)
    assert printed.startswith(b"%PDF-")
    assert 1 < printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") < 8


def test_a_page_that_asks_and_complains_would_be_seen(page, tmp_path):
    page.requests.clear()
    page.said.clear()
    (tmp_path / "bad.html").write_text("<img src=http://192.0.2.1/x><script>console.error('here')</script>")
    page.open((tmp_path / "bad.html").as_uri(), 800, 600)
    assert "http://192.0.2.1/x" in page.requests
    assert any("here" in line for line in page.said)
