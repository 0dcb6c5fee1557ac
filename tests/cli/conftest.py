import sys
from pathlib import Path

from cli_checkout import checkout, dsdeploy, environ

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))
__all__ = ["checkout", "dsdeploy", "environ"]
