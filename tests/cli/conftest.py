import sys
from pathlib import Path

from cli_checkout import checkout, dsdeploy, environ

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))
import signals  # noqa: E402

__all__ = ["checkout", "dsdeploy", "environ"]
signals.hear()
