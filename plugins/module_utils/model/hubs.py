# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a hub has: the files of a repository with size and hash, and where to get them.

Each function returns ``(list of Remote, commit)``. The protocols:

- Hugging Face: ``/api/models/{id}/revision/{rev}`` names the commit, ``/api/models/{id}/tree/{commit}`` the files
  (large ones with their sha256, small ones with their git object id), ``/{id}/resolve/{commit}/{path}`` the bytes.
- ModelScope: ``/api/v1/models/{id}/repo/files`` names the files with sha256, ``/api/v1/models/{id}/repo`` the bytes.
  Source: the clients of modelscope-hub 0.5 and huggingface_hub 2.4, which the stand-in hub of the tests serves.
- git-lfs: pointer files from a shallow clone, then the batch API (git-lfs docs/api/batch.md).
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import urllib.parse

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import is_safe_path
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import Remote
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import HttpError, origin, shown

MODELSCOPE_MOST_FILES = 3000  # the listing is cut there without a word
POINTER = re.compile(
    r"version https://git-lfs\.github\.com/spec/v1\n(?:[a-z0-9.-]+ [^\n]*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)\n"
)
# Nothing that an engine needs, in every repository.
ALWAYS_LEFT_OUT = (".gitattributes", ".gitignore", ".git/*", "README.md", "*/README.md")


def token_of(tokens, url):
    """The token for exactly this scheme, host and port, or ``None``.

    :param tokens: endpoint URL to token. A mirror is another host and gets none.
    """
    for endpoint, token in (tokens or {}).items():
        if token and origin(endpoint) == origin(url):
            return token
    return None


def wanted(path, include, exclude):
    """Whether a file of a repository belongs to the model: glob patterns on its path, ``*`` crosses directories."""
    if any(fnmatch.fnmatchcase(path, pattern) for pattern in tuple(exclude or ()) + ALWAYS_LEFT_OUT):
        return False
    return not include or any(fnmatch.fnmatchcase(path, pattern) for pattern in include)


def _json(client, url, headers):
    body, answered, final = client.read(url, headers)
    try:
        return json.loads(body.decode("utf-8")), answered
    except ValueError:
        start = body[:40].decode("utf-8", "replace").strip().split("\n")[0]
        raise HttpError("%s is no JSON document (it starts with %r)" % (shown(final), start), 0) from None


def _checked(path, url):
    if not is_safe_path(path):
        raise Failure(["%s lists a file %r, which would lie outside the model's directory" % (shown(url), path)])
    return path


def huggingface(client, endpoint, source, include, exclude, token=None):
    """Files of a Hugging Face repository, all of one commit."""
    headers = {"Authorization": "Bearer %s" % token} if token else {}
    base = endpoint.rstrip("/")
    asked = urllib.parse.quote(source.get("revision") or "main", safe="")
    info, _headers = _json(client, "%s/api/models/%s/revision/%s" % (base, source["id"], asked), headers)
    commit = info.get("sha") or source.get("revision") or "main"
    url = "%s/api/models/%s/tree/%s?recursive=true&expand=false" % (base, source["id"], urllib.parse.quote(commit))
    files = []
    while url:
        page, answered = _json(client, url, headers)
        for item in page:
            if item.get("type") != "file" or not wanted(item["path"], include, exclude):
                continue
            large = item.get("lfs") or {}
            where = "%s/%s/resolve/%s/%s" % (base, source["id"], commit, urllib.parse.quote(item["path"]))
            files.append(
                Remote(
                    path=_checked(item["path"], url),
                    size=large.get("size", item.get("size")),
                    url=where,
                    headers=headers,
                    sha256=large.get("oid"),
                    git_sha1=None if large else item.get("oid"),
                )
            )
        following = re.search(r'<([^>]+)>;\s*rel="next"', answered.get("Link") or "")
        url = urllib.parse.urljoin(url, following.group(1)) if following else None
        if url and origin(url) != origin(base):
            raise HttpError("%s sends to another host for its next page: refused" % shown(base), 0)
    return files, commit


def modelscope(client, endpoint, source, include, exclude, token=None):
    """Files of a ModelScope repository."""
    headers = {"Authorization": "Bearer %s" % token, "Cookie": "m_session_id=%s" % token} if token else {}
    base = "%s/api/v1/models/%s/repo" % (endpoint.rstrip("/"), source["id"])
    revision = source.get("revision") or "master"
    listing = "%s/files?Revision=%s&Recursive=True" % (base, urllib.parse.quote(revision, safe=""))
    answer, _headers = _json(client, listing, headers)
    if answer.get("Success") is False or "Data" not in answer:
        raise HttpError("%s: %s" % (shown(listing), answer.get("Message") or "no file list"), 0)
    items = (answer["Data"] or {}).get("Files") or []
    if len(items) >= MODELSCOPE_MOST_FILES:
        raise HttpError("%s lists %d files, more than the hub tells at once" % (shown(listing), len(items)), 0)
    files, commit = [], revision
    for item in items:
        if item.get("Type") == "tree" or not wanted(item["Path"], include, exclude):
            continue
        where = "%s?Revision=%s&FilePath=%s" % (
            base,
            urllib.parse.quote(revision, safe=""),
            urllib.parse.quote(item["Path"], safe=""),
        )
        files.append(Remote(_checked(item["Path"], listing), item["Size"], where, headers, item.get("Sha256") or None))
        commit = answer["Data"].get("LatestCommitter", {}).get("Id") or commit
    return files, commit


