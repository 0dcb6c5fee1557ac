import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "cli"))
from cli_checkout import checkout, dsdeploy, environ  # noqa: E402

__all__ = ["checkout", "dsdeploy", "environ"]
