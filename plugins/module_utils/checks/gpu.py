# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the GPUs, from what nvidia-smi and the PCI bus say. Pure; sections `gpus`, `pci`, `deployments`, `host`."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.check import (
    Skip,
    Unknown,
    Verdict,
    check,
    fail,
    ok,
    warn,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.thresholds import normal
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.devices import given_away
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.driver import fabric_problem, gpu_count_problem

_NVML = "docs.nvidia.com/deploy/nvml-api"
_MEMORY = "docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt"
_AZURE = "github.com/Azure/azurehpc-health-checks (nd96isr_h100_v5)"
_ALWAYS = ("prepare", "up")
SRAM_CORRECTABLE_MOST = 10000  # Azure
ROWS_MOST = 512  # Azure: uncorrectable remapped rows
TEMPERATURE_MOST = 90  # C; Hopper slows down at 87 to 92
MEMORY_HELD_MIB = 1024  # without a process that holds it; the driver's own share is some hundred MiB

Facts = Dict[str, Any]


def no_gpu(facts: Facts) -> str:
    """Why a host has no GPU of its own; empty where it has some, or that is not known."""
    smi = facts["gpus"]
    if smi["gpus"] or smi["pci_gpu_count"]:
        return ""
    if smi.get("vfio_gpu_count"):
        return "this host's " + given_away(smi["vfio_gpu_count"])
    return "this host has no NVIDIA GPU" if smi["status"] in ("not_installed", "no_devices") else ""


def gpus(facts: Facts) -> List[Dict[str, Any]]:
    """The GPUs that answer. Skip where the host has none, Unknown where they could not be read."""
    smi = facts["gpus"]
    if smi["gpus"]:
        return list(smi["gpus"])
    if no_gpu(facts):
        raise Skip(no_gpu(facts))
    raise Unknown("no GPU can be read: %s" % smi["reason"])


def each(facts: Facts, bad: Callable[[Dict[str, Any]], Optional[str]]) -> Dict[int, str]:
    """What is wrong, by index of the GPU."""
    found = {gpu["index"]: bad(gpu) for gpu in gpus(facts)}
    return {index: text for index, text in found.items() if text}


def listed(found: Dict[int, str]) -> str:
    """`GPU 0, 1: text; GPU 3: other text`: the same text once."""
    texts: Dict[str, List[int]] = {}
    for index, text in sorted(found.items()):
        texts.setdefault(text, []).append(index)
    return "; ".join("GPU %s: %s" % (", ".join(map(str, indexes)), text) for text, indexes in texts.items())


def known(facts: Facts, of: Callable[[Dict[str, Any]], Any], what: str) -> List[Any]:
    """A value of each GPU. Unknown where one does not tell."""
    values = [of(gpu) for gpu in gpus(facts)]
    missing = [str(gpu["index"]) for gpu, value in zip(gpus(facts), values) if value is None]
    if len(missing) == len(values):
        raise Skip("these GPUs or their driver do not tell %s" % what)
    if missing:
        raise Unknown("GPU %s does not tell %s" % (", ".join(missing), what))
    return values


@check(
    "gpu_answers",
    title="nvidia-smi answers",
    why="Without the driver no engine sees a GPU, and Ollama and llama.cpp silently compute on the CPU.",
    fix="dsdeploy prepare",
    source="nvidia-smi(1), return values",
    when=_ALWAYS,
)
def answers(facts: Facts) -> Verdict:
    smi = facts["gpus"]
    if smi["status"] == "ok":
        return ok(smi["summary"], "ok")
    if no_gpu(facts):
        raise Skip(no_gpu(facts))
    return fail("%s: %s" % (smi["status"], smi["reason"]), "ok", smi["hint"])


