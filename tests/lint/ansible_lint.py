"""ansible-lint with its own arguments, quicker: each rule copies each task, with texts that nothing can change."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

from ansiblelint.__main__ import _run_cli_entrypoint  # noqa: E402

from dsdeploy.playbook import copy_less  # noqa: E402

if __name__ == "__main__":
    copy_less()
    _run_cli_entrypoint()
