# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.module_utils import fit_report
from ansible_collections.dsdeploy.llm.plugins.module_utils.memory_fit import Request


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec=dict(
                model=dict(type="dict", required=True),
                nvidia_smi=dict(type="dict", required=True),
                engine=dict(type="str", default=""),
                catalog=dict(type="dict", default={}),
                tensor_parallel=dict(type="int", default=0),
                pipeline_parallel=dict(type="int", default=1),
                nodes=dict(type="int", default=1),
                data_parallel_attention=dict(type="int", default=1),
                context=dict(type="int", default=8192),
                sequences=dict(type="int", default=1),
                kv_bytes=dict(type="float", default=2.0),
                utilization=dict(type="float", default=0.9),
                gpu_layers=dict(type="int", default=-1),
                ram_free_mib=dict(type="int", default=-1),
                deployments=dict(type="list", elements="dict", default=[]),
                refuse=dict(type="bool", default=True),
            )
        )
        request = Request(**{name: args[name] for name in Request._fields if name in args})
        ram = None if args["ram_free_mib"] < 0 else args["ram_free_mib"]
        gpus = dict(args["nvidia_smi"], gpus=(args["nvidia_smi"].get("gpus") or []) * args["nodes"])
        # One engine at a time holds the GPUs: what runs now is stopped, or is the one that is asked for.
        users = [deployment["user"] for deployment in args["deployments"]]
        fit = fit_report.check(args["model"], gpus, request, ram, users)
        result.update(changed=False, fit=fit)
        if fit["verdict"] == "no" and args["refuse"]:
            hint = list(fit["would_fit"])
            others = fit_report.alternatives(
                args["catalog"], args["model"], args["engine"], args["nvidia_smi"], request, ram, users
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
