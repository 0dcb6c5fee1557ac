"""Releases side by side, with the real vLLM in two versions. The tests build on each other, in this order."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[3]
sys.path[:0] = [str(CHECKOUT / ".collections")]
from ansible_collections.dsdeploy.llm.plugins.module_utils import engine_parameters, model_shape  # noqa: E402

ROOT, SERVICE = "/opt/dsdeploy/vllm", "dsdeploy-vllm"
SENTENCE = "Hello from a tiny test model!"
OLD, NEW = "0.31.0", "0.32.0"
START_S = 300
CATALOG = yaml.safe_load((CHECKOUT / "roles/model/defaults/main/catalog.yml").read_text(encoding="utf-8"))
TABLE = yaml.safe_load((CHECKOUT / "roles/vllm_venv/vars/main/parameters.yml").read_text(encoding="utf-8"))


def dsdeploy(*words):
    """The command line; `(exit code, summary, everything it said)`."""
    command = [sys.executable, "-m", "dsdeploy", *words, "-i", os.environ["MOLECULE_INVENTORY_FILE"], "--json"]
    config = f"{os.environ['MOLECULE_EPHEMERAL_DIRECTORY']}/ansible.cfg"
    environment = dict(os.environ, ANSIBLE_CONFIG=config, PYTHONPATH=str(CHECKOUT / "python"))
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else None, done.stdout + done.stderr


def current(host):
    return host.check_output("readlink %s/current", ROOT)


def version_that_runs(host):
    pid = host.check_output("systemctl show -p MainPID --value %s", SERVICE)
    with host.sudo():
        maps = host.check_output("cat /proc/%s/maps", pid)
    return set(re.findall(rf"{ROOT}/([0-9.]+)-cpu/", maps))


def answer_of(host):
    ask = (
        "import json, urllib.request as u; r = u.Request('http://127.0.0.1:8000/v1/chat/completions', data=json.dumps("
        "{'messages': [{'role': 'user', 'content': 'Hi'}], 'max_tokens': 64}).encode(), headers={'Content-Type': "
        "'application/json'}); print(json.load(u.urlopen(r, timeout=60))['choices'][0]['message']['content'].strip())"
    )
    return host.check_output("python3 -c %s", ask)


def kv_bytes_per_token(host):
    """As vLLM logged it at its last start: the memory given over the tokens that it holds."""
    with host.sudo():
        log = host.check_output("journalctl -u %s --no-pager -o cat", SERVICE)
    tokens = int(re.findall(r"KV cache size: ([0-9,]+) tokens", log)[-1].replace(",", ""))
    return 2**30 / tokens


def planned(name):
    entry = dict(CATALOG["model_catalog"][name], name=name)
    return model_shape.kv_bytes_per_token(model_shape.from_catalog(entry))["value"]


def test_the_old_version_serves_and_its_kv_cache_is_as_planned(host):
    assert (current(host), version_that_runs(host), answer_of(host)) == (f"{OLD}-cpu", {OLD}, SENTENCE)
    assert abs(kv_bytes_per_token(host) / planned("tiny-qwen2") - 1) < 0.01


def test_an_upgrade_to_a_broken_environment_is_taken_back(host):
    """Broken after it was installed, as by a disk or a hand: what the installation itself checks is whole."""
    code, _summary, said = dsdeploy("up", "-e", f"vllm_venv_version={NEW}", "--tags", "install")
    assert code == 0, said
    assert (current(host), version_that_runs(host)) == (f"{OLD}-cpu", {OLD})
    with host.sudo():
        host.check_output("sh -c 'mv %s/%s-cpu/lib/python3*/site-packages/vllm/v1/worker /srv/worker'", ROOT, NEW)
    started = time.monotonic()
    code, summary, said = dsdeploy("up", "-e", f"vllm_venv_version={NEW}")
    assert code == 3, said
    (failure,) = summary["failures"]
    assert f"{NEW}-cpu was taken back: {OLD}-cpu runs again and answers" in failure["msg"]
    assert failure["log_tail"]
    assert time.monotonic() - started < 2 * START_S
    assert (current(host), version_that_runs(host), answer_of(host)) == (f"{OLD}-cpu", {OLD}, SENTENCE)
    record = json.loads(host.file("/etc/dsdeploy/deployments/vllm.json").content_string)
    assert record["version"] == OLD


def test_a_release_that_never_answered_is_nothing_to_go_back_to(host):
    code, summary, said = dsdeploy("rollback")
    assert code == 2, said
    assert "there is no release before 0.31.0-cpu that has answered" in summary["failures"][0]["msg"]
    assert answer_of(host) == SENTENCE


def test_the_upgrade(host):
    with host.sudo():
        host.check_output("sh -c 'mv /srv/worker %s/%s-cpu/lib/python3*/site-packages/vllm/v1/'", ROOT, NEW)
    code, summary, said = dsdeploy("up", "-e", f"vllm_venv_version={NEW}", "--model", "tiny-deepseek-v3")
    assert code == 0, said
    assert re.search(r"tokens_per_s_source\W+metrics", dsdeploy("ask", "-v")[2])
    assert "waiting for the engine" in said
    assert (current(host), version_that_runs(host), answer_of(host)) == (f"{NEW}-cpu", {NEW}, SENTENCE)
    assert host.check_output("readlink %s/previous", ROOT) == f"{OLD}-cpu"
    assert abs(kv_bytes_per_token(host) / planned("tiny-deepseek-v3") - 1) < 0.01


def test_rollback_goes_back_and_forth(host):
    for there in (OLD, NEW):
        code, _summary, said = dsdeploy("rollback")
        assert code == 0, said
        assert (current(host), version_that_runs(host), answer_of(host)) == (f"{there}-cpu", {there}, SENTENCE)


def test_both_versions_know_every_parameter_that_the_role_can_render(host):
    values = {
        name: {"int": 1, "float": 1.0, "flag": True, "json": {}, "list": ["x"]}.get(row.get("type", "str"), "auto")
        for name, row in TABLE["_vllm_venv_table"].items()
    }
    gone = {"device", "swap_space", "speculative_disable_by_batch_size", "calculate_kv_scales"}
    for version in (OLD, NEW):
        text = host.file(f"{ROOT}/{version}-cpu/.dsdeploy-help.txt").content_string
        known = engine_parameters.parse_help(text)
        flags = {engine_parameters.flag_of(name, row): name for name, row in TABLE["_vllm_venv_table"].items()}
        assert {name for flag, name in flags.items() if flag not in known} == gone
        problems = engine_parameters.check_help(
            TABLE["_vllm_venv_table"], {name: values[name] for name in gone}, "vllm_venv", "vLLM", version, known
        )
        assert len(problems) == len(gone)
        assert all(" any more: " in line for line in problems)


def test_no_value_is_refused_that_a_version_takes(host):
    """What its help does not list, by its own tables."""
    code = (
        "import json, typing\n"
        "from vllm.config.model import TokenizerMode\n"
        "from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS\n"
        "from vllm.model_executor.model_loader import LoadFormats\n"
        "from vllm.tokenizers.registry import _VLLM_TOKENIZERS\n"
        "modes = [mode for part in typing.get_args(TokenizerMode) for mode in typing.get_args(part) or [part]]\n"
        "print(json.dumps({'quantization': QUANTIZATION_METHODS, 'load_format': typing.get_args(LoadFormats),"
        " 'tokenizer_mode': [*_VLLM_TOKENIZERS, *(mode for mode in modes if isinstance(mode, str))]}))\n"
    )
    for version in (OLD, NEW):
        printed = host.check_output("sh -c %s x %s %s", 'exec "$1"/bin/python -c "$2"', release(host, version), code)
        for name, values in json.loads(printed.splitlines()[-1]).items():
            assert set(values) <= set(TABLE["_vllm_venv_table"][name]["known"])
            assert len(values) > 5
