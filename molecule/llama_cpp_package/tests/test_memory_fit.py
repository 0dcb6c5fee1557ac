"""The memory fit of the served model against what llama-server itself prints of it."""

import re
import sys
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
sys.path.insert(0, str(CHECKOUT / ".collections"))
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import MIB, Request  # noqa: E402
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import fit_report  # noqa: E402

NAME = "smollm2-135m-instruct"
# It runs until it has said how large its buffers are.
RUN = (
    "log=$(mktemp); timeout 60 llama-server --model %s --ctx-size %s --parallel 1 --threads 1 --host 127.0.0.1"
    " --port 18080 --log-verbosity 4 >$log 2>&1 &"
    " until grep -q 'compute buffer size' $log || ! kill -0 $!; do sleep 0.1; done; kill $!; cat $log"
)


@pytest.mark.parametrize("context", [2048, 4096, 8192])
def test_within_five_percent(host, context):
    with host.sudo():
        model = host.check_output("ls /var/lib/dsdeploy/models/%s/*/*.gguf", NAME)
        said = host.check_output(RUN, model, str(context))
    # Newer servers print the mapped file part by part, parts of it twice: the largest is the whole.
    printed = dict.fromkeys(("model", "KV", "compute"), 0.0)
    for what, mib in re.findall(r"(model|KV|compute) buffer size = +([0-9.]+) MiB", said):
        printed[what] = max(printed[what], float(mib))
    catalog = (CHECKOUT / "roles/model/defaults/main/catalog.yml").read_text(encoding="utf-8")
    entry = yaml.safe_load(catalog.replace("{{ dsdeploy_data_dir }}", "/"))["model_catalog"][NAME]
    cpu = fit_report.check(dict(entry, name=NAME), {"gpus": []}, Request(context=context))["devices"][-1]
    ours = {"model": cpu["weights"], "KV": cpu["kv"], "compute": cpu["compute"]}
    assert {what: size["value"] / MIB for what, size in ours.items()} == pytest.approx(printed, rel=0.05)
    assert cpu["total"]["value"] / MIB == pytest.approx(sum(printed.values()), rel=0.05)
