# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a host before anything is changed on it, and name everything that is wrong at once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Name everything that stands in the way of a deployment, at once
version_added: 1.0.0
description:
  - Looks whether a port is free, whether directories have the space they will need, and which commands exist.
  - Also tells which distribution packages are missing, so that nothing more need be asked of a host that has them all.
  - Fails with all the problems it found in one message. Nothing on the host is changed.
  - The failure is one of usage where variables are all that is wrong.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
options:
  host:
    description:
      - Address or host name that the service will listen on, which must be one of the host's. Beyond loopback, an API
        key and TLS are required.
    type: str
    default: 127.0.0.1
  port:
    description: Port that the service will listen on.
    type: int
  ports:
    description: Further ports that the service will listen on.
    type: list
    elements: dict
    default: []
    suboptions:
      variable:
        description: Name of the variable that sets it, for the message.
        type: str
        required: true
      port:
        description: The port.
        type: int
        required: true
  user:
    description:
      - System user of the service that wants the port. A port that this user holds is fine.
      - Root, an account that people log in with and the user that the run came by are refused.
    type: str
    default: ""
  reach:
    description: Paths that the user must be able to get to, with every link resolved, as far as they are there.
    type: list
    elements: path
    default: []
  reads:
    description:
      - Models of the host's own that the user must be able to read, each file of them - a directory with all that is in
        it, or a GGUF file with its further shards.
    type: list
    elements: path
    default: []
  manager:
    description:
      - What is to run the service. Of V(supervisor) it is said whether it has to be installed, in O(install_dir) where
        this host has none of dsdeploy's yet.
    type: str
    choices: [systemd, supervisor]
    default: systemd
  prefix:
    description: Prefix of the role's variables, for messages that name one.
    type: str
    required: true
  has_api_key:
    description: Whether an API key is set.
    type: bool
    default: false
  has_tls:
    description: Whether a certificate and its key are set.
    type: bool
    default: false
  disk:
    description: Space that will be needed. What lies on the same file system is added up.
    type: list
    elements: dict
    default: []
    suboptions:
      what:
        description: What needs the space.
        type: str
        required: true
      path:
        description: Directory. It need not exist yet; its nearest existing parent is looked at.
        type: path
        required: true
      need_bytes:
        description: Space needed, in bytes.
        type: int
        required: true
      unless:
        description: File that shows that the space is taken up already; nothing is needed when it exists.
        type: path
  commands:
    description: Commands to look for on C(PATH) and in the usual places of CUDA. A missing one is no failure.
    type: list
    elements: str
    default: []
  require_commands:
    description: Commands of those in O(commands) without which the deployment cannot go on.
    type: list
    elements: str
    default: []
  files:
    description: Files of the user's own that must be on the host. Those without a path are left out.
    type: list
    elements: dict
    default: []
    suboptions:
      variable:
        description: Name of the variable that names it, for the message.
        type: str
        required: true
      path:
        description: Its path.
        type: str
        required: true
      executable:
        description: Whether it is a program.
        type: bool
        default: false
  packages:
    description: Distribution packages to look for. A missing one is no failure.
    type: list
    elements: str
    default: []
  ask_index:
    description:
      - In check mode, where one of O(packages) is missing, whether to ask the package sources of apt for their indexes.
        One that cannot be reached fails, as it would fail the installation.
    type: bool
    default: false
  ask:
    description:
      - Command of a program that may be installed already, such as for its version.
      - Where the program is not there, it is not asked.
    type: list
    elements: str
    default: []
  ask_environment:
    description: Environment variables for it.
    type: dict
    default: {}
  install_dir:
    description: Directory that programs are installed into, which goes into the first line of scripts and into builds.
    type: str
    default: ""
  glibc:
    description: Oldest GNU C library that what is installed runs with, such as V(2.31).
    type: str
  require:
    description: Conditions of the role's own.
    type: list
    elements: dict
    default: []
    suboptions:
      that:
        description: Whether the condition holds.
        type: bool
        required: true
      msg:
        description: What is wrong when it does not.
        type: str
        required: true
      hint:
        description: What to do about it.
        type: str
        required: true
      kind:
        description: What is wrong, V(preflight) the host, V(usage) the value of a variable.
        type: str
        choices: [preflight, usage]
        default: preflight
  warn:
    description: Warnings to give. Empty ones are left out.
    type: list
    elements: str
    default: []
  deployment:
    description: What is going to be deployed, for RV(begun).
    type: dict
    suboptions:
      engine:
        description: Name of the engine.
        type: str
        required: true
      service:
        description: Name of its service.
        type: str
        required: true
      manager:
        description: What is to run the service.
        type: str
        choices: [systemd, supervisor]
        required: true
      install_dir:
        description: Directory that programs are installed into.
        type: path
        required: true
      data_dir:
        description: Directory in which the service's own one is made.
        type: path
        required: true
      log_dir:
        description: Directory of its log, under supervisor.
        type: path
        required: true
      dirs:
        description: Directories and files that belong to the deployment.
        type: list
        elements: path
        default: []
      write_paths:
        description: Directories that it writes to, besides its own.
        type: list
        elements: path
        default: []
      environment_file:
        description: File for its environment. In C(/etc/dsdeploy) by default.
        type: path
      releases:
        description: Directory of its releases, of an engine that has them.
        type: path
      models_dir:
        description: The store of models.
        type: path
      model:
        description: The resolved entry of the catalog. Empty means that it has no model.
        type: dict
        default: {}
      model_path:
        description: What is served, where that is known; outside of the store it is the host's own.
        type: str
        default: ""
      tags:
        description: Tags of the run. One that is only to verify what is deployed is refused where nothing is.
        type: list
        elements: str
        default: []
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Look at the host before anything is changed
  dsdeploy.llm.preflight:
    prefix: llama_cpp
    port: 8080
    user: dsdeploy-llama-cpp
    disk:
      - what: engine
        path: /opt/dsdeploy
        need_bytes: 300000000
    commands: [nvcc]
