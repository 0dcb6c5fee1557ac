import sys
from pathlib import Path

_ROOT = Path(__file__).parents[3]
sys.path += [str(_ROOT / part) for part in ("molecule", "tests/standins", ".collections")]
