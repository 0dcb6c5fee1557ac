# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the plan share: the shipped catalog, and the engines as the roles have them."""

from pathlib import Path

import yaml
from ansible_collections.dsdeploy.llm.plugins.action.deployment_plan import cpu_version, locks
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import plan_machine, plan_offers, planning

ROOT = Path(__file__).resolve().parents[4]
FILES = ROOT / "roles/model/defaults/main"
CATALOG = dict(
    yaml.safe_load((FILES / "catalog_others.yml").read_text())["_model_catalog_others"],
    **yaml.safe_load((FILES / "catalog.yml").read_text())["model_catalog"],
)
ROLES = {"vllm": "vllm_venv", "sglang": "sglang", "llama_cpp": "llama_cpp", "ollama": "ollama"}
SEED = str(ROOT / "tests/unit/fixtures/nvidia_smi/h800-x8-driver550/nvidia-smi.txt")


def engine(name, **settings):
    built = locks(ROLES[name])
    version, cuda = built[-1] if built else ("0.24.0" if name == "ollama" else "", "")
    return plan_offers.Engine(name, version, cuda, built, 5 * 10**9, cpu_version(ROLES[name]), settings)


ENGINES = [engine(name) for name in sorted(ROLES)]


def plan(machine, model="", users=1, context=0, profile="", wish=None, engines=None, host=None, catalog=None):
    """The plan; ``machine`` is a `Machine`, or what ``--gpus`` is given."""
    machine = plan_machine.of_gpus(machine) if isinstance(machine, str) else machine
    return planning.build(
        machine,
        planning.check_ask(users, context, profile),
        catalog or CATALOG,
        engines or ENGINES,
        ROLES,
        wish or planning.Wish("vllm", model or "smollm2-135m-instruct", bool(model)),
        host or planning.Host(),
    )


def row(found, model, engine_name):
    (one,) = [one for one in found["rows"] if (one["model"], one["engine"]) == (model, engine_name)]
    return one