@check(
    "gpu_count",
    title="PCI bus, driver and nvidia-smi agree on the number of GPUs",
    why="An engine over fewer GPUs than were meant does not fit its model, or waits for the missing one.",
    fix="dmesg | grep -i -e xid -e nvrm; reboot, if the GPU fell off the bus",
    source="gpud, component gpu-counts; " + _AZURE,
    when=_ALWAYS,
)
def count(facts: Facts) -> Verdict:
    smi, pci = facts["gpus"], facts["pci"]
    shown = len(gpus(facts))
    expected = int(pci.get("expected_gpus") or 0)
    if not pci.get("gpus") and not expected:
        raise Skip("the PCI bus shows no GPU, as in some containers")
    problem = gpu_count_problem(len(pci["gpus"]), smi, expected, len(pci.get("vfio") or []))
    if problem:
        return fail(problem.msg.partition(": ")[2], str(expected or len(pci["gpus"])), problem.hint)
    if pci.get("driver_gpus") is not None and pci["driver_gpus"] != shown:
        return fail(
            "the kernel's driver has %d GPUs, nvidia-smi shows %d" % (pci["driver_gpus"], shown), "the same number"
        )
    return ok(shown, str(expected or len(pci["gpus"])))


@check(
    "gpu_recovery_action",
    title="the driver asks for no recovery",
    why="The driver itself says that this GPU computes wrongly or not at all until it is reset.",
    fix="nvidia-smi --gpu-reset, after `dsdeploy down`; else reboot",
    source=_NVML + ", nvmlDeviceGetGpuRecoveryAction; " + _MEMORY,
    when=_ALWAYS,
)
def recovery_action(facts: Facts) -> Verdict:
    # nvidia-smi's "None" is no value for the reader, and so is a driver that does not know of it.
    found = each(facts, lambda gpu: gpu["recovery_action"])
    if not found:
        return ok("none", "none")
    worst = " ".join(found.values()).lower()
    if "reboot" in worst:
        return fail(listed(found), "none", "dsdeploy down; reboot")
    if "drain" in worst and "reset" not in worst:
        return fail(
            listed(found), "none", "dsdeploy down; wait until the driver takes it back; it then may need a reset"
        )
    return fail(
        listed(found), "none", "dsdeploy down; nvidia-smi -i %s --gpu-reset" % ",".join(map(str, sorted(found)))
    )


@check(
    "gpu_row_remap",
    title="no row of GPU memory waits for being remapped or failed to be",
    why="A row that could not be replaced gives wrong data again and again; one that waits is replaced at a reset.",
    fix="dsdeploy down; nvidia-smi --gpu-reset",
    source=_AZURE + "; " + _MEMORY,
    when=_ALWAYS,
)
def row_remap(facts: Facts) -> Verdict:
    rows = known(facts, lambda gpu: gpu["remapped_rows"]["failure"], "their remapped rows")
    failed = each(facts, lambda gpu: "a row could not be remapped" if gpu["remapped_rows"]["failure"] else None)
    if failed:
        return fail(listed(failed), "none", "nvidia-bug-report.sh; have the GPU replaced (RMA)")
    many = each(
        facts,
        lambda gpu: (
            "%d uncorrectable rows" % gpu["remapped_rows"]["uncorrectable"]
            if (gpu["remapped_rows"]["uncorrectable"] or 0) > ROWS_MOST
            else None
        ),
    )
    if many:
        return fail(listed(many), "at most %d" % ROWS_MOST, "nvidia-bug-report.sh; have the GPU replaced (RMA)")
    pending = each(facts, lambda gpu: "rows wait for a reset" if gpu["remapped_rows"]["pending"] else None)
    if pending:
        indexes = ",".join(map(str, sorted(pending)))
        return fail(listed(pending), "none", "dsdeploy down; nvidia-smi -i %s --gpu-reset" % indexes)
    return ok("none on %d GPUs" % len(rows), "none")


@check(
    "gpu_retired_pages",
    title="no page of GPU memory waits for being retired",
    why="Before Ampere a page with errors is used until the next reset.",
    fix="dsdeploy down; nvidia-smi --gpu-reset",
    source="docs.nvidia.com/deploy/dynamic-page-retirement",
    when=_ALWAYS,
)
def retired_pages(facts: Facts) -> Verdict:
    known(facts, lambda gpu: gpu["retired_pages"]["pending"], "retired pages (Ampere and later have none)")
    pending = each(facts, lambda gpu: "pages wait for a reset" if gpu["retired_pages"]["pending"] else None)
    if pending:
        return fail(listed(pending), "none")
    return ok("none", "none")


