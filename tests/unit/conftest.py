# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import sys
from pathlib import Path

from ansible.plugins.loader import init_plugin_loader
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / ".collections"), str(ROOT / "python")]
sys.path.append(str(ROOT / "tests/helpers"))
import signals  # noqa: E402

signals.hear()
# The machine may be busy: what takes long is not wrong for that.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
# Before anything of the collection is imported: role variables are templated with its filters (tests/unit/roles).
init_plugin_loader([str(ROOT / ".collections")])
