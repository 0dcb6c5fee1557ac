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
import time
import urllib.parse

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.hints import hint_for
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import catalog
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import Remote
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import HttpError, origin, shown

MODELSCOPE_MOST_FILES = 3000  # the listing is cut there without a word
MOST_FILES = 20000  # of a model; Hugging Face lists 1000 a page
MOST_PAGES = 100
LISTING_TIME = 600.0  # s for all pages of a listing
MOST_LISTING = 16 * 1024 * 1024  # bytes of one page
MOST_SIZE = 2**50  # bytes of a file
COMMIT = re.compile(r"[0-9A-Fa-f]{40}\Z")
SHA256 = "[0-9a-f]{64}"
GIT_OID = "[0-9a-f]{40}"
POINTER = re.compile(
    r"version https://git-lfs\.github\.com/spec/v1\n(?:[a-z0-9.-]+ [^\n]*\n)*?"
    r"oid sha256:([0-9a-f]{64})\nsize (\d{1,15})\n"
)
LICENCE_HINT = "the hub asks for a token: accept the model's licence there, and set model_tokens"
CLONE = ".dsdeploy-clone"  # below the scratch directory; no file of a model can have this name
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


def _json(client, url, headers, body=None):
    """The document at a URL as a `Foreign`, and its headers."""
    text, answered, final = client.read(url, headers, limit=MOST_LISTING, body=body)
    return foreign.parse(text, shown(final), MOST_LISTING), answered


def _path(item, key, include, exclude):
    """The path of an item of a listing, or ``None`` when it is not wanted. A name that cannot be is refused."""
    path = item.text(key, most=64 * 1024)
    if not wanted(path, include, exclude):
        return None
    problem = catalog.path_problem(path)
    if problem:
        raise Failure("%s lists a file %s: %s" % (item.what, foreign.one_line(ascii(path), 120), problem))
    return path


def _listed(files, what):
    """The files of a listing, when they can lie in one directory."""
    problem = catalog.clash([remote.path for remote in files])
    if problem:
        raise Failure("%s: %s" % (what, problem))
    return files


def is_commit(text):
    """Whether this is the whole name of a commit."""
    return isinstance(text, str) and COMMIT.match(text) is not None


def _same_commit(what, asked, commit):
    """Refuse an answer about another commit than the one that was asked for."""
    if is_commit(asked) and (commit or "").lower() != asked.lower():
        raise Failure(
            "%s: asked for commit %s, it answers %s" % (what, asked, commit or "none"),
            "this hub serves something else: use another mirror, or correct the revision",
        )


def huggingface(client, endpoint, source, include, exclude, token=None):
    """Files of a Hugging Face repository, all of one commit."""
    headers = {"Authorization": "Bearer %s" % token} if token else {}
    base = endpoint.rstrip("/")
    revision = source.get("revision") or "main"
    asked = urllib.parse.quote(revision, safe="")
    info, _headers = _json(client, "%s/api/models/%s/revision/%s" % (base, source["id"], asked), headers)
    commit = info.text("sha", None, pattern="[0-9A-Za-z._-]{1,64}")
    _same_commit(info.what, revision, commit)
    commit = commit or revision
    at = urllib.parse.quote(commit, safe="")
    tree = "%s/api/models/%s/tree/%s" % (base, source["id"], at)
    query = "recursive=true&expand=false"
    files, pages, started = [], set(), time.monotonic()
    while query:
        if query in pages or len(pages) >= MOST_PAGES or time.monotonic() - started > LISTING_TIME:
            raise Failure("%s: its list of files does not end (%d pages)" % (shown(tree), len(pages)))
        pages.add(query)
        page, answered = _json(client, "%s?%s" % (tree, query), headers)
        for item in page.items():
            if item.text("type") != "file":
                continue
            path = _path(item, "path", include, exclude)
            if path is None:
                continue
            large = item.mapping("lfs", None)
            where = "%s/%s/resolve/%s/%s" % (base, source["id"], at, urllib.parse.quote(path))
            files.append(
                Remote(
                    path=path,
                    size=(large or item).count("size", most=MOST_SIZE),
                    url=where,
                    headers=headers,
                    sha256=large.text("oid", pattern=SHA256) if large else None,
                    git_sha1=None if large else item.text("oid", None, pattern=GIT_OID),
                )
            )
            if len(files) > MOST_FILES:
                raise Failure("%s lists more than %d files" % (shown(tree), MOST_FILES))
        # What stands in front of a hub adds links of its own, in headers of their own.
        query = _next_page(", ".join(answered.get_all("Link") or []), shown(tree))
    return _listed(files, shown(tree)), commit


