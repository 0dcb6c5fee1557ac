"""`plan --model OWNER/NAME`: the hub is asked for its list and for config.json, and for no weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/standins"))
import hub as standin  # noqa: E402

CONFIG = json.loads((ROOT / "tests/unit/fixtures/configs/llama-3.1-70b.json").read_text())["config"]
SCHEMA = json.loads((ROOT / "docs/plan.schema.json").read_text())


@pytest.fixture
def hub(tmp_path: Path):
    folder = tmp_path / "hub/acme/Large-70B"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(dict(CONFIG, torch_dtype="bfloat16")))
    for number in (1, 2):
        with open(folder / f"model-0000{number}-of-00002.safetensors", "wb") as handle:
            handle.truncate(8 * 1024**2)
    with standin.served(tmp_path / "hub") as found:
        yield found


def test_a_repository_is_planned_by_its_config(hub, tmp_path):
    # A mirror as people write it, without the brackets of a list.
    variables = {"dsdeploy_mirrors": {"huggingface": hub.url, "modelscope": hub.url}}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    words = ["plan", "--gpus", "4xH100-80GB", "--model", "acme/Large-70B", "--json", "-e", json.dumps(variables)]
    done = subprocess.run(
        [sys.executable, "-m", "dsdeploy", *words],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": str(ROOT / "python"), "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (plan,) = [event["plan"] for event in events if event["event"] == "plan"]
    jsonschema.Draft202012Validator(SCHEMA).validate(plan)
    by_engine = {row["engine"]: row for row in plan["rows"]}
    assert set(by_engine) == {"vllm", "sglang"}
    assert by_engine["vllm"]["numbers"]["kv_bytes_per_token"]["value"] == 327680 // 4
    assert by_engine["vllm"]["bytes"]["value"] == 16 * 1024**2
    assert plan["recommended"]["command"].startswith("dsdeploy up --engine vllm --model acme/Large-70B ")
    asked = [one["path"] for one in hub.log]
    assert any("config.json" in path for path in asked)
    assert not any("safetensors" in path for path in asked)
