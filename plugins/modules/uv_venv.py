#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Python virtual environment made by uv from a lock file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: uv_venv
short_description: A Python virtual environment made by uv from a lock file with hashes
version_added: 1.0.0
description:
  - Makes a virtual environment with C(uv) and installs exactly what a lock file names, each file checked against its
    hash.
  - An interpreter that is on the host is used before one is downloaded. Candidates are really run, because a C(pyenv)
    shim looks like an interpreter and is none; one that other users cannot reach (below C(/root)) is left alone.
  - Package index, further indexes, certificates, proxy and C(find-links) are those that C(pip) on the host is
    configured for, unless given here.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.progress
  - dsdeploy.llm.venv
attributes:
  check_mode:
    support: full
    details:
      - Where something is to be installed, the package index is asked. One that does not answer fails, as it would fail
        without check mode. Nothing is asked where packages are taken from elsewhere, too (find-links).
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  lock:
    description:
      - File on the host with the requirements, every one of them pinned and with its hashes, as
        C(uv pip compile --generate-hashes) writes it. Nothing else is installed, dependencies neither.
    type: path
    required: true
  build_lock:
    description:
      - File on the host with the packages that others are built with, pinned and with their hashes too, for a lock with
        packages that the index has as source only. Without it nothing is built.
    type: path
  lock_sha256:
    description: Its sha256, for O(probe=true), which then needs no lock on the host.
    type: str
  uv:
    description: The C(uv) to use.
    type: path
    default: uv
  python:
    description: Version of Python, such as V(3.12).
    type: str
    required: true
  interpreter:
    description: The interpreter to use. Without it one of that version is looked for on the host, then downloaded.
    type: path
  distribution:
    description: The package that all this is for; RV(version) is its version.
    type: str
    required: true
  cache_dir:
    description: Cache of C(uv), for downloads and unpacked packages. On the same file system it takes no space twice.
    type: path
    required: true
  python_dir:
    description: Directory for interpreters that C(uv) downloads.
    type: path
    required: true
  index_url:
    description: Package index. When empty, C(pip)'s configuration on the host decides, then O(index_url_default).
    type: str
    default: ""
  index_url_default:
    description: Package index where neither names one. When empty, none is asked then.
    type: str
    default: ""
  find_links:
    description: Directories or pages with packages, besides the indexes. Those of C(pip)'s configuration are added.
    type: list
    elements: str
    default: []
  fallback_index_urls:
    description:
      - Further indexes, such as one of packages that are built for CPU. They are asked only when a package of the lock
        is found nowhere else.
    type: list
    elements: str
    default: []
  python_mirror:
    description: URL to get Python builds from, as C(UV_PYTHON_INSTALL_MIRROR). When empty, none is downloaded.
    type: str
    default: ""
  probe:
    description:
      - Make nothing, only say whether it would be made.
      - The action plugin asks so first, because a run with nothing to do needs no job in the background.
    type: bool
    default: false
  help:
    description:
      - Arguments of the environment's Python that print the options of the program that was installed. What they
        print is kept in RV(help_file), so that nobody has to wait for it again.
    type: list
    elements: str
    default: []
  help_environment:
    description: Environment variables for O(help). Home and caches are a directory that is removed after it.
    type: dict
    default: {}
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: One release of vLLM
  dsdeploy.llm.uv_venv:
    path: /opt/dsdeploy/vllm/0.32.0-cuda-1c0ffee5
    lock: /opt/dsdeploy/vllm/0.32.0-cuda-1c0ffee5.lock
    uv: /usr/local/bin/uv
    python: "3.12"
    distribution: vllm
    cache_dir: /opt/dsdeploy/vllm/.cache
    python_dir: /opt/dsdeploy/python
    help: [-m, vllm.entrypoints.openai.api_server, --help]
"""

RETURN = r"""
path:
  description: Directory of the environment.
  type: str
  returned: always
python:
  description: The environment's interpreter.
  type: str
  returned: always
complete:
  description: Whether it was there as it is to be, before anything was done.
  type: bool
  returned: success
version:
  description: Version of O(distribution) that is installed; V(null) where there is none yet.
  type: str
  returned: always
help_file:
  description: File with the program's options.
  type: str
  returned: always
base_interpreter:
  description: The interpreter that the environment was made with.
  type: str
  returned: when it was made
hint:
  description: What to do next.
  type: str
  returned: failure
log_tail:
  description: The last lines that uv said.
  type: list
  elements: str
  returned: failure