@check(
    "gpu_ecc_errors",
    title="no uncorrectable errors of GPU memory",
    why="Uncorrectable errors end programs, and SRAM's come back: the GPU is to be replaced.",
    fix="dsdeploy down; nvidia-smi --gpu-reset; have the GPU replaced, if they come back",
    source=_AZURE + "; " + _MEMORY,
    when=_ALWAYS,
)
def ecc_errors(facts: Facts) -> Verdict:
    known(facts, lambda gpu: gpu["ecc"]["volatile"]["uncorrectable"], "ECC errors")

    def bad(gpu: Dict[str, Any]) -> Optional[str]:
        sram, now = gpu["sram_errors"], gpu["ecc"]["volatile"]["uncorrectable"] or 0
        if sram["threshold_exceeded"]:
            return "more errors of SRAM than the driver allows"
        if sram["uncorrectable"]:
            return "%d uncorrectable errors of SRAM in its life" % sram["uncorrectable"]
        if now:
            return "%d uncorrectable errors since the driver was loaded" % now
        if (sram["correctable"] or 0) > SRAM_CORRECTABLE_MOST:
            return "%d corrected errors of SRAM in its life" % sram["correctable"]
        return None

    found = each(facts, bad)
    return fail(listed(found), "none") if found else ok("none", "none")


@check(
    "gpu_ecc_mode",
    title="ECC is on where the GPU has it",
    why="Without ECC a flipped bit in the weights is an answer that is wrong, and nobody is told.",
    fix="nvidia-smi --ecc-config=1; reboot",
    source=_AZURE,
    when=("prepare",),
)
def ecc_mode(facts: Facts) -> Verdict:
    known(facts, lambda gpu: gpu["ecc"]["mode"], "an ECC mode")
    found = each(facts, lambda gpu: "ECC is off" if gpu["ecc"]["mode"] == "Disabled" else None)
    return warn(listed(found), "on") if found else ok("on", "on")


_HARD = {
    "hw_slowdown": "slowed down by hardware",
    "hw_thermal_slowdown": "slowed down by hardware, too hot",
    "hw_power_brake_slowdown": "slowed down by the power supply (power brake)",
}


@check(
    "gpu_throttle",
    title="nothing but the power cap holds the clocks down",
    why="A GPU that is too hot, or whose power supply brakes it, computes several times slower; all others "
    "wait for it.",
    fix="nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER; then fans, air flow, power supply",
    source=_NVML + ", nvmlClocksEventReasons; gpud, component hw-slowdown",
    when=_ALWAYS,
)
def throttle(facts: Facts) -> Verdict:
    def reasons(gpu: Dict[str, Any]) -> Optional[str]:
        hard = [_HARD[reason] for reason in gpu["throttle_reasons"] if reason in _HARD]
        # The first is the sum of the two others.
        return ", ".join(hard[1:] or hard) or None

    found = each(facts, reasons)
    if found:
        return fail(listed(found), "none")
    soft = each(
        facts,
        lambda gpu: "slowed down by the driver, too hot" if "sw_thermal_slowdown" in gpu["throttle_reasons"] else None,
    )
    return warn(listed(soft), "none") if soft else ok("none", "none")


@check(
    "gpu_temperature",
    title="the GPUs are not too hot",
    why="Near 90 C the GPU slows itself down, and above it switches off.",
    fix="nvidia-smi -q -d TEMPERATURE; then fans, air flow, room",
    source="nvidia-smi -q -d TEMPERATURE, slowdown temperature",
    when=("up",),
)
def temperature(facts: Facts) -> Verdict:
    values = known(facts, lambda gpu: gpu["temperature_c"], "their temperature")
    expected = "below %d C" % TEMPERATURE_MOST
    found = each(facts, lambda gpu: "%d C" % gpu["temperature_c"] if gpu["temperature_c"] >= TEMPERATURE_MOST else None)
    return warn(listed(found), expected) if found else ok("at most %d C" % max(values), expected)