"""

RETURN = r"""
commands:
  description: Path of each command asked for; null for one that is not there.
  type: dict
  returned: always
  sample: {nvcc: /usr/local/cuda/bin/nvcc}
disk:
  description:
    - Needed and free bytes by mount point, C(mount), C(need), C(free), C(fits), C(for) and C(paths).
    - Empty where O(disk[].unless) leaves nothing to make.
  type: list
  elements: dict
  returned: always
packages:
  description: Version of each package of O(packages) that is installed.
  type: dict
  returned: always
  sample: {python3-venv: 3.11.2-1+b1}
missing_packages:
  description: Those of O(packages) that are not installed, in their order.
  type: list
  elements: str
  returned: always
said:
  description: What O(ask) wrote; empty where the program is not there.
  type: str
  returned: always
missing_directories:
  description: Those of O(reach), and of the directories above them, that are not there yet, links resolved.
  type: list
  elements: str
  returned: always
begun:
  description:
    - What has to be noted of O(deployment) before anything of it is made (M(dsdeploy.llm.host_owned)).
    - V(null) where its record, or a note, says all of it.
  type: dict
  returned: always
supervisor_missing:
  description: Where supervisor has to be installed; empty where it is there, or not needed.
  type: str
  returned: always
port_owner:
  description: Who listens on the port; null when nobody does.
  type: dict
  returned: always
  contains:
    pid:
      description: Process id; null when it cannot be seen.
      type: int
    command:
      description: Name of the program.
      type: str
    user:
      description: Its user.
      type: str
processors:
  description: Processors that may be used, no more than a container is given.
  type: int
  returned: always
problems:
  description: Everything found wrong, each with C(msg), C(hint) and C(kind).
  type: list
  elements: dict
  returned: always
error_kind:
  description: V(usage) where all of them are about variables, else V(preflight).
  type: str
  returned: failure
