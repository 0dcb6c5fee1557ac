"""The screen of `status --watch`: fitted to its terminal, whatever hosts, models and engines say."""

from __future__ import annotations

from typing import Any

import pytest

from dsdeploy import watching
from dsdeploy.render import screen
from dsdeploy.render.screen import View

GPU = {
    "index": 0,
    "name": "NVIDIA H100 80GB HBM3",
    "memory_mib": 72000.0,
    "memory_total_mib": 81559.0,
    "utilization": 98.0,
    "temperature_c": 63.0,
    "power_w": 612.0,
    "power_limit_w": 700.0,
    "throttled": [],
}
DEPLOYMENT = {
    "engine": "vllm",
    "version": "0.32.0",
    "model": "deepseek-ai/DeepSeek-R1-0528",
    "active": "running",
    "stopped_on_purpose": False,
    "ready": True,
    "ready_detail": None,
    "uptime_s": 12345,
    "running": 12.0,
    "waiting": 3.0,
    "kv_use": 0.71,
    "generated_s": 812.4,
    "prompted_s": 2310.0,
    "last_error": None,
}


def look(gpus: int | None = 8, **changes: Any) -> dict[str, Any]:
    return {
        "load_1": 3.1,
        "cpus": 64,
        "memory": {"total_bytes": 512 * 2**30, "available_bytes": 400 * 2**30},
        "gpus": None if gpus is None else [dict(GPU, index=i) for i in range(gpus)],
        "deployments": [dict(DEPLOYMENT, **changes)],
        "problems": [],
    }


def frame(views: dict[str, View], width: int = 80, height: int = 24, colour: bool = False) -> list[str]:
    lines = screen.screen(views, 100.0, "22:41:07", 2.0, width, height, 58.0)
    return [screen.drawn(line, width, colour) for line in lines]


def fleet(count: int) -> dict[str, View]:
    return {f"node{i:02}": View(look(), "", 99.0) for i in range(count)}


def test_one_host_in_80_columns_and_24_lines() -> None:
    shown = frame({"gpu1": View(look(last_error="ERROR CUDA error"), "", 99.0)})
    assert shown[1] == "gpu1  load 3.1 of 64  memory 112.0/512.0 GiB"
    assert shown[2] == "  vllm 0.32.0  ready  up 3 h 25 min  deepseek-ai/DeepSeek-R1-0528"
    assert shown[3] == "    12 running  3 waiting  812.4 tokens/s out  2,310.0 in  KV 71 %"
    assert shown[4] == "    last error  ERROR CUDA error"
    assert shown[5] == "  GPU 0  70.3/79.6 GiB   98 %  63 °C  612/700 W  NVIDIA H100 80GB HBM3"
    assert len(shown) == 13


def test_what_is_waited_for_is_said_from_the_first_frame_on(capsys: pytest.CaptureFixture[str]) -> None:
    watching.ScreenSight(2.0)  # before Ansible is there, and before the first tick
    assert "starting Ansible ... 0 s" in capsys.readouterr().out
    assert frame({})[1] == "Ansible has not begun for 42 s: it reads the inventory, or waits for an input"
    views = {"gpu1": View(look(), "", 99.0), "gpu2": View(heard=97.0)}
    assert "gpu2  connecting to host ... 3 s" in frame(views)
    assert any(line.startswith("gpu2 ") and "connecting to host ... 3 s" in line for line in frame(views, height=6))
    assert "\x1b[33mconnecting to host ... 42 s\x1b[0m" in frame({"gpu2": View(heard=58.0)}, colour=True)[1]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (40, 10), (20, 5), (5, 2), (1, 1)])
@pytest.mark.parametrize("count", [0, 1, 2, 20, 200])
def test_nothing_is_wider_or_higher_than_the_terminal(width: int, height: int, count: int) -> None:
    views = fleet(count)
    if count > 2:
        views["node01"] = View(None, "cannot be reached: " + "x" * 300, 99.0)
        views["主机" * 20] = View(look(model="模型🚀" * 40, gpus=None), "", 99.0)
    shown = frame(views, width, height)
    assert 0 < len(shown) <= height
    assert all(screen.cells(line) <= width for line in shown)