@check(
    "gpu_power_limit",
    title="nobody lowered the power limit",
    why="A lower limit holds the clocks down under load.",
    fix="nvidia-smi --power-limit=DEFAULT",
    source=_AZURE,
    when=("prepare",),
)
def power_limit(facts: Facts) -> Verdict:
    known(facts, lambda gpu: gpu["power_default_w"] and gpu["power_limit_w"], "their power limit")
    found = each(
        facts,
        lambda gpu: (
            "%.0f W of %.0f W" % (gpu["power_limit_w"], gpu["power_default_w"])
            if gpu["power_limit_w"] < 0.99 * gpu["power_default_w"]
            else None
        ),
    )
    if found:
        default = {gpu["power_default_w"] for gpu in gpus(facts) if gpu["index"] in found}
        indexes = ",".join(map(str, sorted(found)))
        return warn(listed(found), "the default", "nvidia-smi -i %s --power-limit=%.0f" % (indexes, max(default)))
    return ok("the default", "the default")


@check(
    "gpu_persistence",
    title="persistence mode is on",
    why="Else the driver unloads while nobody uses the GPUs: nvidia-smi takes seconds, and settings are lost.",
    fix="nvidia-smi --persistence-mode=1, until the next boot; nvidia-persistenced does it for good where its unit has "
    "no --no-persistence-mode, as Ubuntu's has (systemctl cat nvidia-persistenced)",
    source="docs.nvidia.com/deploy/driver-persistence; " + _AZURE,
    when=("prepare",),
)
def persistence(facts: Facts) -> Verdict:
    known(facts, lambda gpu: gpu["persistence_mode"], "persistence mode")
    found = each(facts, lambda gpu: "persistence mode is off" if not gpu["persistence_mode"] else None)
    return warn(listed(found), "on") if found else ok("on", "on")


@check(
    "gpu_pcie_width",
    title="each GPU has all lanes of its PCIe link",
    why="With half the lanes weights load at half the speed, and offloaded layers and GPUs without NVLink crawl.",
    fix="power off, reseat the GPU or its riser; lspci -vv shows LnkSta",
    source="PCI Express Base Specification, Link Status; gpud, component pci",
    when=_ALWAYS,
)
def pcie_width(facts: Facts) -> Verdict:
    widths = known(facts, lambda gpu: gpu["pcie"]["width"] and gpu["pcie"]["max_width"], "the lanes of their link")
    found = each(
        facts,
        lambda gpu: (
            "x%d of x%d" % (gpu["pcie"]["width"], gpu["pcie"]["max_width"])
            if gpu["pcie"]["width"] < gpu["pcie"]["max_width"]
            else None
        ),
    )
    return fail(listed(found), "all lanes") if found else ok("x%d" % min(widths), "all lanes")


@check(
    "gpu_pcie_generation",
    title="each GPU's PCIe link can run at the GPU's own speed",
    why="A slot, riser or setting of the firmware that allows less halves the speed of every copy.",
    fix="set the slot's link speed to auto in the machine's firmware; another slot or riser",
    source="nvidia-smi -q, GPU Link Info (an idle GPU lowers its current generation, so that the highest is compared)",
    when=("prepare",),
)
def pcie_generation(facts: Facts) -> Verdict:
    known(facts, lambda gpu: gpu["pcie"]["max_gen"] and gpu["pcie"]["device_gen"], "what their link and they could do")
    found = each(
        facts,
        lambda gpu: (
            "generation %d at most, the GPU could do %d" % (gpu["pcie"]["max_gen"], gpu["pcie"]["device_gen"])
            if gpu["pcie"]["max_gen"] < gpu["pcie"]["device_gen"]
            else None
        ),
    )
    top = min(gpu["pcie"]["max_gen"] for gpu in gpus(facts))
    return warn(listed(found), "the GPU's") if found else ok("generation %d" % top, "the GPU's")


@check(
    "gpu_pcie_replays",
    title="hardly any data is sent twice over PCIe",
    why="Replays are errors on the link: a riser, a cable or a slot that goes bad.",
    fix="power off, reseat the GPU or its riser; another cable",
    source=_NVML + ", nvmlDeviceGetPcieReplayCounter; DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
    when=("prepare",),
)
def pcie_replays(facts: Facts) -> Verdict:
    values = known(facts, lambda gpu: gpu["pcie"]["replays"], "replays")
    found = each(facts, lambda gpu: "%d replays" % gpu["pcie"]["replays"] if gpu["pcie"]["replays"] > 1000 else None)
    return warn(listed(found), "at most 1000") if found else ok("at most %d" % max(values), "at most 1000")


