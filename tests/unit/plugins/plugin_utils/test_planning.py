# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole plans: the seed's machine, the machines of docs/plan.md, and what cannot be."""

import json
import re
import sys
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader

sys.path.insert(0, str(Path(__file__).parent))
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import plan_machine, plan_offers, plan_text, planning
from plan_cases import CATALOG, ENGINES, ROLES, ROOT, SEED, engine, plan, row


@pytest.fixture(scope="module")
def seed():
    return plan(plan_machine.read(SEED))


def test_the_seeds_machine_holds_q4_with_all_layers(seed):
    found = row(seed, "deepseek-r1-q4_k_m", "llama_cpp")
    assert (found["verdict"], found["layout"]["gpu_layers"], found["layout"]["layers"]) == ("fits", 62, 62)
    assert found["layout"]["cpu_share"] == 0
    # Its file has no latent tensors: 4,997,120 bytes a token, in all layers.
    assert found["numbers"]["kv_bytes_per_token"]["value"] == 4997120
    assert 25_000 < found["numbers"]["largest_context"]["value"] < 45_000
    assert found["bytes"] == {"value": 404430187616, "label": "exact", "how": "the catalog's sizes of its files"}


def test_the_seeds_machine_holds_awq_at_tp_8(seed):
    found = row(seed, "deepseek-r1-awq", "vllm")
    assert (found["verdict"], found["layout"]["tensor_parallel"]) == ("fits", 8)
    assert found["numbers"]["kv_bytes_per_token"]["value"] == 70272
    # Its driver serves CUDA 12, and the newest vLLM wants 13.
    assert found["version"] == "0.19.1"
    assert "built for CUDA 13.0, the driver 550.90.12 serves CUDA 12.4" in found["newer"]


def test_the_seeds_machine_does_not_hold_fp8_and_what_would(seed):
    found = row(seed, "deepseek-r1", "vllm")
    assert found["verdict"] == "no"
    assert "weights 81.2 GiB" in found["why"]
    assert any("16 of these GPUs (TP 8 × PP 2)" in line for line in found["would_fit"])


def test_an_unknown_number_is_never_one(seed):
    """Wherever a value is missing its label says so, and the other way round."""

    def numbers(value):
        if isinstance(value, dict):
            if set(value) == {"value", "label", "how"}:
                yield value
            else:
                for inside in value.values():
                    yield from numbers(inside)
        elif isinstance(value, list):
            for inside in value:
                yield from numbers(inside)

    found = list(numbers(seed)) + list(numbers(plan("4xH100")))
    assert len(found) > 100
    for one in found:
        assert (one["value"] is None) == (one["label"] == "not known"), one
        assert one["how"]


def test_plans_are_json_and_lines(seed):
    assert json.loads(json.dumps(seed)) == seed
    for explain in (False, True):
        lines = list(plan_text.lines(seed, explain))
        assert all("\n" not in line for line in lines)
    text = "\n".join(lines)
    assert "machine      8 × NVIDIA H800, 81559 MiB (driver 550.90.12, CUDA 12.4)" in text
    assert "up would" in text and "recommended" in text
    assert "exact" in text and "estimated" in text


def test_what_up_would_do_costs(seed):
    found = plan(plan_machine.read(SEED), wish=planning.Wish("ollama", "deepseek-r1-q4_k_m", True))["up"]
    assert found["costs"]["disk"]["download"]["value"] == 404430187616
    assert found["costs"]["disk_total"]["value"] == 3 * 404430187616 + 5 * 10**9
    assert found["costs"]["download_s"]["value"] == 4044
    assert "assumed" in found["costs"]["download_s"]["how"]
    assert found["command"].startswith("dsdeploy up --engine ollama --model deepseek-r1-q4_k_m")


def test_what_is_on_the_host_is_not_fetched_again():
    record = {"engine": "llama_cpp", "model": "deepseek-r1-q4_k_m", "version": "", "device": "gpu"}
    host = planning.Host(True, (record,), {"deepseek-r1-q4_k_m": 404430187616}, 10**12)
    wish = planning.Wish("llama_cpp", "deepseek-r1-q4_k_m", True)
    found = plan(plan_machine.read(SEED), wish=wish, host=host)["up"]
    assert found["costs"]["download"]["value"] == 0
    assert len(found["changes"]) == 1 and "nothing is known to differ" in found["changes"][0]
    other = plan(plan_machine.read(SEED), wish=planning.Wish("vllm", "deepseek-r1-awq", True), host=host)["up"]
    assert any("stop llama_cpp, which holds the GPUs" in line for line in other["changes"])
    assert any(line.startswith("install vLLM 0.19.1") for line in other["changes"])


