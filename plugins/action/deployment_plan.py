# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""deployment_plan: reads what the roles say of their engines, and asks planning.py."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.parameters import version_key
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import plan_machine, plan_offers, plan_text, planning

ROLES = Path(__file__).resolve().parents[2] / "roles"
_CUDA = re.compile(r"nvidia-cuda-runtime(?:-cu[0-9]+)?==([0-9]+[.][0-9]+)")
# Variables of an engine that its plan depends on, without the role's prefix. No secret is among them.
_SETTINGS = (
    "version", "host", "context", "parallel", "gpu_layers", "keep_alive", "kv_cache_type", "kv_cache_dtype", "dtype",
    "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "gpu_memory_utilization",
    "enable_expert_parallel", "expert_parallel_size", "hf_overrides", "json_model_override_args",
    "speculative_algorithm", "speculative_draft_model_path",
    "mem_fraction_static", "enforce_eager", "disable_cuda_graph", "extra_args", "environment", "parameters",
    "firewall_networks", "max_model_len", "context_length", "max_num_seqs", "max_running_requests", "cpu_kv_cache_gib",
)  # fmt: skip


# What some of them must be: `up` checks each of them in the engine's preflight, which a plan does not run.
_KINDS = dict.fromkeys(("environment", "parameters"), "a mapping")
_KINDS["extra_args"] = "a list"
_KINDS.update(
    dict.fromkeys(
        ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "expert_parallel_size"),
        "a whole number",
    )
)


def check_kind(variable, value, kind):
    """Failure (usage), one line, for a setting that is of another kind; what is empty is not set."""
    if value in (None, "", [], {}):
        return
    good = {
        "a mapping": isinstance(value, dict),
        "a list": isinstance(value, list),
        "a whole number": not isinstance(value, bool) and re.match(r"\d{1,6}\Z", str(value)) is not None,
    }[kind]
    if not good:
        raise Failure("%s is %s, not %s" % (variable, repr(value)[:60], kind), error_kind="usage")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Of a role's own files: what is marked !unsafe is text."""


_Loader.add_constructor(
    "!unsafe", lambda loader, node: loader.construct_object(yaml.ScalarNode("tag:yaml.org,2002:str", node.value))
)


def of_role(role, folder):
    """Literal values of a role's `defaults` or `vars`; those that are templates are left out."""
    found = {}
    for path in sorted((ROLES / role / folder).glob("**/*.yml")):
        for name, value in (yaml.load(path.read_bytes(), Loader=_Loader) or {}).items():
            if not (isinstance(value, str) and "{{" in value):
                found[name] = value
    return found


def cpu_version(role):
    """The newest version that a role has a lock of for hosts without a GPU; empty where it has none."""
    names = [path.name[: -len("-cpu.lock")] for path in (ROLES / role / "files" / "locks").glob("*-cpu.lock")]
    return max(names, key=version_key, default="")


