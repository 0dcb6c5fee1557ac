"""The same hosts as replicas of vLLM: another release of it in turns, and back in turns, without a failed request."""

import json

import pytest
from _gateway import address, key_command
from _play import hosts, play
from _python_engine import Engine
from _streams import Streams

VLLM = Engine("vllm", 8000)
NEW, OLD = "0.32.0", "0.31.0"
# The role's own directory, once it knows which.
CACHES = "{{ _vllm_venv_caches if _vllm_venv_guarded is defined else '/var/lib' }}"
REPLICAS = {
    **{"dsdeploy_replicas": "chat", "dsdeploy_expose": True, "gateway_networks": ["10.0.0.0/8"]},
    **{"vllm_venv_nnodes": 1, "vllm_venv_tensor_parallel_size": 1},
    # On GPUs the role says so by itself; here Inductor compiles for the CPU.
    "vllm_venv_environment": {
        "VLLM_CACHE_ROOT": CACHES + "/vllm",
        "TORCHINDUCTOR_CACHE_DIR": CACHES + "/inductor",
    },
}
COMPILED = "/var/lib/dsdeploy/dsdeploy-vllm/compiled"


@pytest.fixture(scope="module")
def key():
    """Of the first gateway, once both serve the older release."""
    play(None, "deepseek_r1", "-e", json.dumps({**REPLICAS, "vllm_venv_version": OLD}))
    done = key_command(
        hosts()["gang-1"], "add", "load", "--replace", "--requests-per-minute", "100000", "--streams", "500"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for host in hosts().values():
        # Nothing would be left of this machine to whoever changes them.
        host.check_output(f"sudo systemctl set-property --runtime {VLLM.service} CPUQuota=50%")
    return done.stdout.strip()


def releases():
    return {name: (VLLM.current(host).split("-")[0], VLLM.pid(host)) for name, host in hosts().items()}


@pytest.mark.parametrize(
    ("playbook", "variables", "release"),
    [("deepseek_r1", {**REPLICAS, "vllm_venv_version": NEW}, NEW), ("rollback", REPLICAS, OLD)],
)
def test_releases_change_in_turns_and_nobody_who_asks_hears_of_it(key, playbook, variables, release):
    before = releases()
    with Streams(address(hosts()["gang-1"]), key, "tiny-qwen2", 30) as streams:
        said = play(None, playbook, "-e", json.dumps(variables))
    assert not streams.failed, (streams.failed, streams.answered)
    assert streams.answered > 30
    after = releases()
    assert {version for version, _pid in after.values()} == {release}, said
    for name in before:
        assert before[name] != after[name]
        assert before[name][1] != after[name][1]


def test_what_the_first_one_compiled_went_along():
    """Of both releases: the second replica had it before it started."""
    starts = {}
    for name, host in hosts().items():
        with host.sudo():
            # On the first one there is none, and ls fails.
            found = host.check_output(f"cd {COMPILED} && ls -d */.dsdeploy-from 2>/dev/null || true").split()
            files = host.check_output(f"find {COMPILED} -type f | wc -l")
            owners = host.check_output(f"find {COMPILED} ! -user dsdeploy-vllm | wc -l")
        starts[name] = json.loads(host.file(VLLM.record).content_string)["measured"].get("ready_s")
        assert len(found) == (0 if name == "gang-1" else 2), (name, found)
        assert int(files) > 10
        assert owners == "0"
    print("seconds to ready", starts)