def test_the_disk_is_asked_for_what_is_still_to_come():
    name = "deepseek-r1-awq"
    wish = planning.Wish("vllm", name, True)
    size = plan(plan_machine.read(SEED), wish=wish)["up"]["costs"]["download"]["value"]
    version = plan(plan_machine.read(SEED), wish=wish)["up"]["row"]["version"]
    record = {"engine": "vllm", "model": name, "version": version, "device": "gpu"}

    def told(records, stored):
        host = planning.Host(True, tuple(records), stored, 10**9)
        found = plan(plan_machine.read(SEED), wish=wish, host=host)
        line = next(line for line in plan_text.lines(found, False) if line.startswith("  disk"))
        return found["up"]["costs"]["disk_total"]["value"], line

    install = engine("vllm").install_bytes
    assert told([], {})[0] == size + install
    assert told([], {name: size})[0] == install
    assert told([dict(record, model="another")], {})[0] == size
    assert told([dict(record, version="0.1.0")], {name: size})[0] == install
    total, line = told([record], {name: size})
    assert total == 0
    assert "nothing more" in line and "NOT ENOUGH" not in line


def test_a_model_that_is_served_from_where_it_lies_takes_no_disk():
    catalog = dict(CATALOG, here=dict(CATALOG["deepseek-r1-awq"], sources=[{"kind": "path", "path": "/srv/here"}]))
    found = plan(plan_machine.read(SEED), wish=planning.Wish("vllm", "here", True), catalog=catalog)["up"]
    assert found["costs"]["download"]["value"] == 0
    assert "download" not in found["costs"]["disk"]


def test_what_the_first_start_compiles_is_told():
    def line(engine_name, model):
        found = plan(plan_machine.read(SEED), wish=planning.Wish(engine_name, model, True))
        found["recommended"] = found["up"]
        return next((line for line in plan_text.lines(found, False) if line.startswith("  start")), "")

    assert "about 3 min more" in line("vllm", "deepseek-r1-awq")
    assert "not known (DeepGEMM" in line("sglang", "deepseek-r1-0528-w4afp8")
    assert line("llama_cpp", "deepseek-r1-q4_k_m") == ""


def test_an_engine_that_does_not_serve_the_model_is_said():
    found = plan("8xH800", wish=planning.Wish("llama_cpp", "deepseek-r1-awq", True))
    assert "is not served by engine llama_cpp" in found["up"]["problem"]
    assert found["recommended"]["engine"] in ("vllm", "sglang")


def test_what_do_i_need():
    found = plan_any = planning.build(
        None, planning.check_ask(32, 16384, ""), CATALOG, ENGINES, {}, planning.Wish("vllm", "deepseek-r1", True)
    )
    (need,) = plan_any["needs"]
    by_machine = {one["machine"]: one for one in need["machines"]}
    assert set(by_machine) == set(plan_machine.MACHINES)
    assert not by_machine["1xH100-80GB"]["fits"] and by_machine["8xH200-141GB"]["fits"]
    assert found["rows"] == [] and found["recommended"] is None
    assert any("8xH200-141GB" in line for line in plan_text.lines(found))


def test_more_users_than_fit_are_refused_with_numbers():
    found = plan("8xH800", "deepseek-r1-awq", users=1000, context=16384)
    one = row(found, "deepseek-r1-awq", "vllm")
    assert one["verdict"] == "no" and "KV" in one["why"]
    assert found["recommended"] is None and found["why_none"]


def test_a_context_that_is_longer_than_the_models():
    found = plan("8xH800", "deepseek-r1-awq", context=200_000)
    assert "longer than the model's 163840" in row(found, "deepseek-r1-awq", "vllm")["why"]


