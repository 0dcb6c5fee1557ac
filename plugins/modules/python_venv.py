# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Python virtual environment with exactly the given requirements."""

from __future__ import annotations

DOCUMENTATION = r"""
module: python_venv
short_description: A Python virtual environment with exactly the given, hashed requirements
version_added: 1.0.0
description:
  - Makes a virtual environment and installs the given requirements into it with C(pip).
  - Unlike M(ansible.builtin.pip) it needs no Python packages on the target beyond the C(venv) standard library module.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
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
  requirements:
    description:
      - Lines of a requirements file.
      - Every requirement needs its hash; C(pip) runs with C(--require-hashes).
    type: list
    elements: str
    required: true
  python:
    description: The interpreter to make it with. The default is the one that runs this module.
    type: path
  check:
    description:
      - Command that shows that what is in it runs, after it was made and on every later run.
      - A name without a slash is a program of the environment.
      - Not run in check mode where the environment is still to be made.
    type: list
    elements: str
    default: []
  check_environment:
    description: Environment variables for it.
    type: dict
    default: {}
  index_url:
    description: Package index. When empty, C(pip)'s own configuration on the target decides.
    type: str
    default: ""
  index_url_default:
    description: The index that C(pip) asks where neither names one, for the question of check mode.
    type: str
    default: ""
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: An environment with one pinned package
  dsdeploy.llm.python_venv:
    path: /opt/dsdeploy/supervisor
    requirements:
      - supervisor==4.3.0 --hash=sha256:0bcb763fddafba410f35cbde226aa7f8514b9fb82eb05a0c85f6588d1c13f8db
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
said:
  description: What O(check) wrote. Empty where it was not run.
  type: str
  returned: always
"""

