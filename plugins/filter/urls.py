# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An address to listen on, and the URL at which its host asks it."""

from __future__ import annotations

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import urls


class FilterModule:
    def filters(self):
        return {
            "base_url": lambda host, port, tls=False: urls.base_url(str(host), port, bool(tls)),
            "host_port": lambda host, port: urls.host_port(str(host), port),
            "is_loopback": lambda host: urls.is_loopback(str(host)),
        }