@pytest.mark.parametrize(
    ("users", "context", "profile", "said"),
    [
        (0, 8192, "", "users is 0"),
        (-1, 8192, "", "users is -1"),
        (10**9, 8192, "", "users is 1000000000"),
        (1, -5, "", "context is -5"),
        (1, 10**12, "", "context is 1000000000000"),
        (True, 1, "", "users is True"),
        (1, 1, "fast", "profile is 'fast'"),
    ],
)
def test_what_cannot_be_asked(users, context, profile, said):
    with pytest.raises(Failure, match=said) as caught:
        planning.check_ask(users, context, profile)
    assert caught.value.fields()["error_kind"] == "usage"


def test_a_model_that_there_is_not():
    with pytest.raises(Failure, match="deepseek-r1-awk is not in the catalog; did you mean deepseek-r1-awq"):
        plan("8xH800", "deepseek-r1-awk")


def test_a_host_without_a_gpu_is_planned_by_its_memory():
    smi = {"status": "not_installed", "gpus": [], "driver_version": None, "cuda_version": None}
    memory = {"total_mib": 16000, "available_mib": 12000, "users": {}}
    found = plan(plan_machine.Machine("host", smi, memory))
    assert row(found, "smollm2-135m-instruct", "llama_cpp")["verdict"] == "fits"
    assert row(found, "deepseek-r1-q4_k_m", "llama_cpp")["verdict"] == "no"
    assert plan_offers.layout_text(row(found, "smollm2-135m-instruct", "llama_cpp")) == "CPU"
    # vLLM and SGLang are there to be tried out, and compute quantised weights on GPUs only.
    assert (found["recommended"]["model"], found["recommended"]["engine"]) == ("smollm2-135m-instruct", "llama_cpp")
    assert row(found, "gpt-oss-20b", "vllm")["why"].endswith("gpt-oss-20b in MXFP4 is computed on GPUs only")
    small = row(found, "deepseek-r1-distill-qwen-1.5b", "sglang")
    assert (small["verdict"], small["version"]) == ("fits", "0.4.3.post2") and "to be tried out" in small["doubts"][0]
    unknown = plan(plan_machine.Machine("host", smi, {}))
    assert all(one["verdict"] in ("unknown", "no", "refused") for one in unknown["rows"])
    assert unknown["recommended"] is None


def test_a_gpu_that_shares_the_hosts_memory_is_not_known():
    path = Path(SEED).parents[1] / "gb10-unified-memory" / "nvidia-smi.txt"
    found = plan(plan_machine.read(str(path)))
    assert {one["verdict"] for one in found["rows"]} <= {"unknown"}
    assert found["recommended"] is None


def test_gpus_too_old_for_the_engine():
    found = plan("1xV100-32GB")
    one = row(found, "deepseek-r1-distill-qwen-7b", "vllm")
    assert one["verdict"] == "refused" and "needs compute capability 7.5, these GPUs have 7.0" in one["why"]


def test_copies_for_throughput():
    few = row(plan("8xH100", "deepseek-r1-distill-qwen-32b"), "deepseek-r1-distill-qwen-32b", "vllm")
    many = row(
        plan("8xH100", "deepseek-r1-distill-qwen-32b", profile="throughput"), "deepseek-r1-distill-qwen-32b", "vllm"
    )
    assert few["layout"]["tensor_parallel"] == 8
    assert many["layout"]["copies"] > 1
    assert many["layout"]["tensor_parallel"] * many["layout"]["copies"] <= 8
    assert "copies" in plan_offers.layout_text(many)


def test_the_users_layout_wins():
    engines = [engine("vllm", tensor_parallel_size=4)]
    one = row(plan("8xH100", "deepseek-r1-distill-qwen-32b", engines=engines), "deepseek-r1-distill-qwen-32b", "vllm")
    assert one["layout"]["tensor_parallel"] == 4


@pytest.mark.parametrize("wrong", ["0", "0.0", -0.5, 40, "85"])
@pytest.mark.parametrize(("name", "variable"), [("vllm", "gpu_memory_utilization"), ("sglang", "mem_fraction_static")])
def test_a_share_that_is_none_is_refused_by_name(name, variable, wrong):
    with pytest.raises(Failure, match=f"{variable} is a share above 0 and at most 1, not '?{wrong}'?$") as refused:
        plan("8xH100", "deepseek-r1", engines=[engine(name, **{variable: wrong})])
    assert refused.value.error_kind == "usage"
    half = plan("8xH100", "qwen2.5-72b-instruct", engines=[engine(name, **{variable: "0.5"})])
    assert "utilization 0.50" in row(half, "qwen2.5-72b-instruct", name)["numbers"]["usable"]["how"]