def plain_urls(client, source, entry, token=None):
    """The catalog's own files below one base URL; sizes that it does not know are asked for."""
    headers = {"Authorization": "Bearer %s" % token} if token else {}
    files = []
    for item in entry["files"]:
        url = "%s/%s" % (source["base"].rstrip("/"), urllib.parse.quote(item["path"]))
        size = item.get("bytes")
        if size is None:
            size = client.retrying(lambda url=url: _size_of(client, url, headers))
        files.append(Remote(item["path"], size, url, headers, item.get("sha256")))
    return files, None


def _size_of(client, url, headers):
    with client.open(url, dict(headers, Range="bytes=0-0")) as response:
        total = (response.headers.get("Content-Range") or "").rpartition("/")[2]
        total = total if response.status == 206 else response.headers.get("Content-Length")
        if not (total or "").isdigit():
            raise HttpError("%s does not tell its size; give it as bytes in the entry's files" % shown(url), 0)
        return int(total)


def git_lfs(client, source, include, exclude, scratch, token=None, run=subprocess.run):
    """Files of a git repository with git-lfs: pointers from a shallow clone, bytes from the batch API.

    :param scratch: directory for the clone; git is needed on the host, git-lfs is not.
    """
    clone = os.path.join(scratch, "clone")
    _clone(source, clone, token, run)
    commit = run(["git", "-C", clone, "rev-parse", "HEAD"], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
    pointers, plain = {}, []
    for base, directories, names in os.walk(clone):
        directories[:] = [name for name in directories if name != ".git"]
        for name in names:
            full = os.path.join(base, name)
            path = os.path.relpath(full, clone)
            if os.path.islink(full) or not wanted(path, include, exclude):
                continue
            with open(full, "rb") as handle:
                match = POINTER.match(handle.read(1024).decode("utf-8", "replace"))
            if match:
                pointers[path] = (match.group(1), int(match.group(2)))
            else:
                plain.append(path)
    return _batch(client, source["url"], pointers, token), plain, commit


def _clone(source, clone, token, run):
    # Anew each time: git, when it is killed, leaves what looks like a repository, and it is small without its weights.
    shutil.rmtree(clone, ignore_errors=True)
    environment = dict(os.environ, GIT_LFS_SKIP_SMUDGE="1", GIT_TERMINAL_PROMPT="0")
    if token:
        # In the environment, not in argv; git sends it to this URL only.
        environment.update(
            GIT_CONFIG_COUNT="1",
            GIT_CONFIG_KEY_0="http.%s.extraHeader" % source["url"],
            GIT_CONFIG_VALUE_0="Authorization: Bearer %s" % token,
        )
    command = ["git", "-c", "filter.lfs.smudge=", "-c", "filter.lfs.required=false", "clone", "--quiet", "--depth", "1"]
    if source.get("revision"):
        command += ["--branch", source["revision"]]
    try:
        done = run(
            command + ["--", source["url"], clone], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except FileNotFoundError:
        raise Failure(["git is not installed on this host"], "install git, or use another source") from None
    if done.returncode:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        raise HttpError("%s: git clone failed: %s" % (shown(source["url"]), lines[-1] if lines else "no message"), 0)


def _batch(client, url, pointers, token):
    """Download addresses of LFS objects, from the batch API."""
    if not pointers:
        return []
    base = url if url.endswith(".git") else url.rstrip("/") + ".git"
    request = {
        "operation": "download",
        "transfers": ["basic"],
        "objects": [{"oid": oid, "size": size} for oid, size in sorted(set(pointers.values()))],
    }
    headers = {"Accept": "application/vnd.git-lfs+json", "Content-Type": "application/vnd.git-lfs+json"}
    if token:
        headers["Authorization"] = "Bearer %s" % token
    body, _answered, final = client.read(base + "/info/lfs/objects/batch", headers, body=json.dumps(request).encode())
    actions = {}
    for item in json.loads(body.decode("utf-8")).get("objects", []):
        if "error" in item:
            raise HttpError("%s: object %s: %s" % (shown(final), item["oid"][:12], item["error"].get("message")), 0)
        actions[item["oid"]] = item["actions"]["download"]
    files = []
    for path, (oid, size) in sorted(pointers.items()):
        action = actions[oid]
        files.append(Remote(path, size, urllib.parse.urljoin(final, action["href"]), action.get("header") or {}, oid))
    return files