import hashlib
import os
import re
import shutil
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds.venv_stamp import (
    closed_to_others,
    open_to_all,
    read_stamp,
    write_stamp,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import make_directory
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.hints import hint_for
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import NOWHERE
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import secrets_in
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import pypi
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import HttpError


def wanted_stamp(requirements: list[str], version: str) -> dict:
    """What identifies a finished environment: its requirements and the Python (`3.11`) it was made with."""
    digest = hashlib.sha256("\n".join(requirements).encode()).hexdigest()
    return {"python": version, "requirements": requirements, "sha256": digest}


def python_version(module: AnsibleModule, python: str) -> str:
    if python == sys.executable:
        return "%d.%d" % sys.version_info[:2]
    rc, out, err = module.run_command([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], cwd=NOWHERE)
    if rc:
        module.fail_json(msg="%s does not run: %s" % (python, (err or out).strip()), hint="Give an existing Python.")
    return out.strip()


# Prints the wheel of the pip that comes with a Python, where its distribution or it itself keeps it.
FIND_PIP = """
import ensurepip, glob, os, sysconfig
bundled = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
for place in (sysconfig.get_config_var("WHEEL_PKG_DIR"), bundled, "/usr/share/python-wheels"):
    found = sorted(glob.glob(os.path.join(glob.escape(place), "pip-*.whl"))) if place else []
    if found:
        print(found[-1])
        break
"""


def make(module: AnsibleModule, path: str, python: str, requirements: list[str], stamp: dict) -> None:
    shutil.rmtree(path, ignore_errors=True)
    make_directory(os.path.dirname(path))
    # An index in the environment or a PYTHONHOME of the caller must not leak into the environment that is made.
    environ = {"PYTHONHOME": "", "PYTHONPATH": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    # To install pip first takes longer than most of what it is needed for, and nothing is installed there later: it is
    # run from its wheel. Where that is not found the environment gets one.
    rc, out, err = module.run_command([python, "-c", FIND_PIP], environ_update=environ, cwd=NOWHERE)
    wheel = out.strip() if rc == 0 else ""
    command = [python, "-m", "venv"] + (["--without-pip"] if wheel else []) + [path]
    rc, out, err = module.run_command(command, environ_update=environ, cwd=NOWHERE)
    if rc:
        install = "Install the venv module of this Python; on Debian and Ubuntu: apt-get install python3-venv."
        hint = hint_for([out, err], install)
        shutil.rmtree(path, ignore_errors=True)
        module.fail_json(msg="cannot make the virtual environment %s: %s" % (path, (err or out).strip()), hint=hint)
    listing = os.path.join(path, "requirements.txt")
    with open(listing, "w", encoding="utf-8") as handle:
        handle.write("\n".join(requirements) + "\n")
    command = [os.path.join(path, "bin", "python"), "-m", "pip", "install", "--quiet", "--require-hashes"]
    command += ["--only-binary", ":all:", "--requirement", listing]
    # Not as an argument, which others on the host can see: it may hold a password.
    if module.params["index_url"]:
        environ["PIP_INDEX_URL"] = module.params["index_url"]
    rc, out, err = module.run_command(command, environ_update=dict(environ, PYTHONPATH=wheel), cwd=NOWHERE)
    if rc:
        shutil.rmtree(path, ignore_errors=True)  # of a version that is not taken again nobody would remove it
        said = [line for line in (err or out).splitlines() if line.strip()]
        reason = next((line for line in said if line.startswith("ERROR:")), said[-1] if said else "no output")
        module.fail_json(
            msg="pip could not install %s: %s" % (", ".join(r.split(" ")[0] for r in requirements), reason),
            hint=hint_for(said, pypi.INDEX_HINT),
            log_tail=said[-15:],
            rc=rc,
        )
    write_stamp(path, stamp)


def look_ahead(module: AnsibleModule, requirements: list[str]) -> None:
    """Fail where pip could not install them, as far as it shows before: no index answers."""
    names = [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in requirements]
    for name in list(filter(None, names))[:1]:
        try:
            pypi.require_answer(
                pypi.pip_config(os.environ), name, module.params["index_url"], module.params["index_url_default"]
            )
        except HttpError as error:
            module.fail_json(msg=str(error), hint=error.hint)


def check_it(module: AnsibleModule, path: str, command: list[str]) -> str:
    """What the command says, its standard error first: what it warns of comes before what it answers."""
    program = command[0] if "/" in command[0] else os.path.join(path, "bin", command[0])
    rc, out, err = module.run_command(
        [program] + command[1:], environ_update=module.params["check_environment"], cwd=NOWHERE
    )
    if rc:
        said = [line for line in (err or out).splitlines() if line.strip()]
        module.fail_json(
            msg="%s does not run: %s" % (" ".join(command[:2]), said[-1] if said else "it ended with %d" % rc),
            hint="log_tail says more. Remove %s and run this again to have it made anew." % path,
            log_tail=said[-15:],
        )
    return err + out


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "requirements": {"type": "list", "elements": "str", "required": True},
            "python": {"type": "path"},
            "check": {"type": "list", "elements": "str", "default": []},
            "check_environment": {"type": "dict", "default": {}},
            "index_url": {"type": "str", "default": ""},
            "index_url_default": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    module.no_log_values.update(secrets_in(module.params, pypi.pip_config(os.environ)))
    path, requirements = module.params["path"], module.params["requirements"]
    python = module.params["python"] or sys.executable
    # Others must be able to read what a service's user is to run.
    os.umask(0o022)
    stamp = wanted_stamp(requirements, python_version(module, python))
    before = read_stamp(path)
    made_anew = before != stamp
    closed = not made_anew and closed_to_others(path)
    if module.check_mode and made_anew:
        look_ahead(module, requirements)
    elif not module.check_mode:
        if made_anew:
            make(module, path, python, requirements, stamp)
        elif closed:
            open_to_all(path)
    there = not (module.check_mode and made_anew)
    said = check_it(module, path, module.params["check"]) if module.params["check"] and there else ""
    diff = {
        "before_header": path,
        "after_header": path,
        "before": "".join(line + "\n" for line in (before or {}).get("requirements", [])),
        "after": "".join(line + "\n" for line in requirements),
    }
    module.exit_json(
        changed=made_anew or closed, path=path, python=os.path.join(path, "bin", "python"), said=said, diff=diff
    )


if __name__ == "__main__":
    main()