@check(
    "gpu_nvlink",
    title="all NVLink links are up",
    why="Tensor parallelism waits for the slowest link; without NVLink it goes over PCIe, ten times slower.",
    fix="nvidia-smi nvlink --status; nvidia-smi nvlink --errorcounters; then fabric manager, bridges, baseboard",
    source=_AZURE + " (18 on H100); checks/thresholds.py",
    when=_ALWAYS,
)
def nvlink(facts: Facts) -> Verdict:
    links = known(facts, lambda gpu: gpu["nvlinks"], "their NVLink links")
    down = each(facts, lambda gpu: "%d links are down" % gpu["nvlinks_down"] if gpu["nvlinks_down"] else None)
    if down and any(links):
        return fail(listed(down), "none down")
    if not any(links):
        if facts["gpus"]["nvswitch"]["present"] and len(links) > 1:
            return fail("the machine has NVSwitches, and no link is up", "all links up")
        raise Skip("these GPUs are not linked by NVLink")
    wanted = max([normal(gpu["name"]).nvlinks or 0 for gpu in gpus(facts)] + [max(links)])
    few = each(facts, lambda gpu: "%d of %d links" % (gpu["nvlinks"], wanted) if gpu["nvlinks"] < wanted else None)
    return fail(listed(few), "%d on each" % wanted) if few else ok("%d on each" % min(links), "%d on each" % wanted)


@check(
    "gpu_fabric",
    title="the NVLink fabric is complete and healthy",
    why="Until the fabric manager has set up the NVSwitches every CUDA program fails with error 802; "
    "nvidia-smi looks fine.",
    fix="systemctl restart nvidia-fabricmanager; tail /var/log/fabricmanager.log",
    source=_NVML + ", nvmlGpuFabricInfo_v3_t (state, status, healthMask); pytorch#35710, gpustack#4154",
    when=_ALWAYS,
)
def fabric(facts: Facts) -> Verdict:
    gpus(facts)
    found = facts["gpus"]["fabric"]
    if found["ready"] is None:
        raise Skip("these GPUs are on no NVLink fabric")
    said = ", ".join(filter(None, (found["state"], found["status"], found["health"])))
    problem = fabric_problem(facts["gpus"])
    if problem:
        return fail(problem.msg.partition(": ")[2], "Completed, Success", problem.hint)
    problems = each(facts, lambda gpu: ", ".join(gpu["fabric"]["health_problems"]) or None)
    return warn(listed(problems), "no problem") if problems else ok(said, "Completed, Success")


@check(
    "gpu_mig",
    title="no GPU is cut into MIG instances",
    why="A program sees one instance, with its share of the memory; tensor parallelism over instances does not work.",
    fix="nvidia-smi -mig 0; nvidia-smi --gpu-reset",
    source="docs.nvidia.com/datacenter/tesla/mig-user-guide",
    when=_ALWAYS,
)
def mig(facts: Facts) -> Verdict:
    known(facts, lambda gpu: gpu["mig"]["mode"], "a MIG mode")
    found = each(facts, lambda gpu: "MIG is on" if gpu["mig"]["mode"] == "Enabled" else None)
    if found:
        return warn(listed(found), "off", "nvidia-smi -i %s -mig 0" % ",".join(map(str, sorted(found))))
    return ok("off", "off")


@check(
    "gpu_compute_mode",
    title="several processes may use each GPU",
    why="In exclusive mode the second process of an engine fails; prohibited, the first one does, too.",
    fix="nvidia-smi --compute-mode=DEFAULT",
    source="nvidia-smi(1), compute modes",
    when=_ALWAYS,
)
def compute_mode(facts: Facts) -> Verdict:
    known(facts, lambda gpu: gpu["compute_mode"], "a compute mode")
    found = each(facts, lambda gpu: gpu["compute_mode"] if gpu["compute_mode"] != "Default" else None)
    if found:
        return (fail if "Prohibited" in found.values() else warn)(listed(found), "Default")
    return ok("Default", "Default")