"""

import contextlib
import glob
import hashlib
import os
import shutil
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import uv
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds.venv_stamp import (
    closed_to_others,
    open_to_all,
    read_stamp,
    write_stamp,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import process
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import make_directory
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.hints import hint_for
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.locked import hold, open_lock
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import secrets_in
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import pypi
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import HttpError

HELP = ".dsdeploy-help.txt"
HELP_TIMEOUT = 600  # s
# Where programs keep what they want to find again.
HOMES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
LOCK_LIMIT = 3600.0  # s; another run may be installing gigabytes
WRONG_FILE_HINT = (
    "Set dsdeploy_mirrors.pypi_index to a mirror that serves the original, or leave out the find_links that the file "
    "is from. If the lock is your own, make it again from the index that is used."
)


class Environment:
    """One virtual environment, as it is and as it is to be."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.path = self.params["path"]
        self.python = os.path.join(self.path, "bin", "python")
        self.help_file = os.path.join(self.path, HELP)
        self.pip = pypi.pip_config(os.environ)
        self.variables = uv.environment(
            self.pip,
            self.params["cache_dir"],
            self.params["python_dir"],
            self.params["index_url"],
            self.params["index_url_default"],
            self.params["python_mirror"],
        )

    def wanted(self) -> dict | None:
        """The stamp that it is to have; None in check mode where the lock is not there yet."""
        if self.params["probe"] and self.params["lock_sha256"]:
            return {"lock_sha256": self.params["lock_sha256"], "python": self.params["python"]}
        try:
            with open(self.params["lock"], "rb") as handle:
                lock = handle.read()
        except OSError as error:
            if self.module.check_mode:
                return None
            self.fail("%s: %s" % (self.params["lock"], error.strerror), "Give the path of a lock file.")
        problem = uv.lock_problem(lock.decode("utf-8", "replace"))
        if problem:
            hint = "Make one with `uv pip compile --generate-hashes`."
            self.fail("%s is not a lock file: %s" % (self.params["lock"], problem), hint)
        return {"lock_sha256": hashlib.sha256(lock).hexdigest(), "python": self.params["python"]}

    def installed(self) -> dict:
        """Distribution to version of what is in it."""
        found = glob.glob(os.path.join(glob.escape(self.path), "lib", "python*", "site-packages", "*.dist-info"))
        return uv.packages(os.path.basename(name) for name in found)

    def version(self) -> str | None:
        return self.installed().get(uv.normalized(self.params["distribution"]))

    def fail(self, msg: str, hint: str, output: uv.Output | None = None) -> None:
        self.module.fail_json(msg=msg, hint=hint, log_tail=output.tail() if output else [])

    def look_ahead(self) -> None:
        """Fail where uv could not install it, as far as it shows before: no index answers."""
        if self.params["find_links"]:
            return  # what lies there may be enough
        try:
            pypi.require_answer(
                self.pip,
                self.params["distribution"],
                self.params["index_url"],
                self.params["index_url_default"],
                self.params["fallback_index_urls"],
            )
        except HttpError as error:
            self.fail(str(error), error.hint)

    # --- making ---

    def interpreter(self) -> str | None:
        """A Python of the version on this host that really runs and that others can run; None where there is none."""
        asked = self.params["interpreter"]
        names = [asked] if asked else uv.interpreter_names(self.params["python"], os.get_exec_path())
        code = "import sys, os; print('%d.%d' % sys.version_info[:2], os.path.realpath(sys.executable))"
        for name in names:
            if not os.access(name, os.X_OK):
                continue
            rc, out, _err = self.module.run_command(
                [name, "-c", code], environ_update={"PYTHONHOME": ""}, cwd=process.NOWHERE
            )
            version, _space, real = out.strip().partition(" ")
            if rc == 0 and version == self.params["python"] and uv.others_can_run(real):
                return real
        if asked:
            self.fail(
                "%s is no Python %s that every user of this host can run" % (asked, self.params["python"]),
                "Give another interpreter, or none: then one is looked for, or downloaded.",
            )
        return None

    def run(self, argv: list, progress: Progress | None = None) -> uv.Output | None:
        """Run uv; what it printed where it failed, else None."""
        output = uv.Output()

        def feed(line: str) -> None:
            if output.feed(line) and progress:
                progress.total = output.total
                progress.update(output.done)

        return output if process.stream(argv, self.variables, feed) else None

    def make(self, progress: Progress) -> str:
        """Make it anew; returns the interpreter it was made with."""
        shutil.rmtree(self.path, ignore_errors=True)
        base = self.interpreter()
        command = [self.params["uv"], "venv", "--quiet", "--python", base or self.params["python"]]
        if base is None:
            command.append("--managed-python")
        failed = self.run(command + [self.path])
        if failed is not None:
            self.fail(
                "no Python %s on this host, and none could be downloaded: %s"
                % (self.params["python"], failed.reason()),
                hint_for(
                    failed.tail(),
                    "Install Python %s, or set dsdeploy_mirrors.python_builds to a mirror of uv's Python builds."
                    % self.params["python"],
                ),
                failed,
            )
        self.install(progress)
        self.keep_help(progress)
        return base or os.path.realpath(self.python)

    def install(self, progress: Progress) -> None:
        command, hidden = uv.sync_argv(
            self.params["uv"],
            self.python,
            self.params["lock"],
            self.params["build_lock"],
            self.params["find_links"] + self.pip.get("find-links", "").split(),
            "UV_DEFAULT_INDEX" in self.variables,
        )
        if hidden:
            self.variables["UV_FIND_LINKS"] = ",".join(hidden)
        fallback = self.params["fallback_index_urls"]
        reasons = []
        for indexes in ([], fallback) if fallback else ([],):
            if indexes:
                self.variables["UV_INDEX"] = " ".join([*self.variables.get("UV_INDEX", "").split(), *indexes])
            output = self.run(command, progress)
            if output is None:
                return
            wrong = output.wrong_file()
            reasons.append(wrong or output.reason())
            # A file that is found and is another is no reason to look elsewhere.
            if wrong:
                break
        self.fail(
            "uv could not install %s: %s" % (self.params["distribution"], "; then: ".join(dict.fromkeys(reasons))),
            WRONG_FILE_HINT if wrong else hint_for(output.tail(), pypi.INDEX_HINT),
            output,
        )

    def keep_help(self, progress: Progress) -> None:
        if not self.params["help"]:
            return
        progress.unit = "s"
        progress.begin("ask %s for its options" % self.params["distribution"])
        # A home of its own: what an engine and CUDA keep at a start is not left in root's. CUDA makes the parents of
        # its cache for its user alone, and an engine that runs as another could not pass them later.
        with tempfile.TemporaryDirectory(prefix="dsdeploy-help-") as home:
            # Imports that were never compiled take half a minute.
            told = process.run(
                [self.python] + self.params["help"],
                HELP_TIMEOUT,
                lambda: progress.update(int(time.time() - progress.started)),
                **dict(dict.fromkeys(HOMES, home), **self.params["help_environment"]),
            )
        if told.rc != 0 or "--" not in told.stdout:
            said = [line for line in (told.stderr or told.stdout).splitlines() if line.strip()]
            self.module.fail_json(
                msg="%s does not run: %s"
                % (
                    self.params["distribution"],
                    said[-1]
                    if said
                    else "it said nothing in %d s" % HELP_TIMEOUT
                    if told.timed_out
                    else "it says nothing",
                ),
                hint="Its lock file may lack a package, or the host a library that log_tail names.",
                log_tail=said[-uv.TAIL_LINES :],
            )
        with open(self.help_file, "w", encoding="utf-8") as handle:
            handle.write(told.stdout)


