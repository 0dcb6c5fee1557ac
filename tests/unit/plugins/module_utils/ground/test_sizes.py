# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib


def test_bytes_for_people():
    found = [mib(number) for number in (0, 1024**2, 1024**3 - 1, 1024**3, 404430187616)]
    assert found == ["0.0 MiB", "1.0 MiB", "1024.0 MiB", "1.0 GiB", "376.7 GiB"]
