import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[3] / "tests/standins")]

from _gateway import key  # noqa: E402, F401