@contextlib.contextmanager
def alone(directory: str, progress: Progress):
    """Hold the environments below a directory: the job of a controller that was stopped goes on to its end."""
    make_directory(directory)
    path = os.path.join(directory, ".making")
    descriptor = open_lock(path)
    try:
        hold(descriptor, path, LOCK_LIMIT, lambda: progress.begin("wait for another run that installs here"))
        yield
    finally:
        os.close(descriptor)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "lock": {"type": "path", "required": True},
            "lock_sha256": {"type": "str"},
            "build_lock": {"type": "path"},
            "uv": {"type": "path", "default": "uv"},
            "python": {"type": "str", "required": True},
            "interpreter": {"type": "path"},
            "distribution": {"type": "str", "required": True},
            "cache_dir": {"type": "path", "required": True},
            "python_dir": {"type": "path", "required": True},
            "index_url": {"type": "str", "default": ""},
            "index_url_default": {"type": "str", "default": ""},
            "find_links": {"type": "list", "elements": "str", "default": []},
            "fallback_index_urls": {"type": "list", "elements": "str", "default": []},
            "python_mirror": {"type": "str", "default": ""},
            "probe": {"type": "bool", "default": False},
            "help": {"type": "list", "elements": "str", "default": []},
            "help_environment": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    # Others must be able to read what the service's user is to run.
    os.umask(0o022)
    environment = Environment(module)
    module.no_log_values.update(secrets_in(module.params, environment.pip))
    before, wanted = read_stamp(environment.path), environment.wanted()
    changed = before is None or before != wanted
    closed = not changed and closed_to_others(environment.path)
    result = {}
    old = environment.installed() if before else {}
    if changed and module.check_mode and not module.params["probe"]:
        environment.look_ahead()
    if changed and not (module.check_mode or module.params["probe"]):
        with Progress("install %s" % module.params["distribution"]) as progress:
            try:
                with alone(os.path.dirname(environment.path), progress):
                    if read_stamp(environment.path) != wanted:
                        result["base_interpreter"] = environment.make(progress)
                        write_stamp(environment.path, wanted)
            except Failure as failure:
                module.fail_json(**failure.fields())
    if closed and not (module.check_mode or module.params["probe"]):
        open_to_all(environment.path)
    new = environment.installed()
    module.exit_json(
        changed=(changed or closed) and not module.params["lock_sha256"],
        complete=not (changed or closed),
        path=environment.path,
        python=environment.python,
        version=environment.version(),
        help_file=environment.help_file,
        diff={
            "before_header": environment.path,
            "after_header": environment.path,
            "before": "".join("%s==%s\n" % item for item in sorted(old.items())),
            "after": "".join("%s==%s\n" % item for item in sorted(new.items())),
        },
        **result,
    )


if __name__ == "__main__":
    main()
