"""Read by every Python that is started through the interpreter beside it."""

import time

_now = time.time
time.time = lambda: _now() - 300