def test_the_seeds_machine_holds_v4_flash_twice(seed):
    """Its cache is not known: what is known is that its recipe's 200 GB are there, on half of the GPUs."""
    found = row(seed, "deepseek-v4-flash", "sglang")
    # With a driver for CUDA 12 there is no release that serves it.
    assert found["verdict"] == "refused" and "needs SGLang 0.5.16 or later, here it is 0.5.10.post1" in found["why"]
    one = row(plan("8xH800"), "deepseek-v4-flash", "vllm")
    assert one["verdict"] == "recipe"
    assert plan_offers.layout_text(one) == "TP 4 × 2 copies"
    assert one["numbers"]["largest_context"]["value"] is None
    assert plan_offers.sequences(one) is None
    (four,) = [one for one in plan("4xH100")["rows"] if one["model"] == "deepseek-v4-flash" and one["engine"] == "vllm"]
    assert (four["verdict"], four["layout"]["tensor_parallel"]) == ("recipe", 4)
    assert row(plan("2xH100"), "deepseek-v4-flash", "vllm")["verdict"] == "no"


def test_what_is_reported_against_a_model_is_said_and_counts():
    found = plan("8xH800", "deepseek-r1")
    assert found["recommended"]["model"] == "deepseek-r1-0528-w4afp8"
    assert "not deepseek-r1-awq on vLLM (62 tokens/s published for one request)" in found["recommended"]["reason"]
    assert "vllm#23530" in found["recommended"]["reason"]
    assert any(
        line.startswith("the recipe of deepseek-r1-0528-w4afp8 was started with SGLang 0.5.23 on a part alone: ")
        for line in found["recommended"]["caveats"]
    )


def test_without_the_report_the_published_speed_counts():
    catalog = dict(
        CATALOG, **{"deepseek-r1-awq": {k: v for k, v in CATALOG["deepseek-r1-awq"].items() if k != "doubts"}}
    )
    assert plan("8xH800", "deepseek-r1", catalog=catalog)["recommended"]["model"] == "deepseek-r1-awq"


def test_weights_in_blocks_are_not_cut_within_them():
    """1,536 in 8 parts are 192, in blocks of 128: vLLM refuses that."""
    one = row(plan("8xH100", "qwen3"), "qwen3-235b-a22b-fp8", "vllm")
    assert one["layout"]["tensor_parallel"] == 4
    engines = [engine("vllm", tensor_parallel_size=8)]
    one = row(plan("8xH100", "qwen3", engines=engines), "qwen3-235b-a22b-fp8", "vllm")
    assert one["verdict"] == "no" and "cut within blocks of 128" in one["why"]


@pytest.mark.parametrize("machine", ["seed", "8xH800-80GB"])
def test_the_inventory_ctyun_serves_what_is_recommended_for_its_machine(machine):
    """With the driver that the seed has, and with one that is not known."""
    ctyun = DataLoader().load_from_file(str(ROOT / "inventories/ctyun/group_vars/all/main.yml"))
    named = dict(re.findall(r"'(\w+)': '([^']+)'", ctyun["dsdeploy_model"]))
    where = plan_machine.read(SEED) if machine == "seed" else machine
    wish = planning.Wish(ctyun["dsdeploy_engine"], named[ctyun["dsdeploy_engine"]], True)
    engines = [engine(name, **({"context_length": 65536} if name == "sglang" else {})) for name in ROLES]
    found = plan(where, wish=wish, engines=engines)
    best = found["recommended"]
    assert (best["engine"], best["model"]) == (wish.engine, wish.model)
    assert found["up"]["row"]["verdict"] == "fits"
    assert found["up"]["row"]["numbers"]["largest_context"]["value"] > ctyun["sglang_context_length"]


