# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outputs are real ones (CMake 3.25.1, Ninja 1.11.1, gcc 12.2, nvcc 13.0), shortened; others name their source."""

import signal

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import cmake

COMPILE = """\
ninja: Entering directory `/p.work/build'
[1/3] Building C object CMakeFiles/hello.dir/hello.c.o
FAILED: CMakeFiles/hello.dir/hello.c.o
/usr/bin/cc    -MD -MT CMakeFiles/hello.dir/hello.c.o -o CMakeFiles/hello.dir/hello.c.o -c /s/hello.c
/s/hello.c: In function 'main':
/s/hello.c:1:25: error: 'undeclared' undeclared (first use in this function)
    1 | int main(void) { return undeclared; }
      |                         ^~~~~~~~~~
/s/hello.c:2:1: error: expected ';'
[2/3] Building C object CMakeFiles/hello.dir/error.c.o
ninja: build stopped: subcommand failed.
"""
LINK = """\
[2/2] Linking C executable bin/hello
FAILED: bin/hello
: && /usr/bin/cc   CMakeFiles/hello.dir/hello.c.o -o bin/hello   && :
/usr/bin/ld: CMakeFiles/hello.dir/hello.c.o: in function `main':
hello.c:(.text+0x5): undefined reference to `f'
collect2: error: ld returned 1 exit status
ninja: build stopped: subcommand failed.
"""
MESSAGE = """\
-- Detecting C compile features - done
CMake Error at CMakeLists.txt:3 (message):
  this project
  needs a moon

  and a star


-- Configuring incomplete, errors occurred!
"""
PACKAGE = """\
CMake Error at /usr/share/cmake-3.25/Modules/FindPackageHandleStandardArgs.cmake:230 (message):
  Could NOT find OpenSSL, try to set the path to OpenSSL root folder in the
  system variable OPENSSL_ROOT_DIR (missing: OPENSSL_CRYPTO_LIBRARY
  OPENSSL_INCLUDE_DIR)
Call Stack (most recent call first):
  CMakeLists.txt:3 (find_package)


-- Configuring incomplete, errors occurred!
"""
ARCHITECTURE = """\
-- Check for working CUDA compiler: /usr/local/cuda/bin/nvcc - broken
CMake Error at /usr/share/cmake-3.25/Modules/CMakeTestCUDACompiler.cmake:103 (message):
  The CUDA compiler

    "/usr/local/cuda/bin/nvcc"

  is not able to compile a simple test program.

  It fails with the following output:

    FAILED: CMakeFiles/cmTC_eb3d1.dir/main.cu.o
    /usr/local/cuda/bin/nvcc --generate-code=arch=compute_35,code=[compute_35,sm_35] -c main.cu
    nvcc fatal   : Unsupported gpu architecture 'compute_35'
    ninja: build stopped: subcommand failed.


  CMake will not be able to correctly generate this project.
Call Stack (most recent call first):
  CMakeLists.txt:2 (project)


-- Configuring incomplete, errors occurred!
"""
VERSION = """\
CMake Error at CMakeLists.txt:1 (cmake_minimum_required):
  CMake 9.14 or higher is required.  You are running version 3.25.1


-- Configuring incomplete, errors occurred!
"""
# crt/host_config.h of CUDA 13.0; the frame is gcc's.
HOST_COMPILER = """\
In file included from /usr/local/cuda/include/cuda_runtime.h:82:
/usr/local/cuda/include/crt/host_config.h:137:2: error: #error -- unsupported GNU version! gcc versions later than 15 \
are not supported!
  137 | #error -- unsupported GNU version! gcc versions later than 15 are not supported!
"""
# gcc.gnu.org, "Killed signal terminated program": what the driver prints when the kernel kills cc1plus.
KILLED = """\
[13/345] Building CXX object src/CMakeFiles/llama.dir/llama-model.cpp.o
FAILED: src/CMakeFiles/llama.dir/llama-model.cpp.o
/usr/bin/c++ -O3 -c llama-model.cpp
c++: fatal error: Killed signal terminated program cc1plus
compilation terminated.
"""
# A compiler complains of many things when the disk is full; the first line of it is no cause.
DISK = """\
FAILED: a.o
/s/a.c:1:1: fatal error: error writing to /tmp/ccQ.s: No space left on device
compilation terminated.
"""
NOTHING = "[1/2] Building C object error.c.o\n-- Looking for error codes\n"


