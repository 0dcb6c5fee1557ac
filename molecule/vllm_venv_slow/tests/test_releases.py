"""Releases side by side, with the real vLLM in two versions. The tests build on each other, in this order."""

import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from _play import CHECKOUT
from _python_engine import SENTENCE, Engine, dsdeploy

sys.path[:0] = [str(CHECKOUT / ".collections")]
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import parameters as engine_parameters  # noqa: E402
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape  # noqa: E402

VLLM = Engine("vllm", 8000)
OLD, NEW = "0.31.0", "0.32.0"
START_S = 300
CATALOG = yaml.safe_load((CHECKOUT / "roles/model/defaults/main/catalog.yml").read_text(encoding="utf-8"))
TABLE = yaml.safe_load((CHECKOUT / "roles/vllm_venv/vars/main/parameters.yml").read_text(encoding="utf-8"))


def served(host):
    """The current release, the versions that its process has mapped, and what it answers."""
    with host.sudo():
        maps = host.check_output("cat /proc/%s/maps", str(VLLM.pid(host)))
    versions = set(re.findall(rf"{VLLM.root}/([0-9.]+)-cpu-[0-9a-f]+/", maps))
    return VLLM.current(host), versions, VLLM.ask(host, key="")[0]["content"].strip()


def serves(host, version):
    return served(host) == (VLLM.release(host, version), {version}, SENTENCE)


def kv_bytes_per_token(host):
    """As vLLM logged it at its last start: the memory given over the tokens that it holds."""
    tokens = int(re.findall(r"KV cache size: ([0-9,]+) tokens", VLLM.log(host))[-1].replace(",", ""))
    return 2**30 / tokens


def planned(name):
    entry = dict(CATALOG["model_catalog"][name], name=name)
    return model_shape.kv_bytes_per_token(model_shape.from_catalog(entry))["value"]


def test_the_old_version_serves_and_its_kv_cache_is_as_planned(host):
    assert serves(host, OLD)
    assert abs(kv_bytes_per_token(host) / planned("tiny-qwen2") - 1) < 0.01


def test_it_comes_back_after_sigkill(host):
    before = VLLM.pid(host)
    with host.sudo():
        host.check_output("kill -9 %s", str(before))
    assert VLLM.answers_within(host, START_S)["content"].strip() == SENTENCE
    assert VLLM.pid(host) != before


def test_an_upgrade_to_a_broken_environment_is_taken_back(host):
    """Broken after it was installed, as by a disk or a hand: what the installation itself checks is whole."""
    code, _summary, said = dsdeploy("up", "-e", f"vllm_venv_version={NEW}", "--tags", "install")
    assert code == 0, said
    assert serves(host, OLD)
    old, new = VLLM.release(host, OLD), VLLM.release(host, NEW)
    with host.sudo():
        host.check_output("sh -c 'mv %s/%s/lib/python3*/site-packages/vllm/v1/worker /srv/worker'", VLLM.root, new)
    started = time.monotonic()
    code, summary, said = dsdeploy("up", "-e", f"vllm_venv_version={NEW}")
    assert code == 3, said
    (failure,) = summary["failures"]
    assert f"{new} was taken back: {old} runs again and answers" in failure["msg"]
    assert failure["log_tail"]
    assert time.monotonic() - started < 2 * START_S
    assert serves(host, OLD)
    record = json.loads(host.file(VLLM.record).content_string)
    assert record["version"] == OLD


def test_a_release_that_never_answered_is_nothing_to_go_back_to(host):
    code, summary, said = dsdeploy("rollback")
    assert code == 2, said
    assert f"there is no release before {VLLM.release(host, OLD)} that has answered" in summary["failures"][0]["msg"]
    assert serves(host, OLD)


def test_the_upgrade(host):
    with host.sudo():
        new = VLLM.release(host, NEW)
        host.check_output("sh -c 'mv /srv/worker %s/%s/lib/python3*/site-packages/vllm/v1/'", VLLM.root, new)
    code, summary, said = dsdeploy("up", "-e", f"vllm_venv_version={NEW}", "--model", "tiny-deepseek-v3")
    assert code == 0, said
    assert re.search(r"tokens_per_s_source\W+metrics", dsdeploy("ask", "-v")[2])
    assert "waiting for the engine" in said
    assert serves(host, NEW)
    assert host.check_output("readlink %s/previous", VLLM.root) == VLLM.release(host, OLD)
    assert abs(kv_bytes_per_token(host) / planned("tiny-deepseek-v3") - 1) < 0.01