def _next_page(link, what):
    """The query of the next page, from the header ``Link``; "" for the last one. Failure where it cannot be read.

    Only the query: a mirror passes on what the hub behind it says, whose address is not the mirror's. The next page
    is asked for where this one came from.
    """
    following = re.search(r'<([^>]*)>\s*;(?:[^,<"]|"[^"]*")*?\brel\s*=\s*(?:"(?:[^"]*\s)?|)next\b', link or "", re.I)
    if not following:
        return ""
    try:
        query = urllib.parse.urlsplit(following.group(1)).query
    except ValueError:
        query = ""
    if not query:
        raise Failure("%s: where its list of files goes on cannot be read: %s" % (what, foreign.one_line(link, 120)))
    return urllib.parse.quote(query, safe="%/:=&?~+!$,;'@()*[]")


def modelscope(client, endpoint, source, include, exclude, token=None):
    """Files of a ModelScope repository.

    Which commit they are of it tells in ``LatestCommitter``: by its ``Id``, only by the ``ShortId``, or not at all.
    """
    headers = {"Authorization": "Bearer %s" % token, "Cookie": "m_session_id=%s" % token} if token else {}
    base = "%s/api/v1/models/%s/repo" % (endpoint.rstrip("/"), source["id"])
    revision = source.get("revision") or "master"
    asked = urllib.parse.quote(revision, safe="")
    answer, _headers = _json(client, "%s/files?Revision=%s&Recursive=True" % (base, asked), headers)
    data = answer.mapping("Data", None)
    if answer.flag("Success", True) is False or data is None:
        said = foreign.one_line(answer.value.get("Message") or answer.value.get("message") or "no file list")
        raise HttpError("%s: %s" % (answer.what, said), 0)
    if not data.has("Files"):
        # What the hub answers, as a success, for a revision that it does not have.
        hint = "check the revision of the source: branches are called master there, not main"
        raise HttpError("%s: no such revision: %s" % (answer.what, foreign.one_line(revision, 80)), 0, hint)
    items = list(data.items("Files", most=MOST_FILES))
    if len(items) >= MODELSCOPE_MOST_FILES:
        raise HttpError("%s lists %d files, more than the hub returns at once" % (answer.what, len(items)), 0)
    files = []
    for item in items:
        if item.text("Type", "blob") == "tree":
            continue
        path = _path(item, "Path", include, exclude)
        if path is None:
            continue
        where = "%s?Revision=%s&FilePath=%s" % (base, asked, urllib.parse.quote(path, safe=""))
        sha256 = item.text("Sha256", None, pattern=SHA256 + "|") or None
        files.append(Remote(path, item.count("Size", most=MOST_SIZE), where, headers, sha256))
    commit = _modelscope_commit(data, items)
    if commit:
        _same_commit(answer.what, revision, commit)
    return _listed(files, answer.what), commit or revision


def _modelscope_commit(data, items):
    latest = data.mapping("LatestCommitter", None)
    if latest is None:
        return None
    commit, short = latest.text("Id", ""), latest.text("ShortId", "")
    if is_commit(commit):
        return commit
    fitting = set(
        item.value.get("Revision")
        for item in items
        if short and is_commit(item.value.get("Revision")) and item.value["Revision"].startswith(short)
    )
    return fitting.pop() if len(fitting) == 1 else None


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
    return _listed(files, source["base"]), None


def _size_of(client, url, headers):
    with client.open(url, dict(headers, Range="bytes=0-0")) as response:
        total = (response.headers.get("Content-Range") or "").rpartition("/")[2]
        total = total if response.status == 206 else response.headers.get("Content-Length")
        if not re.match(r"[0-9]{1,15}\Z", total or ""):
            raise HttpError("%s does not report its size; give it as bytes in the entry's files" % shown(url), 0)
        return int(total)