@check(
    "gpu_foreign_processes",
    title="nobody but the deployment computes on the GPUs",
    why="Memory that others hold is missing for weights and KV cache, and their work slows every answer.",
    fix="stop it, or its service: nvidia-smi shows its pid",
    source="gpud; field reports (ollama#8667, gpustack#1126)",
    when=("up",),
)
def foreign_processes(facts: Facts) -> Verdict:
    ours = {record["user"] for record in facts["deployments"]["records"]}
    # A container may see its own processes under pids of the host, which tell no user.
    if facts["host"]["container"]:
        ours.add(None)

    def strangers(gpu: Dict[str, Any]) -> Optional[str]:
        found = [
            one
            for one in gpu["processes"]
            if "C" in (one["type"] or "C") and one.get("user") not in ours and not _is_of_the_system(one["name"] or "")
        ]
        return (
            ", ".join(
                "%s (pid %s of %s, %s)"
                % (
                    (one["name"] or "?").rpartition("/")[2],
                    one["pid"],
                    one.get("user") or "another container",
                    "memory not told" if one["used_memory_mib"] is None else "%d MiB" % one["used_memory_mib"],
                )
                for one in found
            )
            or None
        )

    found = each(facts, strangers)
    return warn(listed(found), "none") if found else ok("none", "none")


def _is_of_the_system(name: str) -> bool:
    """What shows up as a process of every GPU and serves them all."""
    return name.rpartition("/")[2].split(" ")[0] in (
        "nvidia-cuda-mps-server",
        "dcgm",
        "nv-hostengine",
        "dcgmproftester",
    )


@check(
    "gpu_memory_held",
    title="no GPU memory is held without a process",
    why="A process that died, or one of another container, holds memory: the engine does not fit, and nobody "
    "shows why.",
    fix="fuser -v /dev/nvidia*; end what is left of an engine; else nvidia-smi --gpu-reset",
    source="nvidia-smi -q, FB Memory Usage",
    when=("prepare",),
)
def memory_held(facts: Facts) -> Verdict:
    known(facts, lambda gpu: gpu["memory_used_mib"], "used memory")
    expected = "below %d MiB" % MEMORY_HELD_MIB
    untold: List[str] = []

    def held(gpu: Dict[str, Any]) -> Optional[str]:
        mine = [one["used_memory_mib"] for one in gpu["processes"]]
        if None in mine or gpu["mig"]["mode"] == "Enabled":
            untold.append(str(gpu["index"]))
            return None
        rest = gpu["memory_used_mib"] - sum(mine)
        return "%d MiB" % rest if rest >= MEMORY_HELD_MIB else None

    found = each(facts, held)
    serving = any(record["running"] for record in facts["deployments"]["records"] if record["device"] == "gpu")
    if found and (serving or facts["host"]["container"]):
        raise Skip("an engine runs whose processes are not all seen here")
    if untold and not found:
        raise Skip("GPU %s does not tell which process holds how much (MIG, a container, WSL)" % ", ".join(untold))
    return warn(listed(found), expected) if found else ok("none", expected)


@check(
    "gpu_same_model",
    title="the GPUs are of one kind",
    why="Tensor parallelism computes at the pace of the slowest, with the memory of the smallest.",
    fix="choose GPUs of one kind with CUDA_VISIBLE_DEVICES in the engine's environment",
    source="vLLM, docs/serving/parallelism_scaling.md",
    when=("prepare",),
)
def same_model(facts: Facts) -> Verdict:
    known(facts, lambda gpu: gpu["name"], "their names")
    # A GPU that shares the host's memory has none of its own to tell.
    memory = {None: "without memory of its own"}
    kinds = {
        "%s %s" % (gpu["name"], memory.get(gpu["memory_total_mib"], "%s MiB" % gpu["memory_total_mib"]))
        for gpu in gpus(facts)
    }
    said = ", ".join(sorted(kinds))
    return warn(said, "one kind") if len(kinds) > 1 else ok(said, "one kind")
