# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of GPUs, and what people write to name some."""

import re
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.facts import capability_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi_xml import parse_xml
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import gpu_products as products

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "nvidia_smi"


@pytest.mark.parametrize(
    ("text", "hosts", "names"),
    [
        ("8xH800-80GB", 1, ["H800-80GB"] * 8),
        ("8xh800", 1, ["H800-80GB"] * 8),
        ("8×H800", 1, ["H800-80GB"] * 8),
        ("8 x NVIDIA H100 80GB", 1, ["H100-80GB"] * 8),
        ("2x8xH100", 2, ["H100-80GB"] * 8),
        ("rtx 4090", 1, ["RTX4090-24GB"]),
        ("1xRTX-4090-24GB", 1, ["RTX4090-24GB"]),
        ("4xL40S,2xA40", 1, ["L40S-48GB"] * 4 + ["A40-48GB"] * 2),
        ("A100-40GB", 1, ["A100-40GB"]),
    ],
)
def test_what_names_gpus(text, hosts, names):
    found = products.machines(text)
    assert (found[0], [one.name for one in found[1]]) == (hosts, names)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0xH100", "no GPU at all"),
        ("8xH10O", "did you mean H100-80GB?"),
        ("8xH1000", "H1000 is not in the table of GPUs; did you mean H100-80GB?"),
        ("8x80GB", "is a size, not a GPU: say which, such as A100-80GB, A800-80GB, H100-80GB, H800-80GB"),
        ("8x17GB", "is a size, not a GPU: known: "),
        ("8xA100", "A100 is sold as A100-40GB and A100-80GB: say which"),
        ("8xH800-96GB", "there is no H800-96GB: it is sold as H800-80GB"),
        ("8xＨ100", "names no GPUs"),
        ("٨xH100", "names no GPUs"),
        ("", "names no GPUs"),
        ("8x", "names no GPUs"),
        ("8xH100,", "names no GPUs"),
        ("-8xH100", "is not in the table of GPUs"),
        ("8xH100,2x8xH100", "hosts of different kinds"),
        ("400xH100", "no host has more than 16 GPUs"),
        ("999999999999999999999xH100", "no host has more than 16 GPUs"),
        ("900x8xH100", "at most 64 hosts"),
        ("H100;rm -rf /", "is not in the table of GPUs"),
        ("8xMI300X", "is not in the table of GPUs"),
    ],
)
def test_what_names_none(text, said):
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        products.machines(text)
    assert "\n" not in str(caught.value)


def test_every_product_is_itself():
    for one in products.PRODUCTS:
        assert products.find(one.name) is one
        assert products.find(f"NVIDIA {one.name.replace('-', ' ')}") is one
        # Two tables of this collection say what a product's compute capability is.
        known = capability_of(one.name.replace("RTX", "RTX ").replace("-", " "), None)
        assert known in (one.capability, None), one.name
        assert 0.86 < one.memory_mib * 1024**2 / (one.gb * 1e9) < 1.09
        assert set(one.unverified) <= set(one._fields)
    assert len({one.name for one in products.PRODUCTS}) == len(products.PRODUCTS)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("h100-x1-driver580", "H100-80GB"),
        ("h800-x8-driver550", "H800-80GB"),
        ("h200-x2", "H200-141GB"),
        ("v100-driver470", "V100-32GB"),
    ],
)
def test_real_outputs_are_as_the_table(folder, name):
    """Of the memory, and of what the driver keeps of it."""
    gpus = parse_xml((FIXTURES / folder / "nvidia-smi-q-x.xml").read_text())["gpus"]
    assert gpus
    for gpu in gpus:
        product = products.find(gpu["name"])
        assert product.name == name
        assert gpu["memory_total_mib"] == product.memory_mib
        if product.reserved_mib is not None and gpu["memory_reserved_mib"]:
            assert abs(gpu["memory_reserved_mib"] - product.reserved_mib) <= 80


def test_what_a_product_computes_with():
    found = {one.name: (one.fp8, one.fp4) for one in products.PRODUCTS}
    assert found["A100-80GB"] == (False, False)
    assert found["RTX4090-24GB"] == found["H800-80GB"] == (True, False)
    assert found["B200-180GB"] == (True, True)


def test_facts_of_products_say_nothing_of_a_driver():
    facts = products.facts_of(products.machines("2xH800")[1])
    assert facts["driver_version"] is None and facts["cuda_version"] is None
    assert [gpu["index"] for gpu in facts["gpus"]] == [0, 1]