def output(text):
    found = cmake.Output()
    for line in text.splitlines(keepends=True):
        found.feed(line)
    return found


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        (COMPILE, "/s/hello.c:1:25: error: 'undeclared' undeclared (first use in this function)", ""),
        (LINK, "hello.c:(.text+0x5): undefined reference to `f'", ""),
        (MESSAGE, "CMake Error at CMakeLists.txt:3 (message): this project needs a moon", ""),
        (
            PACKAGE,
            "CMake Error at /usr/share/cmake-3.25/Modules/FindPackageHandleStandardArgs.cmake:230 (message): Could NOT "
            "find OpenSSL, try to set the path to OpenSSL root folder in the system variable OPENSSL_ROOT_DIR "
            "(missing: OPENSSL_CRYPTO_LIBRARY OPENSSL_INCLUDE_DIR)",
            "A library that the build needs is missing",
        ),
        (ARCHITECTURE, "nvcc fatal   : Unsupported gpu architecture 'compute_35'", "does not know this GPU"),
        (
            VERSION,
            "CMake Error at CMakeLists.txt:1 (cmake_minimum_required): CMake 9.14 or higher is required.  You are "
            "running version 3.25.1",
            "This CMake is too old",
        ),
        (HOST_COMPILER, "host_config.h:137:2: error: #error -- unsupported GNU version!", "CMAKE_CUDA_HOST_COMPILER"),
        (KILLED, "c++: fatal error: Killed signal terminated program cc1plus", "run fewer jobs at once (now 8)"),
        (DISK, "error writing to /tmp/ccQ.s: No space left on device", "file system of /opt"),
        (NOTHING, "", ""),
        (COMPILE + DISK, "No space left on device", "file system of /opt"),
    ],
)
def test_first_error_and_hint(text, error, hint):
    found = output(text)
    if error:
        assert error in found.first_error()
    else:
        assert found.first_error() == ""
    assert (hint in found.hint("/opt", 8)) if hint else (found.hint("/opt", 8) == "")


def test_only_what_a_step_prints_about_itself_is_left():
    assert output("FAILED: a.o\nsh: 1: exec failed\n").first_error() == "FAILED: a.o"
    assert output("ninja: error: loading 'build.ninja'\n").first_error() == "ninja: error: loading 'build.ninja'"


def test_tail_is_short():
    found = output("".join(f"[{number}/99] Building\n\n" for number in range(99)) + "x" * 9000)
    assert len(found.tail()) == cmake.TAIL_LINES
    assert found.tail()[0] == "[70/99] Building"
    assert found.tail()[-1] == "x" * cmake.LONGEST_LINE


def test_commands():
    configure = cmake.configure_argv("/usr/bin/cmake", "/s", "/p.work/build", ["-DA=1;2"])
    assert configure == [
        *("/usr/bin/cmake", "-G", "Ninja", "-S", "/s", "-B", "/p.work/build"),
        *("-DCMAKE_RUNTIME_OUTPUT_DIRECTORY=/p.work/build/bin", "-DA=1;2"),
    ]
    assert cmake.build_argv("ninja", "/b", 3, ["x", "y"]) == ["ninja", "-C", "/b", "-j", "3", "x", "y"]


def test_targets():
    listing = "edit_cache: phony\nhello: phony\nbin/hello: C_EXECUTABLE_LINKER__hello_Release\nall: phony\n"
    assert cmake.known_targets(listing, ["hello", "bench"]) == (["hello"], ["bench"])


@pytest.mark.parametrize(
    ("line", "steps"),
    [
        ("[12/345] Building CXX object x.o\n", (12, 345)),
        ("[345/345] Linking\n", (345, 345)),
        ("[12/345]", None),
        ("see [1/2] there", None),
        ("[100%] Built target x", None),
    ],
)
def test_progress(line, steps):
    assert cmake.progress(line) == steps


def test_shallowest():
    assert cmake.shallowest(["a/b/C", "a/C", "b/C", "a/b/c/C"]) == ["a/C", "b/C"]
    assert cmake.shallowest([]) == []


def test_how_it_ended():
    assert cmake.how_it_ended(2) == "exit status 2"
    assert cmake.how_it_ended(-9) == "killed by SIGKILL"
    assert cmake.how_it_ended(-200) == "killed by signal 200"


def test_start_hint():
    missing = "llama-server: error while loading shared libraries: libgomp.so.1: cannot open shared object file"
    assert cmake.start_hint(127, missing) == "Install the package that holds libgomp.so.1."
    newer = "./x: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by ./x)"
    assert "newer system" in cmake.start_hint(1, newer)
    assert "instruction set" in cmake.start_hint(-signal.SIGILL, "")
    assert cmake.start_hint(1, "no") == ""