def locks(role):
    """``((version, CUDA), …)`` of the locks for GPUs that a role brings, the oldest first."""
    found = []
    for path in (ROLES / role / "files" / "locks").glob("*-cuda.lock"):
        cuda = _CUDA.search(path.read_text(encoding="utf-8"))
        if cuda:
            found.append((path.name[: -len("-cuda.lock")], cuda.group(1)))
    return tuple(sorted(found, key=lambda one: version_key(one[0])))


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec=dict(
                model=dict(type="str", required=True),
                model_entry=dict(type="dict", default={}),
                embedded=dict(type="str", default=""),
                engine=dict(type="str", required=True),
                engines=dict(type="dict", required=True),
                catalog=dict(type="dict", required=True),
                gpus=dict(type="str"),
                facts_file=dict(type="path"),
                facts=dict(type="dict", default={}),
                deployments=dict(type="list", elements="dict", default=[]),
                store=dict(type="dict", default={}),
                users=dict(type="int", default=1),
                context=dict(type="int", default=0),
                profile=dict(type="str", default=""),
                download_mb_s=dict(type="float", default=100.0),
                merge=dict(type="str", default="copy"),
                gang=dict(type="list", elements="str", default=[]),
                gang_hosts=dict(type="list", elements="str", default=[]),
                explain=dict(type="bool", default=False),
            ),
            mutually_exclusive=[("gpus", "facts_file")],
        )
        try:
            return dict(result, **self._plan(args, task_vars))
        except Failure as failure:
            return dict(result, failed=True, **failure.fields())

    def _plan(self, args, task_vars):
        ask = planning.check_ask(args["users"], args["context"], args["profile"])
        if not args["download_mb_s"] > 0:
            raise Failure("download_mb_s must be above 0, not %g" % args["download_mb_s"], error_kind="usage")
        machine = self._machine(args, task_vars)
        engines = [self._engine(name, entry["role"], task_vars) for name, entry in sorted(args["engines"].items())]
        catalog = dict(args["catalog"])
        wish = planning.Wish(args["engine"], args["model"], args["model"] != args["embedded"])
        stored = {one["name"]: one["bytes"] for one in args["store"].get("models") or [] if one.get("complete")}
        if args["model_entry"]:
            entry = dict(args["model_entry"])
            if not entry.get("architecture"):
                raise Failure(
                    "model %s: neither a config.json nor a GGUF header of it could be read" % args["model"],
                    hint="See the warnings above; a path must be one of this machine where no host is planned.",
                    error_kind="preflight",
                )
            formats = {name: one.get("formats") or [] for name, one in args["engines"].items()}
            entry["engines"] = [name for name, kinds in formats.items() if entry.get("format") in kinds]
            name = entry.pop("name")
            # By its own name it could be another one, of the catalog or of another owner.
            stored = {name: stored[entry["place"]]} if entry.get("place") in stored else {}
            catalog[name] = {key: value for key, value in entry.items() if key not in ("place", "path")}
            wish = wish._replace(model=name, given=args["model"])
        roles = {name: entry["role"] for name, entry in args["engines"].items()}
        looked = args["gpus"] is None and args["facts_file"] is None
        host = planning.Host(looked, tuple(args["deployments"]), stored, (args["store"].get("disk") or {}).get("free"))
        plan = planning.build(machine, ask, catalog, engines, roles, wish, host, args["download_mb_s"], args["merge"])
        found = {"changed": False, "plan": plan, "lines": list(plan_text.lines(plan, args["explain"]))}
        if args["gang"]:
            found["lines"] += ["", "One model over these hosts (docs/several-hosts.md):"]
            found["lines"] += ["  " + line for line in args["gang"]]
        wanted = plan["ask"]["models"]
        fits = any(row["verdict"] in ("fits", "tight", "recipe", "unknown") for row in plan["rows"])
        if wanted and machine is not None and not fits:
            held = [one["machine"] for need in plan["needs"] for one in need["machines"] if one["fits"]]
            found.update(
                failed=True,
                msg="%s does not fit: %s" % (args["model"], plan["why_none"]),
                hint="It is held by: %s." % ", ".join(held)
                if held
                else "No machine of docs/plan.md holds it as asked.",
                error_kind="preflight",
            )
        return found

    def _machine(self, args, task_vars):
        try:
            if args["gpus"] is not None:
                return None if args["gpus"].strip().lower() == "any" else plan_machine.of_gpus(args["gpus"])
            if args["facts_file"] is not None:
                return plan_machine.read(args["facts_file"])
        except ValueError as error:
            raise Failure(str(error), hint="docs/plan.md says what it takes.", error_kind="usage") from None
        users = tuple(sorted({one.get("user") or "" for one in args["deployments"]} - {""}))
        try:
            machine = plan_machine.of_facts(args["facts"], task_vars["inventory_hostname"], users)
            return self._together(machine, args["gang_hosts"], task_vars)
        except ValueError as error:
            raise Failure(str(error), hint="`dsdeploy doctor` looks for the cause.", error_kind="preflight") from None

    @staticmethod
    def _together(machine, hosts, task_vars):
        """The machine with the others that serve a model with it, each with what it has free itself."""
        gang = [(host, (task_vars["hostvars"][host].get("ansible_facts") or {}).get("nvidia_smi")) for host in hosts]
        if len(gang) < 2 or not all(smi for _host, smi in gang):
            return machine
        return machine._replace(hosts=len(gang), gang=tuple(gang))

    def _engine(self, name, role, task_vars):
        """The engine as the inventory and the role have it."""
        defaults, own = of_role(role, "defaults"), of_role(role, "vars")
        settings = {}
        for key in _SETTINGS:
            variable = "%s_%s" % (role, key)
            if variable in task_vars:
                settings[key] = self._templar.template(task_vars[variable])
            elif variable in defaults:
                settings[key] = defaults[variable]
        for key, kind in _KINDS.items():
            check_kind("%s_%s" % (role, key), settings.get(key), kind)
        settings["has_api_key"] = bool(task_vars.get("dsdeploy_api_key") or task_vars.get("%s_api_key" % role))
        built = locks(role)
        version = str(settings.get("version") or (built[-1][0] if built else ""))
        disk = own.get("_%s_disk" % role)
        if isinstance(disk, dict):
            disk = disk.get("cuda") or max([one for one in disk.values() if isinstance(one, int)] or [0])
        return plan_offers.Engine(
            name, version, dict(built).get(version, ""), built, disk or 0, cpu_version(role), settings
        )