"""

import os
import pwd
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.disk import disk_plan, space
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import (
    begun,
    owned,
    packages,
    preflight,
    processors,
    sockets,
    supervisor_place,
    users,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.access import barrier, weak_ways
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import parts
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.common_place import shared_place
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import read_records

CUDA_BIN = ["/usr/local/cuda/bin"]


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except OSError:
        return b""


def is_there(path: str, executable: bool, **_more: str) -> bool:
    return os.path.isfile(path) and (not executable or os.access(path, os.X_OK))


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def port_owner(port: int) -> dict | None:
    """Who listens on a TCP port of this network namespace: `{pid, command, user}`, or None."""
    tables = {name: table for name, table in sockets.read().items() if name.startswith("tcp")}
    found = [listener for listener in sockets.listeners(tables) if listener.port == port]
    if not found:
        return None
    owner = {"pid": None, "command": "", "user": user_name(found[0].uid)}
    links = {"socket:[%s]" % listener.inode for listener in found}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            held = {os.readlink("/proc/%s/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%s/fd" % pid)}
        except OSError:
            continue
        if held & links:
            command = read("/proc/%s/comm" % pid).decode(errors="replace").strip()
            return dict(owner, pid=int(pid), command=command)
    return owner


def user_problems(name: str, prefix: str, reach: list, reads: list) -> list:
    """What is wrong with the user that a service is to run as, and with its way to what it needs."""
    found = users.account(name)
    try:
        ours = found is not None and users.is_ours(found, owned.load())
    except Failure as failure:
        return [preflight.Problem(str(failure), failure.hint)]
    problem = users.user_problem(found, ours, users.came_by())
    if problem:
        return [preflight.refused_user(problem, prefix)]
    uid = found.uid if found else None
    gids = os.getgrouplist(found.name, found.gid) if found else []
    paths = dict.fromkeys(path for path in reach if path.startswith("/"))
    problems = preflight.way_problems(name, [(path, barrier(path, uid, gids)) for path in paths])
    for model in [] if problems else filter(os.path.exists, reads):
        ways = [(path, barrier(path, uid, gids, "read")) for path in parts.paths_of(model)]
        problems += preflight.read_problems(name, ways)
    return problems


def weak_problems(wanted: dict) -> list:
    """What is wrong with the ways to what root runs, writes or gives away: who else can change them."""
    programs = [wanted["install_dir"]]
    if wanted["manager"] == "supervisor":
        programs.append(wanted["log_dir"])  # supervisord writes there as root
    if wanted["environment_file"]:
        programs.append(os.path.dirname(wanted["environment_file"]))
    data = [wanted["data_dir"], *map(os.path.dirname, wanted["dirs"] + wanted["write_paths"])]
    absolute = [[path for path in paths if path.startswith("/")] for paths in (programs, data)]
    return preflight.weak_problems(weak_ways(*absolute, users.came_by()))


def file_system(variable: str, path: str, programs: bool = False):
    """What is wrong with the file system that a directory lies on, or will."""
    if not path.startswith("/"):
        return None
    mount, _free = space(path)
    return preflight.file_system_problem(variable, path, mount, os.statvfs(mount).f_flag, programs)


def libc() -> str:
    """Such as `glibc 2.36`; empty where it is another library."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return ""


def installed(module: AnsibleModule, names: list) -> dict:
    """Version by name of those packages that are installed."""
    if not names:
        return {}
    # One of them is there; the other distributions are refused or have no package names of ours.
    for query in preflight.QUERIES:
        if module.get_bin_path(query[0]):
            # It fails where one is missing, and tells of the others all the same.
            return preflight.installed_packages(module.run_command([*query, *names])[1], names)
    return {}


def unreachable_index(module: AnsibleModule) -> list:
    """Package sources of apt that do not answer. Nothing but a temporary file is written."""
    helper = "/usr/lib/apt/apt-helper"
    if not module.get_bin_path("apt-get") or not os.path.exists(helper):
        return []
    listed = module.run_command(["apt-get", "update", "--print-uris"], environ_update={"LC_ALL": "C"})[1]
    for uri in packages.parse_apt_uris(listed):
        with tempfile.TemporaryDirectory(prefix="dsdeploy-") as directory:
            target = os.path.join(directory, "InRelease")
            rc, out, err = module.run_command([helper, "download-file", uri, target], environ_update={"LC_ALL": "C"})
        reason = packages.apt_unreachable(out + err) if rc else ""
        if reason:
            return [preflight.unreachable_index(reason)]
    return []