def test_twenty_hosts_are_rows() -> None:
    shown = frame(fleet(20))
    assert shown[1].split() == [
        "HOST",
        "STATE",
        "ENGINE",
        "MODEL",
        "RUN",
        "WAIT",
        "TOK/S",
        "KV",
        "GPU%",
        "GiB",
        "°C",
        "W",
    ]
    assert shown[2].split()[-8:] == ["3", "812", "71", "%", "98", "562", "63", "4,896"] and len(shown) == 22
    # Narrow: the less important go first.
    assert frame(fleet(20), 40)[1].split() == ["HOST", "STATE", "RUN", "WAIT", "TOK/S", "KV"]
    assert "deepseek-ai/DeepSeek-R1-0528" in frame(fleet(20), 120)[2]


def test_hosts_are_in_order_however_they_come() -> None:
    views = {f"gpu{i}": View(look(), "", 99.0) for i in (10, 2, 1, 20)}
    views["gpu²"] = View(look(), "", 99.0)
    shown = frame(views, 80, 10)
    assert [line.split()[0] for line in shown[2:]] == ["gpu1", "gpu2", "gpu10", "gpu20", "gpu²"]


def test_trouble_comes_first_where_not_all_fit() -> None:
    views = fleet(40)
    views["node35"] = View(look(ready=False, active="failed", ready_detail="x"), "", 99.0)
    views["node36"] = View(None, "cannot be reached", 99.0)
    views["node37"] = View(look(), "", 50.0)
    views["node38"] = View(look(stopped_on_purpose=True, ready=None, active="stopped"), "", 99.0)
    shown = frame(views)
    assert [line.split()[0] for line in shown[2:6]] == ["node35", "node36", "node37", "node00"]
    assert "no news for 50 s" in shown[4] and shown[-1].startswith("and 19 more hosts")


def test_what_is_not_known_is_no_number() -> None:
    nothing = dict.fromkeys(("running", "waiting", "kv_use", "generated_s", "prompted_s", "uptime_s"))
    told = look(**nothing)
    told["gpus"] = [{**dict.fromkeys(GPU), "index": 0, "name": "Tesla"}]
    shown = frame({"a": View(told, "", 99.0)})
    assert shown[3] == "    ? running  ? waiting  ? tokens/s out  ? in  KV ?"
    assert shown[4] == "  GPU 0  ?/? GiB    ? %  ? °C  ?/? W  Tesla"
    assert frame({"a": View(look(gpus=None), "", 99.0)})[-1] == "  nvidia-smi is there and does not answer"


@pytest.mark.parametrize("hostile", ["a\nb", "a\x1b[2Jb", "a\x07b", "a\x1b]0;title\x07b", "a\r\nb\x00"])
def test_nothing_that_is_said_steers_the_terminal(hostile: str) -> None:
    said = look(model=hostile, engine=hostile, last_error=hostile, ready=False, ready_detail=hostile, active=hostile)
    said["problems"] = [hostile]
    said["gpus"][0]["name"] = hostile
    for views in ({hostile: View(said, "", 99.0)}, {"a": View(None, hostile, 99.0)}, {**fleet(30), "x": View(said)}):
        assert all(char.isprintable() for line in frame(views) for char in line)


def test_a_host_whose_record_cannot_be_read_is_not_called_empty() -> None:
    said = look()
    said["deployments"] = []
    assert "nothing is deployed here" in "".join(frame({"a": View(said, "", 99.0)}))
    said["problems"] = ["/etc/dsdeploy/deployments/vllm.json is not a deployment record: not JSON"]
    shown = "".join(frame({"a": View(said, "", 99.0)}))
    assert "is not a deployment record" in shown and "nothing is deployed" not in shown


def test_colour_only_where_it_is_wanted() -> None:
    assert "\x1b" not in "".join(frame(fleet(1)))
    line = frame(fleet(1), colour=True)[2]
    assert "\x1b[32mready\x1b[0m" in line