def test_a_model_of_the_users_own_is_planned_and_named_as_it_was():
    own = {key: CATALOG["qwen3-8b"][key] for key in ("format", "architecture", "weight_bits")}
    own.update(engines=["vllm", "sglang"], sources=[{"kind": "path", "path": "/srv/my model"}], bytes=16 * 10**9)
    wish = planning.Wish("vllm", "mine", True, "/srv/my model")
    host = planning.Host(True, (), {"mine": own["bytes"]}, 10**12)
    found = plan("1xH100", wish=wish, catalog=dict(CATALOG, mine=own), host=host)
    assert {one["model"] for one in found["rows"]} == {"mine"}
    assert found["up"]["costs"]["download"]["value"] == 0
    assert found["up"]["command"].startswith("dsdeploy up --engine vllm --model '/srv/my model' ")
    url = plan("1xH100", wish=wish._replace(given="https://h/config.json"), catalog=dict(CATALOG, mine=own))
    assert url["up"]["command"].startswith("none: a config.json has no weights")


def test_layers_that_are_set_are_of_the_model_that_they_are_set_for():
    """As inventories/local does for its embedded model, which no GPU is needed for."""
    settings = dict(engine("llama_cpp").settings, gpu_layers=0)
    engines = [one._replace(settings=settings) if one.name == "llama_cpp" else one for one in ENGINES]
    wish = planning.Wish("llama_cpp", "smollm2-135m-instruct", False)
    found = planning.build(plan_machine.of_gpus("8xH800"), planning.check_ask(1, 0, ""), CATALOG, engines, ROLES, wish)
    assert row(found, "deepseek-r1-q4_k_m", "llama_cpp")["layout"]["gpu_layers"] == 62
    assert row(found, "smollm2-135m-instruct", "llama_cpp")["layout"]["gpu_layers"] == 0
    assert not any("stay in the host's memory" in line for line in found["up"]["caveats"])


def test_what_fits_with_one_engine_is_not_listed_as_what_does_not_fit():
    found = plan("3xA100-80GB")
    assert row(found, "qwen3-30b-a3b-fp8", "vllm")["verdict"] == "fits"
    assert row(found, "qwen3-30b-a3b-fp8", "sglang")["verdict"] == "refused"
    (line,) = [one for one in plan_text.lines(found) if one.startswith("does not fit, or is not served here (")]
    assert "qwen3-30b-a3b-fp8" not in line and "deepseek-v3.1" in line


def test_what_fits_only_if_lean_is_shown_with_the_lean_numbers():
    found = plan("2xRTX3090", "qwen3.6-35b-a3b-fp8")
    one = row(found, "qwen3.6-35b-a3b-fp8", "vllm")
    assert one["verdict"] == "tight" and plan_offers.sequences(one) > 0
    (line,) = [text for text in plan_text.table([one]) if "if lean" in text]
    assert re.search(r"up to [1-9][\d,]+ +up to [1-9]\d*$", line)


def test_a_recommendation_says_which_gpus_stay_free():
    assert "TP 2 on 2 of 3 GPUs for 1 request of 8,192 tokens" in plan("3xA100-80GB")["recommended"]["reason"]
    assert " GPUs for " not in plan("2xL40S")["recommended"]["reason"]


def test_of_a_family_that_does_not_fit_the_nearest_says_why():
    found = plan("8xH800", "deepseek-r1", users=32, context=16384)
    assert found["recommended"] is None
    assert found["why_none"].startswith("deepseek-r1-0528-w4afp8 does not fit")
    assert re.search(r"at least \d+\.\d GiB too many", found["why_none"])


def test_a_host_without_a_gpu_is_told_that_it_computes_on_the_cpu():
    none = {"gpus": [], "status": "not_installed", "pci_gpu_count": 0}
    memory = {"total_mib": 4 * 1024**2, "available_mib": 4_100_000, "users": {}}
    found = plan(plan_machine.of_facts({"nvidia_smi": none, "dsdeploy_memory": memory}, "big"))["recommended"]
    assert (found["model"], found["engine"]) == ("deepseek-r1-q4_k_m", "llama_cpp")
    assert "there is no GPU" in found["reason"]


def test_what_is_not_known_to_fit_is_not_said_not_to_fit():
    own = {key: CATALOG["qwen3-8b"][key] for key in ("format", "weight_bits")}
    facts = dict(CATALOG["qwen3-8b"]["architecture"], unknown=["compress_ratios"])
    own.update(engines=["vllm"], sources=[{"kind": "path", "path": "/srv/m"}], bytes=16 * 10**9, architecture=facts)
    found = plan("1xH100", wish=planning.Wish("vllm", "mine", True, "/srv/m"), catalog=dict(CATALOG, mine=own))
    texts = {one["machine"]: one["text"] for one in found["needs"][0]["machines"]}
    assert texts["1xH100-80GB"] == (
        "not known: its KV cache is not known (compress_ratios): the engine says it when it has started"
    )


