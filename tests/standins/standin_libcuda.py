#!/usr/bin/env python3
"""Stand-in for the driver's libcuda.so.1 of a machine with two GPUs. Usage: standin_libcuda.py FILE. Needs tcc."""

import struct
import subprocess
import sys
from pathlib import Path

SOURCE = "int cuInit(int f) { return 0; }\nint cuDeviceGetCount(int *n) { *n = 2; return 0; }\n"
PT_GNU_STACK, READ_WRITE = 0x6474E551, 6

library = Path(sys.argv[1])
source = library.with_suffix(".c")
source.write_text(SOURCE)
subprocess.run(["tcc", "-shared", "-nostdlib", "-o", library, source], check=True)
source.unlink()
# tcc does not say that the stack need not be executable, and a library that wants that is refused. ELF64, little
# endian: the table of program headers goes to the end of the file, with one more.
data = bytearray(library.read_bytes())
offset, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
headers = bytes(data[offset : offset + 56 * count]) + struct.pack(
    "<IIQQQQQQ", PT_GNU_STACK, READ_WRITE, 0, 0, 0, 0, 0, 16
)
data += bytes(-len(data) % 8)
struct.pack_into("<Q", data, 32, len(data))
struct.pack_into("<H", data, 56, count + 1)
library.write_bytes(data + headers)
