import sys
from pathlib import Path

_ROOT = Path(__file__).parents[3]
sys.path += [str(_ROOT / part) for part in ("molecule", "tests/standins", ".collections")]

from _gateway import key  # noqa: E402, F401