def ask(module: AnsibleModule, argv: list, environment: dict) -> str:
    """What a program says, that may not be there."""
    if not argv or not is_there(argv[0], executable=True):
        return ""
    _rc, out, err = module.run_command(argv, environ_update=environment)
    return out + err


def missing_directories(paths: list) -> list:
    """Directories that a run will make to get to these, the parents first."""
    found: set = set()
    for path in paths:
        path = os.path.realpath(path)
        while path.startswith("/") and not os.path.lexists(path):
            found.add(path)
            path = os.path.dirname(path)
    return sorted(found)


def supervisor_missing(manager: str, install_dir: str) -> str:
    """Where supervisor has to be installed, empty where it is there or not needed."""
    if manager != "supervisor" or not install_dir:
        return ""
    path = supervisor_place.place(install_dir, "")["supervisor"]
    return "" if supervisor_place.is_installed(path) else path


def deployment_note(wanted: dict | None, user: str, made: list) -> tuple:
    """(what has to be noted of a deployment or None, what is wrong with it beside the others of the host)"""
    if not wanted:
        return None, []
    model = begun.model_place(wanted["models_dir"] or "", wanted["model"], wanted["model_path"])
    note, records = begun.make(dict(wanted, model=model), user, made), read_records()[0]
    record = next((found for found in records if found["service"]["name"] == wanted["service"]), None)
    problems = [
        preflight.undeployed_problem(wanted["engine"], wanted["tags"], record is not None),
        shared_place(note, wanted["service"], records),
    ]
    noted = begun.is_recorded(note, record) or begun.is_noted(note, owned.load()["begun"].get(wanted["service"]))
    return None if noted else dict(note, service=wanted["service"]), [problem for problem in problems if problem]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int"},
            "ports": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "variable": {"type": "str", "required": True},
                    "port": {"type": "int", "required": True},
                },
            },
            "user": {"type": "str", "default": ""},
            "prefix": {"type": "str", "required": True},
            "has_api_key": {"type": "bool", "default": False, "no_log": False},
            "has_tls": {"type": "bool", "default": False},
            "disk": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "what": {"type": "str", "required": True},
                    "path": {"type": "path", "required": True},
                    "need_bytes": {"type": "int", "required": True},
                    "unless": {"type": "path"},
                },
            },
            "commands": {"type": "list", "elements": "str", "default": []},
            "require_commands": {"type": "list", "elements": "str", "default": []},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "variable": {"type": "str", "required": True},
                    "path": {"type": "str", "required": True},
                    "executable": {"type": "bool", "default": False},
                },
            },
            "packages": {"type": "list", "elements": "str", "default": []},
            "ask_index": {"type": "bool", "default": False},
            "ask": {"type": "list", "elements": "str", "default": []},
            "ask_environment": {"type": "dict", "default": {}},
            "install_dir": {"type": "str", "default": ""},
            "reach": {"type": "list", "elements": "path", "default": []},
            "reads": {"type": "list", "elements": "path", "default": []},
            "manager": {"type": "str", "choices": ["systemd", "supervisor"], "default": "systemd"},
            "glibc": {"type": "str"},
            "require": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "that": {"type": "bool", "required": True},
                    "msg": {"type": "str", "required": True},
                    "hint": {"type": "str", "required": True},
                    "kind": {"type": "str", "choices": ["preflight", "usage"], "default": "preflight"},
                },
            },
            "warn": {"type": "list", "elements": "str", "default": []},
            "deployment": {
                "type": "dict",
                "options": {
                    "engine": {"type": "str", "required": True},
                    "service": {"type": "str", "required": True},
                    "manager": {"type": "str", "choices": ["systemd", "supervisor"], "required": True},
                    "install_dir": {"type": "path", "required": True},
                    "data_dir": {"type": "path", "required": True},
                    "log_dir": {"type": "path", "required": True},
                    "dirs": {"type": "list", "elements": "path", "default": []},
                    "write_paths": {"type": "list", "elements": "path", "default": []},
                    "environment_file": {"type": "path"},
                    "releases": {"type": "path"},
                    "models_dir": {"type": "path"},
                    "model": {"type": "dict", "default": {}},
                    "model_path": {"type": "str", "default": ""},
                    "tags": {"type": "list", "elements": "str", "default": []},
                },
            },
        },
        supports_check_mode=True,
    )
    p = module.params
    owner = port_owner(p["port"]) if p["port"] else None
    wants = [want for want in p["disk"] if not (want["unless"] and os.path.exists(want["unless"]))]
    disk = disk_plan((want["path"], want["need_bytes"], want["what"]) for want in wants)
    found = [preflight.host_problem(p["host"], p["has_api_key"], p["has_tls"], p["prefix"])]
    found.append(None if found[0] else preflight.address_problem(p["host"], sockets.unbindable(p["host"]), p["prefix"]))
    if p["port"]:
        found.append(preflight.port_problem(p["port"], owner, p["user"], p["prefix"] + "_port"))
    for more in p["ports"]:
        found.append(preflight.port_problem(more["port"], port_owner(more["port"]), p["user"], more["variable"]))
    problems = found + preflight.disk_problems(disk)
    commands = {name: module.get_bin_path(name, opt_dirs=CUDA_BIN) for name in p["commands"] + p["require_commands"]}
    problems += [preflight.missing_command(name) for name in p["require_commands"] if not commands[name]]
    problems += [preflight.missing_file(**wanted) for wanted in p["files"] if wanted["path"] and not is_there(**wanted)]
    if p["install_dir"]:
        problems += preflight.install_dir_problems(p["install_dir"])
        problems.append(file_system("dsdeploy_install_dir", p["install_dir"], programs=True))
    if p["deployment"]:
        problems.append(file_system("dsdeploy_data_dir", p["deployment"]["data_dir"]))
        problems += weak_problems(p["deployment"])
    problems = [problem for problem in problems if problem]
    if p["user"]:
        problems += user_problems(p["user"], p["prefix"], p["reach"], p["reads"])
    there = installed(module, p["packages"])
    missing = [name for name in p["packages"] if name not in there]
    if p["ask_index"] and module.check_mode and missing:
        problems += unreachable_index(module)
    if p["glibc"]:
        problems += preflight.glibc_problems(libc(), p["glibc"])
    problems += [
        preflight.Problem(rule["msg"], rule["hint"], rule["kind"]) for rule in p["require"] if not rule["that"]
    ]
    for warning in filter(None, p["warn"]):
        module.warn(warning)
    made, note = missing_directories(p["reach"]), None
    try:
        note, told = deployment_note(p["deployment"], p["user"], made)
        problems += told
    except Failure as failure:
        problem = preflight.Problem(str(failure), failure.hint)
        problems += [] if problem in problems else [problem]
    except ValueError as error:
        problems.append(preflight.Problem(str(error), "Choose other directories.", "usage"))
    result = {
        "changed": False,
        "begun": note,
        "commands": commands,
        "disk": disk,
        "packages": there,
        "missing_packages": missing,
        "said": ask(module, p["ask"], p["ask_environment"]),
        "port_owner": owner,
        "missing_directories": made,
        "supervisor_missing": supervisor_missing(p["manager"], p["install_dir"]),
        "processors": processors.count(),
        "problems": [problem._asdict() for problem in problems],
    }
    if problems:
        module.fail_json(
            msg="; ".join(problem.msg for problem in problems),
            hint=" ".join(dict.fromkeys(problem.hint for problem in problems)),
            error_kind=preflight.error_kind(problems),
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