# What a layer keeps: of a window, of half the layers a window, every sixth layer all of it, every second a state,
# each a state too.
SIZES = {"vocab_size": 512, "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 65536, "torch_dtype": "bfloat16",
         "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False, "rope_theta": 10000.0,
         "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 8192}
KEPT = {
    "windows": {**MISTRAL, "num_hidden_layers": 4},
    "mixed": {**MISTRAL, "num_hidden_layers": 8, "layer_types": ["sliding_attention", "full_attention"] * 4},
    "gemma3": {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "num_hidden_layers": 12,
        "sliding_window": 8192, "sliding_window_pattern": 6, "hidden_activation": "gelu_pytorch_tanh",
        "rope_local_base_freq": 10000.0, "query_pre_attn_scalar": 64,
    },
    # 2 layers keep all, 11 a window: vLLM fills those up to 12.
    "uneven": {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "num_hidden_layers": 13,
        "sliding_window": 8192, "sliding_window_pattern": 6, "hidden_activation": "gelu_pytorch_tanh",
        "rope_local_base_freq": 10000.0, "query_pre_attn_scalar": 64,
    },
    "hybrid": {
        "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "num_hidden_layers": 4,
        "full_attention_interval": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 64,
        "linear_num_value_heads": 4, "linear_value_head_dim": 64, "linear_conv_kernel_dim": 4, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 128, "shared_expert_intermediate_size": 128,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True, "partial_rotary_factor": 0.25,
    },
    "both": {
        "architectures": ["FalconH1ForCausalLM"], "model_type": "falcon_h1", "num_hidden_layers": 4,
        "mamba_d_ssm": 512, "mamba_n_heads": 8, "mamba_d_head": 64, "mamba_n_groups": 1, "mamba_d_state": 64,
        "mamba_d_conv": 4, "mamba_expand": 2, "mamba_chunk_size": 64,
    },
}  # fmt: skip
LENGTH, BATCH = 65536, 8192
START = (
    "from vllm import LLM\n"
    "LLM(model='/srv/kept', load_format='dummy', skip_tokenizer_init=True, enforce_eager=True, max_num_seqs=4,"
    f" max_model_len={LENGTH}, max_num_batched_tokens={BATCH})\n"
)


@pytest.mark.parametrize("name", KEPT)
def test_what_vllm_keeps_of_windows_and_states_is_as_planned(host, name):
    """Weights are not needed for it: the tokens that vLLM says 1 GiB holds, of sequences of the longest length."""
    config = {**SIZES, **KEPT[name]}
    python = f"{VLLM.root}/{VLLM.release(host, NEW)}/bin/python"
    with host.sudo():
        host.check_output("mkdir -p /srv/kept")
        host.check_output("sh -c 'printf %%s \"$1\" >/srv/kept/config.json' - %s", json.dumps(config))
        environment = "VLLM_CPU_KVCACHE_SPACE=1 VLLM_ENABLE_V1_MULTIPROCESSING=0 HF_HUB_OFFLINE=1"
        done = host.run(f"env {environment} timeout 900 %s -c %s", python, START)
    said = done.stdout + done.stderr
    assert done.rc == 0, said[-4000:]
    tokens = int(re.findall(r"KV cache size: ([0-9,]+) tokens", said)[-1].replace(",", ""))
    # Besides the window a batch that is under way (vLLM, max_in_flight_tokens).
    shape = model_shape.from_config(name, config, 0)
    planned = model_shape.kept(shape, LENGTH, more=BATCH, block=model_shape.CPU_BLOCK)["value"]
    assert abs(2**30 / tokens * LENGTH / planned - 1) < 0.01


def test_rollback_goes_back_and_forth(host):
    for there in (OLD, NEW):
        code, _summary, said = dsdeploy("rollback")
        assert code == 0, said
        assert serves(host, there)


def test_both_versions_know_every_parameter_that_the_role_can_render(host):
    values = {
        name: {"int": 1, "float": 1.0, "flag": True, "json": {}, "list": ["x"]}.get(row.get("type", "str"), "auto")
        for name, row in TABLE["_vllm_venv_table"].items()
    }
    gone = {"device", "swap_space", "speculative_disable_by_batch_size", "calculate_kv_scales"}
    for version in (OLD, NEW):
        text = host.file(f"{VLLM.root}/{VLLM.release(host, version)}/.dsdeploy-help.txt").content_string
        known = engine_parameters.parse_help(text)
        flags = {engine_parameters.flag_of(name, row): name for name, row in TABLE["_vllm_venv_table"].items()}
        # Without a flag stands what `vllm serve` takes by its place: the model.
        assert {name for flag, name in flags.items() if flag and flag not in known} == gone
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
        python = f"{VLLM.root}/{VLLM.release(host, version)}/bin/python"
        printed = host.check_output("%s -c %s", python, code)
        for name, values in json.loads(printed.splitlines()[-1]).items():
            assert set(values) <= set(TABLE["_vllm_venv_table"][name]["known"])
            assert len(values) > 5


def test_another_lock_is_built_beside_the_one_that_serves_also_when_that_is_killed(host, tmp_path):
    before, release = VLLM.pid(host), VLLM.current(host)
    lock = tmp_path / "again.lock"
    lock.write_text((CHECKOUT / f"roles/vllm_venv/files/locks/{NEW}-cpu.lock").read_text() + "# made again\n")
    own = ("-e", f"vllm_venv_version={NEW}", "-e", f"vllm_venv_lock={lock}", "--model", "tiny-deepseek-v3")
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(dsdeploy, "up", *own)
        deadline = time.monotonic() + START_S
        while True:
            assert time.monotonic() < deadline
            listed = host.check_output("sh -c %s", f"ls -d {VLLM.root}/{NEW}-cpu-*/").split()
            (new, *_more) = [path.rstrip("/") for path in listed if release not in path] or [None]
            if new and host.file(f"{new}/bin/python").exists:
                break
            time.sleep(0.2)
        with host.sudo():
            for line in host.check_output("ps -eo pid=,args=").splitlines():
                pid, _space, words = line.strip().partition(" ")
                if "uv_venv" in words or f"--python {new}" in words:
                    host.run("kill -9 %s", pid)
        code, _summary, said = run.result()
    assert code == 1, said
    assert not host.file(f"{new}/.dsdeploy-venv.json").exists
    assert (VLLM.pid(host), served(host)) == (before, (release, {NEW}, SENTENCE))
    code, _summary, said = dsdeploy("up", *own)
    assert code == 0, said
    assert served(host) == (new.rpartition("/")[2], {NEW}, SENTENCE)
    code, _summary, said = dsdeploy("rollback")
    assert code == 0, said
    assert served(host) == (release, {NEW}, SENTENCE)
