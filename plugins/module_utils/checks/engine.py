# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what is deployed: it runs, answers, is closed, and makes none of the known mistakes. Pure.

Sections `deployments`, `answers` and `gpus`. A record of `deployments` is a deployment record with what was looked up
of it, see look_engine.py.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.check import (
    Skip,
    Unknown,
    Verdict,
    check,
    fail,
    ok,
    warn,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.guards import GUARDS, address_problem, flag_of_word
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import for_a_process
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import is_loopback
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.cuda import numbers

FILES_LEAST = 65536
FILES_ENOUGH = 16384  # in a container that does not allow more
CERTIFICATE_LEAST = 21  # days
LARGE = 20 * 1024**3  # bytes; a model of this size takes long enough to load for an unloaded one to be noticed
RESTARTS_MOST = 3
PREEMPTED_MOST = 0.1  # of the requests
PREEMPTED_FEW = 10  # so many are no matter
# Oldest version without a published hole that others can use, by the name of the engine in its record.
SAFE = {
    "vllm": ("0.18.0", "CVE-2026-27893, CVE-2026-22807"),
    "sglang": ("0.5.10", "CVE-2026-3059, CVE-2026-3060"),
    "ollama": ("0.17.1", "CVE-2026-7482"),
}

Facts = Dict[str, Any]
Record = Dict[str, Any]


def records(facts: Facts) -> List[Record]:
    """All deployments. Skip where nothing is deployed."""
    found = list(facts["deployments"]["records"])
    if not found:
        raise Skip("nothing is deployed on this host")
    return found


def running(facts: Facts, *engines: str) -> List[Record]:
    """Those that run, of these engines. Skip where none does."""
    found = [one for one in records(facts) if one["running"] and (not engines or one["engine"] in engines)]
    if not found:
        raise Skip("no %s runs" % (" or ".join(engines) if engines else "deployment"))
    return found


def each(found: List[Record], bad: Callable[[Record], Optional[str]]) -> str:
    """What is wrong with which, in one line; empty for nothing."""
    return "; ".join("%s: %s" % (one["engine"], text) for one, text in ((one, bad(one)) for one in found) if text)


def processes(one: Record) -> List[List[str]]:
    """The command lines of its processes. Unknown where they cannot be read."""
    if not one["argv"]:
        raise Unknown("the command line of %s cannot be read" % one["engine"])
    return list(one["argv"])


def flags(one: Record) -> Dict[str, str]:
    """The flags of its command lines, each with the word after it, or after its `=`."""
    found: Dict[str, str] = {}
    for words in processes(one):
        for word, following in zip(words, words[1:] + [""]):
            if word.startswith("-"):
                found.setdefault(flag_of_word(word), word.partition("=")[2] if "=" in word else following)
    return found


def role_of(engine: str) -> str:
    """The role of an engine, by which its guards are named."""
    return engine if engine in GUARDS else next((name for name in GUARDS if name.startswith(engine)), "")


@check(
    "engine_records",
    title="what is deployed can be read",
    why="A record that cannot be read may be of an engine that runs and holds the GPUs: no verb sees it.",
    fix="dsdeploy up, which writes the record anew",
    source="CONTRIBUTING.md, Deployment record",
    when=("up",),
)
def readable(facts: Facts) -> Verdict:
    bad = facts["deployments"]["unreadable"]
    return (
        fail("; ".join(bad), "records") if bad else ok("%d records" % len(facts["deployments"]["records"]), "records")
    )


@check(
    "engine_running",
    title="what is deployed runs, or was stopped on purpose",
    why="An engine that died leaves nothing but its log.",
    fix="dsdeploy logs; dsdeploy up",
    source="systemctl(1), supervisorctl",
    when=("up",),
)
def runs(facts: Facts) -> Verdict:
    found = records(facts)
    unknown = [one["engine"] for one in found if one["state"] is None]
    dead = each(
        found,
        lambda one: one["state"]["detail"] if one["state"] and not one["running"] and not one["on_purpose"] else None,
    )
    if dead:
        return fail(dead, "running")
    if unknown:
        raise Unknown("the service manager does not tell the state of %s" % ", ".join(unknown))
    return ok(", ".join("%s %s" % (one["engine"], one["state"]["active"]) for one in found), "running")


@check(
    "engine_answers",
    title="what runs answers",
    why="An engine can be running for its manager, and wait for a GPU, load, or hang in NCCL.",
    fix="dsdeploy status; dsdeploy logs",
    source="health paths of the engines (engine/chat.py)",
)
def answers(facts: Facts) -> Verdict:
    found = running(facts)
    loading = each(
        found, lambda one: "still starting" if one["state"]["active"] == "starting" and not one["ready"] else None
    )
    silent = each(found, lambda one: one["ready_detail"] if one["ready"] is False else None)
    if loading:
        return warn(loading, "answers")
    return fail(silent, "answers") if silent else ok(", ".join(one["endpoint"] for one in found), "answers")


def answered(facts: Facts) -> List[Record]:
    """What was asked for a token. Skip where nothing was."""
    found = list(facts["answers"])
    if not found:
        raise Skip("no engine is ready")
    return found


@check(
    "engine_generates",
    title="what is ready gives a token",
    why="An engine whose workers hang in NCCL or on a GPU goes on answering its health path.",
    fix="dsdeploy logs -n 500; systemctl restart SERVICE, when it does not come back",
    source="checks/look_answers.py (one token within 30 s); vllm#32136, sglang#3099",
)
def generates(facts: Facts) -> Verdict:
    found = answered(facts)
    silent = [one for one in found if one["problem"]]
    said = "; ".join("%s: %s" % (one["engine"], one["problem"]) for one in silent)
    expected = "a token within 30 s"
    busy = [one for one in silent if one["waiting"]]
    if silent and len(busy) == len(silent):
        waiting = "; ".join("%s: %d requests wait" % (one["engine"], one["waiting"]) for one in busy)
        return warn("%s; %s" % (waiting, said), expected, "dsdeploy status --watch shows whether they move")
    if silent:
        return fail(said, expected)
    unread = ["%s: %s" % (one["engine"], one["unread"]) for one in found if one["unread"]]
    if unread:
        raise Unknown("; ".join(unread))
    told = ["%s %.1f s" % (one["engine"], one["seconds"]) for one in found if one["seconds"] is not None]
    if not told:
        raise Skip("; ".join("%s: %s" % (one["engine"], one["idle"]) for one in found))
    return ok(", ".join(told), expected)


@check(
    "engine_preemptions",
    title="hardly any request is thrown out of the KV cache",
    why="A request that was thrown out is computed again from its beginning: all get slower, nobody is told why.",
    fix="a smaller context or fewer sequences at a time (max_num_seqs, max_running_requests); dsdeploy up",
    source="vLLM, docs/configuration/optimization.md (preemption); checks/engine.py (one of ten requests)",
)
def preemptions(facts: Facts) -> Verdict:
    found = [one for one in answered(facts) if one["preempted"] is not None and one["finished"] is not None]
    if not found:
        raise Skip("no engine here counts them")
    many = [one for one in found if one["preempted"] > max(PREEMPTED_MOST * one["finished"], PREEMPTED_FEW)]
    expected = "at most one of ten requests"
    if many:
        said = ["%s: %d times in %d requests" % (one["engine"], one["preempted"], one["finished"]) for one in many]
        return warn("; ".join(said), expected)
    return ok(", ".join("%s %d" % (one["engine"], one["preempted"]) for one in found), expected)


@check(
    "engine_restarts",
    title="the service was not started over and over",
    why="An engine that runs out of memory under load comes back by itself: users see errors, `status` sees ready.",
    fix="dsdeploy logs -n 500; a smaller context or fewer sequences",
    source="systemd.service(5), NRestarts",
    when=("up",),
)
def restarts(facts: Facts) -> Verdict:
    found = [one for one in running(facts) if one["state"]["restarts"] is not None]
    if not found:
        raise Skip("supervisor does not count restarts")
    many = each(
        found, lambda one: "%d times" % one["state"]["restarts"] if one["state"]["restarts"] > RESTARTS_MOST else None
    )
    expected = "at most %d" % RESTARTS_MOST
    return warn(many, expected) if many else ok(max(one["state"]["restarts"] for one in found), expected)


@check(
    "engine_exposed",
    title="nobody but this host reaches the engine without a key and TLS",
    why="Open model servers are found by scanners within hours; Ollama knows no key at all.",
    fix="set ENGINE_host to 127.0.0.1 and run dsdeploy up; reach it through an SSH tunnel or a gateway with keys",
    source="vLLM, docs/usage/security.md; SentinelLABS and Censys (175,108 open Ollama hosts)",
    when=("up",),
)
def exposed(facts: Facts) -> Verdict:
    def bad(one: Record) -> Optional[str]:
        addresses = {found["address"] for found in facts["listeners"] if found["port"] == one["port"]} or {one["host"]}
        for address in sorted(addresses):
            # The rule of the preflights.
            problem = address_problem(role_of(one["engine"]), address, one["has_key"], one["has_tls"])
            if problem and not is_loopback(address):
                return problem.msg
        return None

    found = each([one for one in running(facts) if role_of(one["engine"])], bad)
    return fail(found, "loopback, or a key and TLS") if found else ok("closed", "loopback, or a key and TLS")


@check(
    "engine_replicas",
    title="the gateway sends requests to all replicas",
    why="What a replica does not do the others have to; one with a wrong certificate may be somebody else.",
    fix="dsdeploy status of that host; one that was installed anew: dsdeploy up for all hosts of its replicas",
    source="HAProxy, management guide (show stat: status, check_status)",
)
def replicas(facts: Facts) -> Verdict:
    found = facts["replicas"]
    if not found or not found["names"]:
        raise Skip("no gateway here has replicas on other hosts")
    bad = "; ".join("%s gets nothing: %s" % one for one in sorted(found["lacking"].items()))
    return fail(bad, "all answer") if bad else ok(", ".join(found["names"]), "all answer")


@check(
    "engine_side_ports",
    title="the engine's processes talk to each other on this host alone",
    why="What listens there (ZMQ, TCPStore) takes orders from whoever reaches it, and asks for no key.",
    fix="let no other host reach these ports (a firewall); for engines over several hosts, a network of their own",
    source="vLLM, docs/usage/security.md (inter-node communication); ShadowMQ",
)
def side_ports(facts: Facts) -> Verdict:
    found = running(facts)
    users = {one["user"]: one for one in found}
    ports = {one["port"] for one in found}
    open_ports = [
        "%s listens on %s port %d" % (users[one["user"]]["engine"], one["address"], one["port"])
        for one in facts["listeners"]
        if one["user"] in users and one["port"] not in ports and not is_loopback(one["address"])
    ]
    return warn("; ".join(open_ports), "loopback") if open_ports else ok("loopback", "loopback")


@check(
    "engine_dev_mode",
    title="no endpoints for developers are open",
    why="VLLM_SERVER_DEV_MODE and insecure serialization let whoever asks run programs.",
    fix="dsdeploy up, which never sets them",
    source="vLLM, docs/usage/security.md",
    when=("up",),
)
def dev_mode(facts: Facts) -> Verdict:
    names = ("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION")
    found = _environments(facts, running(facts, "vllm", "vllm_venv"))
    bad = each(found, lambda one: ", ".join(name for name in names if one["environ"].get(name, "0") != "0") or None)
    return fail(bad, "off") if bad else ok("off", "off")


def _environments(facts: Facts, found: List[Record]) -> List[Record]:
    closed = [one["engine"] for one in found if one["environ"] is None]
    if closed:
        who = "not even root can, in this container," if facts["host"]["root"] else "only root can"
        raise Unknown("%s read the environment of %s" % (who, ", ".join(closed)))
    return found


@check(
    "engine_eager",
    title="vLLM and SGLang compute with CUDA graphs",
    why="Eager mode costs most of the speed: 39.8 instead of 376.5 tokens/s for one stream on an H100.",
    fix="take --enforce-eager (--disable-cuda-graph) out of the engine's parameters; dsdeploy up",
    source="measured, docs/one-card.md; vllm#56892, DeepSeek-V3#24",
    when=("up",),
)
def eager(facts: Facts) -> Verdict:
    found = [one for one in running(facts, "vllm", "vllm_venv", "sglang") if one["device"] == "gpu"]
    if not found:
        raise Skip("it computes on the CPU, which has no CUDA graphs")
    slow = ("--enforce-eager", "--disable-cuda-graph")
    bad = each(found, lambda one: ", ".join(flag for flag in slow if flag in flags(one)) or None)
    return warn(bad, "CUDA graphs") if bad else ok("CUDA graphs", "CUDA graphs")


@check(
    "engine_gpu_layers",
    title="all layers that fit are on the GPUs",
    why="Each layer on the CPU is read through its memory for every token: a tenth of the speed, with GPU "
    "memory unused.",
    fix="take llama_cpp_gpu_layers (num_gpu of Ollama) out of the variables; dsdeploy up puts on the GPUs what fits",
    source="DeepSeek R1 Q4_K_M with num_gpu 16 on 8 x 80 GB: 84 % on the CPU, 4.59 tokens/s; all 62 layers fit",
    when=("up",),
)
def gpu_layers(facts: Facts) -> Verdict:
    found = [one for one in running(facts, "llama_cpp", "ollama") if one["device"] == "gpu"]
    if not found or not facts["gpus"]["gpus"]:
        raise Skip("no llama.cpp or Ollama computes on GPUs here")
    sizes = [one["memory_free_mib"] for one in for_a_process(facts["gpus"])]
    free = None if None in sizes else sum(sizes) * 1024**2
    unread = [one["engine"] for one in found if one["on_gpu"] is None]
    loaded = [one for one in found if one["on_gpu"]]

    def bad(one: Record) -> Optional[str]:
        share = one["on_gpu"]["share"]
        rest = int((1.0 - share) * one["on_gpu"]["bytes"])
        if share < 0.999 and free is None:
            raise Unknown("how much memory the GPUs have free is not known")
        # A tenth for what a layer needs besides its weights.
        if share < 0.999 and rest * 1.1 < free:
            return "%.0f %% of the model on the GPUs, %s left on the CPU, %s of GPU memory free" % (
                100 * share,
                mib(rest),
                mib(free),
            )
        return None

    said = each(loaded, bad)
    if said:
        return warn(said, "all that fits")
    if unread or not loaded:
        raise Skip("no model is loaded, or %s does not tell" % (", ".join(unread) or "it"))
    return ok(
        ", ".join("%s %.0f %%" % (one["engine"], 100 * one["on_gpu"]["share"]) for one in loaded), "all that fits"
    )


@check(
    "engine_keep_alive",
    title="Ollama keeps a large model loaded",
    why="After five minutes without a question Ollama drops the model; the next one waits until 404 GB are read again.",
    fix="set ollama_keep_alive to -1; dsdeploy up",
    source="Ollama, envconfig/config.go (OLLAMA_KEEP_ALIVE, 5m)",
    when=("up",),
)
def keep_alive(facts: Facts) -> Verdict:
    found = [one for one in running(facts, "ollama") if one["model_bytes"] is None or one["model_bytes"] >= LARGE]
    if not found:
        raise Skip("its model is small")
    _environments(facts, found)

    def bad(one: Record) -> Optional[str]:
        value = one["environ"].get("OLLAMA_KEEP_ALIVE", "")
        if value.startswith("-") or (_seconds(value) or 0) >= 24 * 3600:
            return None
        if one["model_bytes"] is None:
            return None
        return "%s after %s" % (mib(one["model_bytes"]), value or "5m, the default")

    said = each(found, bad)
    return warn(said, "-1") if said else ok("kept", "-1")


def _seconds(value: str) -> Optional[float]:
    """Of a duration of Go's, such as 24h or 1h30m, or a number of seconds."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    parts = re.findall(r"([0-9.]+)(h|ms|m|s)", value)
    if parts:
        return sum(float(amount) * units[unit] for amount, unit in parts)
    return float(value) if re.fullmatch(r"[0-9]+", value) else None


@check(
    "engine_open_files",
    title="the engine may open enough files",
    why="Each connection and each shard is a file: at 1024 the engine refuses connections under load.",
    fix="dsdeploy up, whose units set LimitNOFILE; in a container: --ulimit nofile=1048576",
    source="systemd.exec(5), LimitNOFILE; checks/engine.py (65536)",
    when=("up",),
)
def open_files(facts: Facts) -> Verdict:
    found = _limits(running(facts))
    hard = facts["deployments"]["hard_nofile"]

    least = FILES_LEAST if hard is None or hard >= FILES_LEAST else min(FILES_ENOUGH, hard)

    def bad(one: Record) -> Optional[str]:
        limit = one["limits"]["nofile"]
        return "%d" % limit if limit is not None and limit < least else None

    said = each(found, bad)
    expected = "at least %d" % least
    if said and hard is not None and hard < FILES_LEAST:
        fix = "start the container with --ulimit nofile=1048576"
        return warn("%s; this container allows %d" % (said, hard), "at least %d" % FILES_LEAST, fix)
    return warn(said, expected) if said else ok("enough", expected)


def _limits(found: List[Record]) -> List[Record]:
    known = [one for one in found if one["limits"]]
    if not known:
        raise Unknown("the limits of its process cannot be read")
    return known


@check(
    "engine_memlock",
    title="the engine may lock memory",
    why="RDMA and pinned buffers lock memory: at 64 KiB NCCL over InfiniBand fails, and copies go unpinned.",
    fix="dsdeploy up, whose units set LimitMEMLOCK; in a container: --ulimit memlock=-1",
    source="vllm#1710; docs.nvidia.com/deeplearning/nccl/user-guide, Troubleshooting",
    when=("up",),
)
def memlock(facts: Facts) -> Verdict:
    found = [one for one in _limits(running(facts)) if one["device"] == "gpu"]
    if not found:
        raise Skip("nothing computes on GPUs here")
    said = each(found, lambda one: mib(one["limits"]["memlock"]) if one["limits"]["memlock"] is not None else None)
    if said and facts["infiniband"]:
        return fail(said, "unlimited")
    return warn(said, "unlimited") if said else ok("unlimited", "unlimited")


@check(
    "engine_certificate",
    title="its certificate is valid for weeks",
    why="On the day it ends all clients fail at once.",
    fix="put a new certificate in place of the file; dsdeploy up",
    source="RFC 5280, 4.1.2.5; checks/engine.py (21 days)",
    when=("up",),
)
def certificate(facts: Facts) -> Verdict:
    found = [one for one in records(facts) if one["certificate"] is not None]
    if not found:
        raise Skip("nothing is served with TLS here")
    unread = [one["certificate"]["problem"] for one in found if one["certificate"].get("problem")]
    if unread:
        raise Unknown("; ".join(unread))
    days = {one["engine"]: one["certificate"]["days"] for one in found}
    said = ", ".join("%s: %d days" % pair for pair in sorted(days.items()))
    expected = "at least %d days" % CERTIFICATE_LEAST
    if min(days.values()) <= 0:
        return fail(said, expected)
    return warn(said, expected) if min(days.values()) < CERTIFICATE_LEAST else ok(said, expected)


@check(
    "engine_key_file",
    title="only root and the engine read its API key",
    why="Whoever has an account on the host can use the model as its owner.",
    fix="chmod 0600 %s/*" % places.KEYS,
    source="CONTRIBUTING.md, Secrets",
    when=("up",),
)
def key_file(facts: Facts) -> Verdict:
    found = [one for one in records(facts) if one["api_key_file"]]
    if not found:
        raise Skip("no API key is set")
    if any(one["key_mode"] is None for one in found):
        raise Unknown("the file of an API key cannot be looked at")
    bad = each(found, lambda one: "mode %04o" % one["key_mode"] if one["key_mode"] & 0o077 else None)
    paths = " ".join(one["api_key_file"] for one in found if one["key_mode"] & 0o077)
    return fail(bad, "0600", "chmod 0600 %s" % paths) if bad else ok("0600", "0600")


@check(
    "engine_version",
    title="the engine has no published hole that others can use",
    why="Requests, or models, that run programs: known, with code to do it.",
    fix="set a newer version in the inventory; dsdeploy up",
    source="; ".join("%s: %s" % (engine, cves) for engine, (_oldest, cves) in sorted(SAFE.items())),
    when=("up",),
)
def version(facts: Facts) -> Verdict:
    def bad(one: Record) -> Optional[str]:
        oldest, cves = SAFE.get(one["engine"].replace("_venv", ""), ("0", ""))
        if one["device"] == "cpu" and is_loopback(one["host"]):
            return None  # an old release, to try things out: nobody else reaches it
        if not re.match(r"v?\d+\.", one["version"] or ""):
            return None
        return "%s (%s)" % (one["version"], cves) if numbers(one["version"]) < numbers(oldest) else None

    found = records(facts)
    said = each(found, bad)
    if said:
        oldest = "; ".join(
            "%s %s" % (name, SAFE[name][0]) for name in SAFE if any(name in one["engine"] for one in found)
        )
        return fail(said, "at least %s" % oldest)
    return ok(", ".join("%s %s" % (one["engine"], one["version"]) for one in found), "no known hole")


@check(
    "engine_cuda",
    title="the driver is new enough for the engine's CUDA",
    why="PyTorch that was built for a newer CUDA than the driver serves fails at its first call.",
    fix="dsdeploy prepare, with a newer nvidia_driver_branch; or another profile of the engine",
    source="docs.nvidia.com/deploy/cuda-compatibility",
    when=("up",),
)
def engine_cuda(facts: Facts) -> Verdict:
    driver = facts["gpus"]["cuda_version"]
    found = [one for one in records(facts) if one["cuda"]]
    if not found:
        raise Skip("no engine here brings its CUDA")
    if not driver:
        raise Unknown("the driver does not tell its CUDA")
    # Within one major version newer builds run on an older driver.
    bad = each(found, lambda one: one["cuda"] if numbers(one["cuda"])[0] > numbers(driver)[0] else None)
    return (
        fail(bad, "at most %s" % driver) if bad else ok(", ".join(one["cuda"] for one in found), "at most %s" % driver)
    )


@check(
    "engine_compiler",
    title="a C compiler is there for engines that compile kernels at their start",
    why="Triton compiles a small C module on first use: without gcc, vLLM and SGLang fail while they start.",
    fix="apt install gcc libc6-dev (dnf install gcc)",
    source="triton, runtime/build.py",
    when=("up",),
)
def compiler(facts: Facts) -> Verdict:
    found = [
        one for one in records(facts) if one["engine"] in ("vllm", "vllm_venv", "sglang") and one["device"] == "gpu"
    ]
    if not found:
        raise Skip("no vLLM or SGLang is deployed on GPUs here")
    there = facts["deployments"]["compiler"]
    return ok(there, "gcc, cc or clang") if there else fail("none", "gcc, cc or clang")


@check(
    "engine_crashes",
    title="no engine left a core dump",
    why="A crash in native code (CUDA, NCCL) leaves no line in the engine's log.",
    fix="coredumpctl info; then coredumpctl dump or rm /var/lib/systemd/coredump/FILE",
    source="systemd-coredump(8)",
)
def crashes(facts: Facts) -> Verdict:
    dumps = facts["deployments"]["core_dumps"]
    if dumps is None:
        raise Skip("systemd keeps no core dumps here")
    return warn("%d, last %s" % (len(dumps), dumps[-1]), "none") if dumps else ok("none", "none")


@check(
    "engine_multicast",
    title="an engine in a virtual machine leaves NVLink multicast alone",
    why="The NVSwitches belong to the host: a program that uses multicast there can take the GPUs from everybody.",
    fix="set in the engine's environment VLLM_ALLREDUCE_USE_SYMM_MEM=0, VLLM_ALLREDUCE_USE_FLASHINFER=0, "
    "NCCL_NVLS_ENABLE=0",
    source="vLLM, envs.py; docs.nvidia.com/deeplearning/nccl/user-guide, NCCL_NVLS_ENABLE",
)
def multicast(facts: Facts) -> Verdict:
    smi = facts["gpus"]
    if (
        not smi["nvlink"]["present"]
        or smi["nvswitch"]["present"]
        or not (facts["host"]["virtual"] or facts["host"]["container"])
    ):
        raise Skip("the GPUs are on no NVSwitch of somebody else's")
    found = [one for one in running(facts, "vllm", "vllm_venv", "sglang") if one["device"] == "gpu"]
    several = [
        one for one in found if int(flags(one).get("--tensor-parallel-size") or flags(one).get("--tp-size") or 1) > 1
    ]
    if not several:
        raise Skip("no engine spans GPUs here")
    _environments(facts, several)
    bad = each(
        several, lambda one: "NCCL_NVLS_ENABLE is not 0" if one["environ"].get("NCCL_NVLS_ENABLE") != "0" else None
    )
    return warn(bad, "off") if bad else ok("off", "off")