def git_lfs(client, source, include, exclude, scratch, token=None, run=subprocess.run):
    """Files of a git repository with git-lfs: pointers from a shallow clone, bytes from the batch API.

    :param scratch: directory for the clone; git is needed on the host, git-lfs is not.
    """
    clone = os.path.join(scratch, CLONE)
    _clone(source, clone, token, run)
    done = run(["git", "-C", clone, "rev-parse", "HEAD"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    commit = done.stdout.decode("ascii", "replace").strip()
    _same_commit(shown(source["url"]), source.get("revision"), commit)
    pointers, plain = {}, []
    for base, directories, names in os.walk(clone):
        directories[:] = [name for name in directories if name != ".git"]
        for name in names:
            full = os.path.join(base, name)
            path = _path(foreign.Foreign(os.path.relpath(full, clone), shown(source["url"])), "", include, exclude)
            if path is None or not os.path.isfile(full) or os.path.islink(full):
                continue
            with open(full, "rb") as handle:
                match = POINTER.match(handle.read(1024).decode("utf-8", "replace"))
            if match:
                pointers[path] = (match.group(1), int(match.group(2)))
            else:
                plain.append(path)
    problem = catalog.clash(list(pointers) + plain)
    if problem:
        raise Failure("%s: %s" % (shown(source["url"]), problem))
    return _batch(client, source["url"], pointers, token), plain, commit


def _clone(source, clone, token, run):
    # Anew each time: git, when it is killed, leaves what looks like a repository, and it is small without its weights.
    shutil.rmtree(clone, ignore_errors=True)
    git = _git()
    revision = source.get("revision")
    if is_commit(revision):
        # A commit is no branch: git verifies that what it gets is the commit, with all its files.
        inside = git + ["-C", clone]
        commands = [
            git + ["init", "--quiet", clone],
            inside + ["fetch", "--quiet", "--depth", "1", source["url"], revision],
            inside + ["checkout", "--quiet", "--detach", "FETCH_HEAD"],
        ]
    else:
        branch = ["--branch", revision] if revision else []
        commands = [git + ["clone", "--quiet", "--depth", "1"] + branch + ["--", source["url"], clone]]
    for command in commands:
        _run_git(command, source, token, run)


def git_answers(source, token=None, run=subprocess.run):
    """Ask a git repository for its branches, and for the one that is wanted. Failure where a clone would fail."""
    revision = source.get("revision")
    branch = [] if is_commit(revision) or not revision else [revision]
    done = _run_git(_git() + ["ls-remote", "--", source["url"]] + branch, source, token, run)
    if branch and not done.stdout.strip():
        raise HttpError("%s has no branch or tag %s" % (shown(source["url"]), revision), 0)


def _git():
    git = ["git", "-c", "filter.lfs.smudge=", "-c", "filter.lfs.required=false"]
    # A server that stops sending, or nearly, does not hold the run.
    return git + ["-c", "http.lowSpeedLimit=256", "-c", "http.lowSpeedTime=60"]


def _run_git(command, source, token, run):
    environment = dict(os.environ, GIT_LFS_SKIP_SMUDGE="1", GIT_TERMINAL_PROMPT="0")
    if token:
        # In the environment, not in argv; git sends it to this URL only.
        environment.update(
            GIT_CONFIG_COUNT="1",
            GIT_CONFIG_KEY_0="http.%s.extraHeader" % source["url"],
            GIT_CONFIG_VALUE_0="Authorization: Bearer %s" % token,
        )
    try:
        done = run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise Failure("git is not installed on this host", "install git, or use another source") from None
    if done.returncode:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        said = foreign.one_line(lines[-1] if lines else "no message")
        raise HttpError("%s: git failed: %s" % (shown(source["url"]), said), 0, hint_for(lines))
    return done


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
    where = base + "/info/lfs/objects/batch"
    answer, _answered = _json(client, where, headers, json.dumps(request).encode())
    actions = {}
    for item in answer.items("objects", most=MOST_FILES):
        oid = item.text("oid", pattern=SHA256)
        if item.has("error"):
            raise HttpError("%s: object %s: %s" % (item.what, oid[:12], foreign.error_text(item.value["error"])), 0)
        action = item.mapping("actions.download")
        href = action.text("href", most=16384, pattern="[\\x21-\\x7e]+")
        try:
            href = urllib.parse.urljoin(where, href)
        except ValueError:
            href = ""
        if origin(href)[0] not in ("http", "https") or (origin(href)[0] == "http" and origin(where)[0] == "https"):
            raise HttpError("%s: object %s has no address that may be used" % (item.what, oid[:12]), 0)
        more = action.mapping("header", None)
        actions[oid] = (
            href,
            dict((key, value.text("", most=16384, pattern="[ -~]*")) for key, value in more.entries()) if more else {},
        )
    files = []
    for path, (oid, size) in sorted(pointers.items()):
        if oid not in actions:
            raise HttpError("%s gives no address for %s" % (answer.what, path), 0)
        href, header = actions[oid]
        files.append(Remote(path, size, href, header, oid))
    return files
