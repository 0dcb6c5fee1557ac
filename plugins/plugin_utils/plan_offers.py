# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fits a machine: each model of the catalog with each engine that serves it. Pure; bytes, tokens, MiB in facts."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import own_context
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.guards import flag_value
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.parameters import (
    in_versions,
    recipe_of,
    unproven,
    version_key,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import parallel
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.kv import compute_bytes, kv_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import (
    Request,
    for_a_process,
    gib,
    gpus_from_facts,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.shape import number
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import total_bytes
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import fit_report, llama_cpp, sglang_kernels
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import gpu_products as products
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.plan_machine import Machine
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.vllm_graphs import vllm_graphs

DEFAULT_CONTEXT = 8192  # tokens, where none is asked for
CPU = "cpu"
# CUDA 13 serves compute capability 7.5 and later (NVIDIA, CUDA 13.0 release notes: Maxwell, Pascal and Volta removed).
_CUDA_13_SINCE = "7.5"
_FP8_SINCE = (8, 9)
LAYERED = ("llama_cpp", "ollama")
TITLES = {"vllm": "vLLM", "sglang": "SGLang", "llama_cpp": "llama.cpp", "ollama": "Ollama"}


class Engine(NamedTuple):
    """An engine as `up` would install it on the machine."""

    name: str
    version: str  # empty: not known
    cuda: str  # that it is built for; empty: any, or it is built on the host
    versions: Tuple[Tuple[str, str], ...] = ()  # (version, CUDA) of all its locks
    install_bytes: int = 0
    cpu_version: str = ""  # that is served without a GPU, where it is another one
    settings: Optional[Dict[str, Any]] = None  # what the user set, without the role's prefix

    @property
    def title(self) -> str:
        return TITLES.get(self.name, self.name)


class Ask(NamedTuple):
    """What the deployment is for."""

    users: int = 1  # requests at the same time, each of full length
    context: int = 0  # tokens of each; 0: DEFAULT_CONTEXT, or the model's own where that is shorter
    profile: str = ""  # latency, throughput or neither


def served_version(engine: Engine, machine: Machine) -> Tuple[str, str, str]:
    """``(version, CUDA, why it cannot be served)``: the last is empty where the driver serves it or is not known."""
    driver, cuda = machine.driver()
    if not machine.gpus and engine.cpu_version:
        return engine.cpu_version, "", ""
    if not engine.cuda or not cuda or not machine.gpus:
        return engine.version, engine.cuda, ""
    if int(engine.cuda.split(".")[0]) <= int(cuda.split(".")[0]):
        return engine.version, engine.cuda, ""
    why = "%s %s is built for CUDA %s, the driver %s serves CUDA %s" % (
        *(engine.title, engine.version, engine.cuda, driver or "", cuda),
    )
    older = [one for one in engine.versions if int(one[1].split(".")[0]) <= int(cuda.split(".")[0])]
    if older:
        version = max(older, key=lambda one: version_key(one[0]))
        return version[0], version[1], why
    return engine.version, engine.cuda, why


def context_of(entry: Dict[str, Any], ask: Ask) -> int:
    """Tokens of a request."""
    longest = (entry.get("architecture") or {}).get("context") or 0
    return ask.context or (min(DEFAULT_CONTEXT, longest) if longest else DEFAULT_CONTEXT)


def offer(name: str, entry: Dict[str, Any], engine: Engine, machine: Machine, ask: Ask) -> Dict[str, Any]:
    """One row: what becomes of this model with this engine on this machine.

    ``verdict``: fits, tight (only if the engine's overhead stays low), recipe (the cache is not known, the recipe's
    minimum of GPU memory is there), unknown, no (``why`` says what is missing), refused (it would fit, and something
    else forbids it: ``why``). Every number is a mapping of ``value``, ``label`` and ``how``.
    """
    entry = own_context.entry_for(dict(entry, name=name), engine.name, engine.settings or {})
    version, cuda, newer = served_version(engine, machine)
    recipe = recipe_of((entry.get("recipes") or {}).get(engine.name) or [], version, ask.profile) if version else {}
    row = {
        "model": name,
        "family": entry.get("family") or name,
        "quantization": entry.get("quantization") or entry["format"],
        "engine": engine.name,
        "version": version,
        "newer": newer,
        "context": context_of(entry, ask),
        "users": ask.users,
        "profile": ask.profile,
        "bytes": download_bytes(entry),
        "minimum_vram_gb": (entry.get("minimum") or {}).get("vram_gb"),
        "minimum_source": (entry.get("minimum") or {}).get("source"),
        "published": recipe.get("published") or [],
        "started": recipe.get("started") or [],
        "unproven": unproven(recipe, engine.title, version, name),
        "doubts": doubts(entry, engine.name, version, machine.capability()),
        "layout": {},
        "numbers": {},
        "notes": [],
    }
    doubtful = [name for name in ("architecture", "weight_bits", "bytes") if name in (entry.get("unverified") or [])]
    if doubtful:
        row["notes"].append("not checked at its source: %s of %s" % (", ".join(doubtful), name))
    forbidden = forbids(entry, engine, version, cuda, machine)
    request = _request(entry, engine, version, recipe, machine, ask)
    if engine.name in LAYERED:
        _layered(row, entry, machine, request)
    else:
        _parallel(row, entry, engine, machine, request, ask)
    if forbidden and row["verdict"] != "no":
        row.update(verdict="refused", why=forbidden)
    elif forbidden:
        row["why"] = "%s; %s" % (row["why"], forbidden)
    return row


def download_bytes(entry: Dict[str, Any]) -> Dict[str, Any]:
    """Bytes of the model's files, as a `number`."""
    known = total_bytes(entry)
    if known:
        doubtful = "bytes" in entry.get("unverified", [])
        return number(known, "estimated" if doubtful else "exact", "the catalog's sizes of its files")
    try:
        shape = model_shape.from_catalog(entry)
    except ValueError as error:
        return number(None, "not known", str(error))
    return number(shape.weight_bytes, "estimated", "parameters × %s bits" % entry.get("weight_bits"))


def doubts(entry: Dict[str, Any], engine: str, version: str, capability: Optional[str] = None) -> List[str]:
    """What is reported against this model on this version of the engine and on such GPUs, a line each."""
    found = []
    slow = engine == "vllm" and str(entry.get("quantization")).upper() == "FP8"
    if slow and capability and products.number_of(capability) < _FP8_SINCE:
        found.append(
            "GPUs of compute capability %s do not multiply FP8: vLLM computes such weights in 16 bits, "
            "which nobody has reported of this model" % capability
        )
    for one in (entry.get("doubts") or {}).get(engine) or []:
        if not version or in_versions(version, one.get("since"), one.get("until")):
            found.append(one["what"])
    return found


def forbids(entry: Dict[str, Any], engine: Engine, version: str, cuda: str, machine: Machine) -> str:
    """Why this engine does not serve this model on such GPUs, whatever their memory; empty where nothing is known."""
    needs = (entry.get("requires") or {}).get(engine.name) or {}
    if needs.get("version") and version and version_key(version) < version_key(needs["version"]):
        return "%s needs %s %s or later, here it is %s" % (entry["name"], engine.title, needs["version"], version)
    capability = machine.capability()
    least = needs.get("capability")
    kind = entry.get("quantization") or entry["format"]
    if not machine.gpus:
        if engine.name not in LAYERED and kind not in ("BF16", "safetensors"):
            return "%s in %s is computed on GPUs only" % (entry["name"], kind)
        return ""
    if cuda.startswith("13") and engine.name not in LAYERED:
        least = max([least, _CUDA_13_SINCE], key=products.number_of) if least else _CUDA_13_SINCE
    if capability and least and products.number_of(capability) < products.number_of(least):
        return "%s in %s on %s needs compute capability %s, these GPUs have %s" % (
            *(entry["name"], kind, engine.title, least, capability),
        )
    return ""


def _setting(engine: Engine, recipe: Dict[str, Any], name: str) -> Any:
    """What the user set, else the recipe."""
    mine = (engine.settings or {}).get(name)
    return (recipe.get("parameters") or {}).get(name) if mine in (None, "", 0) else mine


def _share(engine: Engine, recipe: Dict[str, Any], name: str) -> Optional[float]:
    """A share of the memory that is set; None where none is. Failure for what is no share."""
    share = _setting(engine, recipe, name)
    if share in (None, "", 0):
        return None
    if not 0 < float(share) <= 1:
        raise Failure("%s is a share above 0 and at most 1, not %r" % (name, share), error_kind="usage")
    return float(share)


def wants_even_memory(settings: Dict[str, Any]) -> bool:
    """Whether SGLang looks for GPUs that have less free than others (on by default), by its settings."""
    return not sglang_kernels.is_off(settings.get("environment"), "SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK")


def own_way(engine: str, share_is_set: bool, settings: Dict[str, Any]) -> Dict[str, bool]:
    """The fields of `Request` that say how an engine takes its memory: SGLang in its own way."""
    sglang = engine == "sglang"
    return {
        "of_free": sglang,
        "even": sglang and wants_even_memory(settings),
        "only_kept": sglang and share_is_set,
        "shared_experts": not sglang,
    }


# The first releases whose code was read for what a checkpoint says of its cache (fit/own_kv.py).
_OWN_KV_SINCE = {"vllm": "0.19.1", "sglang": "0.5.23"}
_OWN_NVFP4_SINCE = "0.32.0"  # vLLM


def own_kv(engine: str, facts: Dict[str, Any], version: str) -> str:
    """The type of cache that this release takes of the checkpoint itself; empty: none, or it is older than those that
    are known, and counts as one that keeps 16 bits."""
    found = str((facts.get("own_kv_cache") or {}).get(engine) or "")
    since = _OWN_NVFP4_SINCE if found == "nvfp4" else _OWN_KV_SINCE.get(engine)
    return found if since and (not version or version_key(version) >= version_key(since)) else ""


def numbers_of(
    engine: str, entry: Dict[str, Any], settings: Dict[str, Any], version: Optional[str] = ""
) -> Dict[str, Any]:
    """The fields of `Request` that say in which numbers vLLM and SGLang keep and compute, and what they keep beside.

    :param version: of the engine; empty: one of today.
    :param settings: without the role's prefix: ``kv_cache_dtype``, ``dtype``, ``speculative_algorithm``,
        ``speculative_draft_model_path``, ``extra_args``.
    """
    facts = entry.get("architecture") or {}
    window = any(group.get("window") for group in facts.get("attention") or [])
    latent = bool(facts.get("kv_lora_rank")) and entry.get("kv_cache") != "full"
    dtype, draft = settings.get("dtype"), drafting(engine, settings)
    kv = kv_of(engine, settings.get("kv_cache_dtype"), dtype, latent, window, own_kv(engine, facts, version or ""))
    return {
        "kv": kv,
        "kv_bytes": kv.number,
        "computed_bytes": compute_bytes(dtype),
        "absorbed": latent and (engine == "sglang" or entry.get("weight_bits") not in (16, 32)),
        "drafts": latent and draft == OWN_DRAFT,
        "draft_apart": draft == OTHER_DRAFT or (draft == OWN_DRAFT and not latent),
    }


OWN_DRAFT, OTHER_DRAFT = "own", "other"


def drafting(engine: str, settings: Dict[str, Any]) -> str:
    """What guesses further tokens: OWN_DRAFT, the model's own layer for it (MTP, DeepSeek's and its kin's);
    OTHER_DRAFT, a model or layers of which nothing is known here; empty: nothing.

    Sources: SGLang 0.5.23 (srt/arg_groups: EAGLE and NEXTN of DeepSeek need no path), vLLM 0.32.0
    (config/speculative.py).
    """
    extra = settings.get("extra_args") or []
    if engine == "sglang":
        algorithm = settings.get("speculative_algorithm") or flag_value(extra, "--speculative-algorithm")
        algorithm = str(algorithm or "").upper()
        if algorithm in ("", "NONE", "NGRAM"):
            return ""
        path = settings.get("speculative_draft_model_path") or flag_value(extra, "--speculative-draft-model-path")
        path = path or flag_value(extra, "--speculative-draft-model")
        return OWN_DRAFT if algorithm in ("EAGLE", "NEXTN") and not path else OTHER_DRAFT
    found = _speculative_config(extra) if engine == "vllm" else {}
    method, model = str(found.get("method") or ""), found.get("model")
    if not (method or model) or method in ("ngram", "ngram_gpu", "suffix"):
        return ""
    return OWN_DRAFT if method.endswith("mtp") and not model else OTHER_DRAFT


def _speculative_config(extra):
    """``method`` and ``model`` of vLLM's speculative config, in any of the forms that it takes; {} without."""
    found = {}
    for flag in ("--speculative-config", "-sc"):
        try:
            given = foreign.loads(flag_value(extra, flag) or "{}")
        except ValueError:
            continue
        found.update(given if isinstance(given, dict) else {})
    for key in ("method", "model"):
        for flag in ("--spec-" + key, "--speculative-config." + key, "-sc." + key):
            found[key] = flag_value(extra, flag) or found.get(key)
    return found


# Settings of `numbers_of`.
_OF_NUMBERS = ("kv_cache_dtype", "dtype", "speculative_algorithm", "speculative_draft_model_path", "extra_args")


DRAFT_APART = "what its draft model takes is not counted: it is not known"


def _request(entry, engine, version, recipe, machine, ask):
    """What the fit is asked: the user's settings, then the recipe's, then the engine's own."""
    layers = (engine.settings or {}).get("gpu_layers", "auto")
    request = Request(context=context_of(entry, ask), sequences=ask.users)
    if engine.name in LAYERED:
        settings = engine.settings or {}
        ollamas = llama_cpp.CACHE_TYPES.get(str(settings.get("kv_cache_type")), 2.0)
        return request._replace(
            kv_bytes=llama_cpp.kv_bytes(settings) if engine.name == "llama_cpp" else ollamas,
            draft_apart=engine.name == "llama_cpp" and llama_cpp.drafts(settings),
            gpu_layers=int(layers) if str(layers).isdigit() else -1,
        )
    share = _share(engine, recipe, "gpu_memory_utilization" if engine.name == "vllm" else "mem_fraction_static")
    usual = 0.92 if engine.name == "vllm" and version and version_key(version) >= version_key("0.21.0") else 0.9
    return request._replace(
        tensor_parallel=int(_setting(engine, recipe, "tensor_parallel_size") or 0),
        pipeline_parallel=int(_setting(engine, recipe, "pipeline_parallel_size") or 1),
        data_parallel=int(_setting(engine, recipe, "data_parallel_size") or 1) if engine.name == "vllm" else 1,
        expert_parallel=_expert_parallel(engine, recipe),
        **numbers_of(engine.name, entry, {name: _setting(engine, recipe, name) for name in _OF_NUMBERS}, version),
        utilization=share or usual,
        **own_way(engine.name, share is not None, engine.settings or {}),
        graphs=vllm_graphs(version, engine.settings or {}, _setting(engine, recipe, "max_num_seqs"))
        if engine.name == "vllm"
        else None,
    )


def _expert_parallel(engine: Engine, recipe: Dict[str, Any]) -> int:
    """`Request.expert_parallel`."""
    if engine.name == "vllm":
        return 0 if _setting(engine, recipe, "enable_expert_parallel") else 1
    return int(_setting(engine, recipe, "expert_parallel_size") or 1)


def _layered(row, entry, machine, request):
    """llama.cpp and Ollama: whole layers on the GPUs of one host, the rest in its memory."""
    plan = fit_report.check(entry, machine.nvidia_smi, request, machine.memory, machine.users)
    row["notes"] += plan.get("notes", [])
    if request.draft_apart:
        row["notes"].append(DRAFT_APART)
    row.update(verdict=plan["verdict"], why="; ".join(plan["problems"]) or "", would_fit=plan["would_fit"])
    if plan["verdict"] == "unknown":
        row["why"] = plan["summary"]
        return
    if "gpu_layers" not in plan:
        return
    row["layout"] = {
        "gpu_layers": plan["gpu_layers"],
        "layers": plan["layers_total"],
        "gpus": sum(1 for one in plan["devices"] if one["device"] != CPU and one["layers"]),
        "cpu_share": round(plan["cpu_share"], 3),
    }
    row["numbers"] = {
        "kv_bytes_per_token": plan["kv_bytes_per_token"],
        "largest_context": plan["largest_context"],
    }
    for one in plan["devices"]:
        for key in ("weights", "kv", "compute", "total"):
            row["numbers"]["%s_%s" % (key, one["device"])] = one[key]
    # Who asked for none knows it.
    lacking = machine.gpus and request.gpu_layers != 0 and plan["gpu_layers"] < plan["layers_total"]
    if lacking and plan["verdict"] == "fits":
        row["notes"].append(
            "%d of %d layers stay in the host's memory, which is many times slower"
            % (plan["layers_total"] - plan["gpu_layers"], plan["layers_total"])
        )
    if not machine.memory and (not machine.gpus or plan["gpu_layers"] < plan["layers_total"]):
        row.update(verdict="unknown" if row["verdict"] == "fits" else row["verdict"])
        row["why"] = row["why"] or "the host's memory is not known, and %s of it is needed" % gib(
            plan["devices"][-1]["total"]["value"]
        )
    if machine.hosts > 1:
        row["notes"].append("on each host by itself")


def _parallel(row, entry, engine, machine, request, ask):
    """vLLM and SGLang: each layer over the GPUs of a host, further hosts as pipeline stages."""
    on_cpu = not machine.gpus
    nodes = machine.hosts
    if nodes > 1 and request.pipeline_parallel == 1 and not request.tensor_parallel:
        request = request._replace(pipeline_parallel=nodes)
    if request.tensor_parallel and not on_cpu and not (engine.settings or {}).get("tensor_parallel_size"):
        request = _recipe_layout(machine, request)
    plan = fit_report.check(
        entry, machine.nvidia_smi, request, machine.memory, machine.users, on_cpu, nodes, machine.gang
    )
    row["notes"] += plan.get("notes", [])
    if request.draft_apart:
        row["notes"].append(DRAFT_APART)
    row.update(verdict=plan["verdict"], why="; ".join(plan["problems"]) or "", would_fit=plan["would_fit"])
    if on_cpu:
        row["doubts"].append("without a GPU %s is there to be tried out: llama.cpp is made for CPUs" % engine.title)
        row["layout"] = {"device": CPU}
        row["numbers"] = dict(plan.get("host") or {}, largest_context=plan.get("largest_context"))
        if plan.get("host"):
            shape = fit_report.shape_for(entry, request)
            row["numbers"]["kv_bytes_per_token"] = model_shape.kv_bytes_per_token(shape, request.kv_bytes)
        if not machine.memory and plan["verdict"] == "fits":
            row.update(verdict="unknown", why="the host's memory is not known")
        return
    if plan.get("per_gpu"):
        row["numbers"] = dict(plan["per_gpu"], largest_context=plan["largest_context"])
        row["layout"] = {
            "tensor_parallel": plan["tensor_parallel"],
            "pipeline_parallel": plan["pipeline_parallel"],
            "data_parallel": plan["data_parallel"],
            "gpus": plan["gpus"],
            "copies": 1,
        }
    if plan["verdict"] == "unknown":
        _by_recipe(row, plan, machine)
    if row["verdict"] in ("fits", "tight", "recipe") and row["layout"]:
        _copies(row, entry, machine, request, ask)


def _recipe_layout(machine, request):
    """A recipe's tensor parallelism is for the machine that it was made on: another one takes what works there."""
    here = len(for_a_process(machine.nvidia_smi)) * machine.hosts
    if request.tensor_parallel * request.pipeline_parallel * request.data_parallel <= here:
        return request
    return request._replace(tensor_parallel=0, pipeline_parallel=machine.hosts, data_parallel=1)


def _by_recipe(row, plan, machine):
    """The cache is not known: what the recipe of the engine's own project says is then all that is known."""
    why = plan["largest_context"]["how"] if plan.get("largest_context") else plan["summary"]
    row["why"] = "its KV cache is not known (%s): the engine says it when it has started" % why.replace(
        "not understood: ", ""
    )
    least = row["minimum_vram_gb"]
    if least and not machine.memory_unknown():
        seen = for_a_process(machine.nvidia_smi)
        have = sum(gpu.get("memory_total_mib") or 0 for gpu in seen) * machine.hosts * 1024**2 / 1e9
        row["verdict"] = "recipe" if have >= least else "no"
        row["why"] = "%s; its recipe asks for %d GB of GPU memory, here are %d" % (row["why"], least, have)


def _copies(row, entry, machine, request, ask):
    """How few GPUs are enough for what is asked, and how many copies the machine then holds."""
    gpus, _notes = gpus_from_facts(machine.nvidia_smi, machine.users)
    if machine.hosts > 1 or len(gpus) < 2 or request.data_parallel > 1:
        return
    shape = model_shape.from_catalog(entry)
    wanted = row["verdict"]
    for size in parallel.tensor_parallel_sizes(shape, len(gpus) // 2, request.expert_parallel):
        few = request._replace(tensor_parallel=size, data_parallel=1)
        smallest = sorted(for_a_process(machine.nvidia_smi), key=lambda gpu: gpu.get("memory_total_mib") or 0)[:size]
        alike = dict(machine.nvidia_smi, gpus=smallest)
        plan = fit_report.check(entry, alike, few, machine.memory, machine.users)
        if wanted == "recipe" and plan["verdict"] == "unknown":
            enough = sum(gpu.get("memory_total_mib") or 0 for gpu in smallest) * 1024**2 / 1e9
            good = enough >= row["minimum_vram_gb"]
        else:
            good = plan["verdict"] == "fits"
        if good:
            row["layout"].update(smallest=size, copies=len(gpus) // size)
            if ask.profile == "throughput" or wanted == "recipe":
                _take(row, plan, size)
            return


def _take(row, plan, size):
    """Several copies instead of one that is spread over all GPUs."""
    row["layout"].update(tensor_parallel=size, gpus=size * row["layout"]["copies"])
    if plan.get("per_gpu"):
        row["numbers"] = dict(plan["per_gpu"], largest_context=plan["largest_context"])


def layout_text(row: Dict[str, Any]) -> str:
    """The layout in a few words."""
    layout = row["layout"]
    if not layout:
        return "–"
    if layout.get("device") == CPU:
        return "CPU"
    if "gpu_layers" in layout:
        if not layout["gpu_layers"]:
            return "CPU"
        return "%d of %d layers on %d GPU%s" % (
            *(layout["gpu_layers"], layout["layers"], layout["gpus"], "" if layout["gpus"] == 1 else "s"),
        )
    text = parallel.layout_text(*(layout[kind + "_parallel"] for kind in ("tensor", "pipeline", "data")))
    if layout["copies"] > 1 and layout["tensor_parallel"] == layout.get("smallest"):
        text += " × %d copies" % layout["copies"]
    return text


def sequences(row: Dict[str, Any]) -> Optional[int]:
    """Requests of the asked length that the cache holds at the same time; None where that is not known.

    Of what fits only with the low estimate of the overhead: with that one.
    """
    left = "left_high" if row["verdict"] == "tight" else "left_low"
    per, low = row["numbers"].get("kv_bytes_per_token"), row["numbers"].get(left)
    kv = row["numbers"].get("kv")
    if not per or not low or not kv or low["value"] is None or not kv["value"]:
        return None
    room = low["value"] + kv["value"]
    return max(0, int(room / (kv["value"] / float(row["users"]))))


def offers(
    catalog: Dict[str, Any],
    engines: List[Engine],
    machine: Machine,
    ask: Ask,
    wanted: Tuple[str, ...] = (),
    own: str = "",
) -> List[Dict[str, Any]]:
    """Rows of all models (``wanted``: of these names or families) with all engines that serve them.

    :param own: the model that the settings are made for: the layers on GPUs that they name are of this one alone.
    """
    rows = []
    for name, entry in catalog.items():
        if wanted and name not in wanted and entry.get("family") not in wanted:
            continue
        if name.startswith("tiny-") and name not in wanted:
            continue
        for engine in engines:
            if engine.name in entry["engines"]:
                if name != own:
                    engine = engine._replace(settings=dict(engine.settings or {}, gpu_layers="auto"))
                rows.append(offer(name, entry, engine, machine, ask))
    return rows