def test_a_host_whose_gpus_virtual_machines_have_is_not_planned_for_the_cpu_without_a_word():
    smi = {"gpus": [], "status": "driver_not_loaded", "reason": "no driver", "pci_gpu_count": 0, "vfio_gpu_count": 8}
    with pytest.raises(ValueError, match="the GPUs cannot be used: 8 GPUs are bound to vfio-pci, for virtual machines"):
        plan_machine.of_facts({"nvidia_smi": smi}, "a host")


def test_a_recipe_s_least_memory_is_held_against_the_mig_instance():
    """Where the cache is not known; the whole card has 42 GB, a process gets 20.9 of them."""
    machine = plan_machine.read(str(Path(SEED).parents[1] / "mig-two-3g20gb/nvidia-smi-q-x.xml"))
    small = CATALOG["qwen3-8b"]
    strange = dict(small, architecture=dict(small["architecture"], unknown=["strange_cache"]), bytes=10 * 10**9)
    verdicts = {}
    for least in (20, 24):
        entry = dict(strange, minimum={"vram_gb": least, "source": "a test"})
        verdicts[least] = row(plan(machine, catalog={"m": entry}, model="m"), "m", "vllm")
    assert verdicts[20]["verdict"] == "recipe"
    assert verdicts[24]["verdict"] == "no" and "asks for 24 GB of GPU memory, here are 20" in verdicts[24]["why"]


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("vllm", ["--speculative-config", '{"model": "/srv/draft", "num_speculative_tokens": 3}'], True),
        ("vllm", ['-sc={"method": "eagle3", "model": "/srv/draft"}'], True),
        ("vllm", ["-sc", '{"method": "ngram"}'], False),
        ("vllm", ["--spec-model", "/srv/draft", "--spec-method=draft_model"], True),
        ("vllm", ["--spec-method", "suffix"], False),
        ("vllm", ["--speculative-config.model", "/srv/draft"], True),
        ("vllm", ["--speculative_config.method=ngram", "--speculative-config.num_speculative_tokens", "3"], False),
        ("vllm", ["--speculative-config", '{"method": "ngram"}', "--spec-method", "eagle"], True),
        ("vllm", ["--speculative-config", "[1]"], False),
        ("vllm", ["--speculative-config", "{"], False),
        ("vllm", ["--spec-tokens", "3"], False),
        ("sglang", ["--speculative-algorithm", "STANDALONE"], True),
        ("sglang", ["--speculative-algorithm=EAGLE", "--speculative-draft-model=/srv/draft"], True),
        ("sglang", ["--speculative-algorithm", "ngram"], False),
        ("sglang", {"speculative_algorithm": "NGRAM"}, False),
        ("sglang", {"speculative_algorithm": "EAGLE3", "speculative_draft_model_path": "/srv/draft"}, True),
        ("llama_cpp", ["-md", "/srv/draft.gguf"], True),
        ("llama_cpp", ["--model-draft=/srv/draft.gguf"], True),
        ("llama_cpp", ["--spec-draft-model", "/srv/draft.gguf", "--spec-type", "draft-mtp"], True),
        ("llama_cpp", ["--spec-type", "ngram-simple"], False),
        ("llama_cpp", ["-hfd", "owner/name"], True),
        ("llama_cpp", {"environment": {"LLAMA_ARG_MODEL_DRAFT": "/srv/draft.gguf"}}, True),
        ("llama_cpp", {"environment": ["LLAMA_ARG_MODEL_DRAFT"]}, False),
        ("llama_cpp", [], False),
    ],
)
def test_what_a_further_model_takes_is_said_not_to_be_counted(name, settings, said):
    settings = settings if isinstance(settings, dict) else {"extra_args": settings}
    model = "smollm2-135m-instruct" if name == "llama_cpp" else "qwen3-8b"
    found = row(plan("1xH100", model=model, engines=[engine(name, **settings)]), model, name)
    assert (plan_offers.DRAFT_APART in found["notes"]) is said
