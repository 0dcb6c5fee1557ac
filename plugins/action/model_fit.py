# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import own_context
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import GIB, Request
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import total_bytes
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.others import making_room
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import fit_report, gangs, llama_cpp, mistakes
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.arguments import checked
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.plan_offers import (
    DEFAULT_CONTEXT,
    DRAFT_APART,
    LAYERED,
    numbers_of,
    own_way,
)
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.vllm_graphs import vllm_graphs


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        spec = dict(
            model=dict(type="dict", required=True),
            nvidia_smi=dict(type="dict", required=True),
            engine=dict(type="str", default=""),
            catalog=dict(type="dict", default={}),
            tensor_parallel=dict(type="int", default=0),
            pipeline_parallel=dict(type="int", default=1),
            data_parallel=dict(type="int", default=1),
            expert_parallel=dict(type="int", default=1),
            batch=dict(type="int", default=2048),
            nodes=dict(type="int", default=1),
            gang=dict(type="str", default=""),
            data_parallel_attention=dict(type="int", default=1),
            context=dict(type="int", default=0),
            sequences=dict(type="int", default=1),
            kv_bytes=dict(type="float"),
            utilization=dict(type="float"),
            gpu_layers=dict(type="int", default=-1),
            kv_space_gib=dict(type="int", default=0),
            device=dict(type="str", choices=["cpu", "gpu"], default="gpu"),
            memory=dict(type="dict", default={}),
            user=dict(type="str", default=""),
            deployments=dict(type="list", elements="dict", default=[]),
            mirrors=dict(type="dict"),
            source_order=dict(type="list", elements="str", default=[]),
            settings=dict(type="dict", default={}),
            version=dict(type="str", default=""),
            refuse=dict(type="bool", default=True),
        )
        args = checked(self, spec, tables=("catalog",))
        args["context"] = self._context(args)
        args["model"] = own_context.entry_for(args["model"], args["engine"], args["settings"])
        request = Request(**{name: args[name] for name in Request._fields if args.get(name) is not None})
        if args["engine"] in ("vllm", "sglang") and args["kv_bytes"] is None:
            request = request._replace(**numbers_of(args["engine"], args["model"], args["settings"], args["version"]))
        if args["engine"] == "llama_cpp" and args["kv_bytes"] is None:
            request = request._replace(kv_bytes=llama_cpp.kv_bytes(args["settings"]))
        if args["engine"] == "llama_cpp":
            request = request._replace(draft_apart=llama_cpp.drafts(args["settings"]))
        if args["engine"] == "ollama" and args["kv_bytes"] is None:
            kind = str(args["settings"].get("kv_cache_type"))
            request = request._replace(kv_bytes=llama_cpp.CACHE_TYPES.get(kind, request.kv_bytes))
        request = request._replace(
            **own_way(args["engine"], args["utilization"] is not None, args["settings"]),
            kv_space=args["kv_space_gib"] * GIB,
            layer_groups=args["engine"] == "vllm",
            graphs=vllm_graphs(args["version"], args["settings"]) if args["engine"] == "vllm" else None,
        )
        # What is stopped for it gives its memory back, and so does the engine itself, which is started anew.
        users = [deployment["user"] for deployment in args["deployments"]] + [args["user"]]
        try:
            gang = self._gang(args, task_vars) if args["nodes"] > 1 else ()
        except Failure as failure:
            return dict(result, failed=True, **failure.fields())
        users += [one.get("user") or "" for _host, _smi, records in gang for one in records]
        hosts = [(host, nvidia_smi) for host, nvidia_smi, _records in gang]
        where = (args["memory"], users, args["device"] == "cpu", args["nodes"], hosts)
        fit = fit_report.check(args["model"], args["nvidia_smi"], request, *where)
        if request.draft_apart:
            fit = dict(fit, notes=[*fit["notes"], DRAFT_APART])
        result.update(changed=False, fit=dict(fit, context=request.context))
        costly = self._costly(args, request, where)
        warnings = ["%s. Better: %s" % (one["what"], one["fix"]) for one in costly]
        warnings += fit_report.tight(args["model"], fit)
        if warnings:
            result["warnings"] = warnings
        if fit["verdict"] == "no" and args["refuse"]:
            hint = list(fit["would_fit"])
            others = fit_report.alternatives(
                fit_report.offered(args["catalog"], args["mirrors"], args["source_order"]),
                args["model"],
                args["engine"],
                args["nvidia_smi"],
                request,
                *where,
            )
            if others:
                hint.append("models that fit here: %s" % ", ".join(others))
            result.update(
                failed=True,
                msg="; ".join(fit["problems"]),
                hint="would fit: %s" % "; ".join(hint) if hint else "",
                error_kind="preflight",
            )
        return result

    @staticmethod
    def _gang(args, task_vars):
        """``(name, fact nvidia_smi, deployments that make room)`` of each host that serves it, this one among them."""
        here, hostvars = task_vars["inventory_hostname"], task_vars["hostvars"]
        role = {"vllm": "vllm_venv"}.get(args["engine"], args["engine"])
        found = []
        for host in gangs.of_play(here, task_vars, args["gang"], role, args["nodes"]).hosts:
            facts = (hostvars[host].get("ansible_facts") or {}) if host != here else {}
            # One whose facts are missing is refused, or has been, where the hosts are compared.
            smi = facts.get("nvidia_smi") or args["nvidia_smi"]
            records = facts.get("dsdeploy_deployments") or []
            stops = task_vars.get("dsdeploy_stop_others") or "gpu"
            found.append((host, smi, making_room(records, "", args["device"], stops)))
        return found

    @staticmethod
    def _context(args):
        """Tokens of a sequence: what is asked for, else what the engine takes of the model by itself."""
        facts, engine, settings = args["model"].get("architecture") or {}, args["engine"], args["settings"]
        own = own_context.usual(facts, engine, settings) if engine in ("vllm", "sglang") else 0
        context = args["context"] or own or DEFAULT_CONTEXT
        # SGLang refuses a longer sequence than all tokens that it is to hold when it comes.
        most = settings.get("max_total_tokens") if engine == "sglang" else None
        return min(context, int(most)) if most else context

    def _costly(self, args, request, where):
        """Settings that cost speed, or days (plugin_utils/mistakes.py)."""
        if not args["settings"] or args["device"] != "gpu":
            return []
        fitting = None
        if args["engine"] in LAYERED:
            whole = request._replace(gpu_layers=-1)
            fitting = fit_report.check(args["model"], args["nvidia_smi"], whole, *where).get("gpu_layers")
        role = {"vllm": "vllm_venv"}.get(args["engine"], args["engine"])
        return mistakes.find(role, args["settings"], total_bytes(args["model"]), fitting)
