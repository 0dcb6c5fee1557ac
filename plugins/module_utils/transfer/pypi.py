# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find a file in a Python package index, with pip's own configuration but without pip.

A minimal Debian has no pip; the index protocol (PEP 503 HTML, PEP 691 JSON) is a page of links.
"""

from __future__ import annotations

import base64
import configparser
import html.parser
import os
import re
import urllib.parse

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer import http_client
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import (
    HttpError,
    origin,
    shown,
    without_userinfo,
)

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"

INDEX_HINT = "Is the package index reachable from this host? A mirror goes into dsdeploy_mirrors.pypi_index."

PIP_KEYS = ("index-url", "extra-index-url", "find-links", "cert", "proxy")


def pip_config(environ, read=None):
    """What pip on this host would use, of `PIP_KEYS` what is set.

    Order as in pip: global file, user file, virtual environment's file, ``PIP_CONFIG_FILE``, environment.
    Source: pip documentation, "Configuration".

    :param environ: the environment (mapping).
    :param read: ``path -> text or None``; tests replace it.
    """
    read = read or _read_text
    home = environ.get("HOME", "")
    files = [
        *("%s/pip/pip.conf" % directory for directory in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")),
        "/etc/pip.conf",
        "%s/.pip/pip.conf" % home,
        "%s/pip/pip.conf" % (environ.get("XDG_CONFIG_HOME") or "%s/.config" % home),
    ]
    if environ.get("VIRTUAL_ENV"):
        files.append("%s/pip.conf" % environ["VIRTUAL_ENV"])
    if environ.get("PIP_CONFIG_FILE") == os.devnull:
        files = []
    elif environ.get("PIP_CONFIG_FILE"):
        files.append(environ["PIP_CONFIG_FILE"])
    found = {}
    for path in files:
        text = read(path)
        if text is None:
            continue
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(text)
        except configparser.Error:
            continue  # pip itself will complain to its user; an unreadable file configures nothing here
        for section in ("global", "download"):
            for key in PIP_KEYS:
                if parser.has_option(section, key):
                    found[key] = parser.get(section, key).strip()
    for key in PIP_KEYS:
        value = environ.get("PIP_" + key.upper().replace("-", "_"))
        if value:
            found[key] = value
    return found


def _read_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return None


def index_urls(mirror, config, default):
    """Index URLs in the order to try: dsdeploy's mirror alone if one is set, else pip's, else the default."""
    if mirror:
        return [mirror]
    urls = [config.get("index-url") or default or ""] + config.get("extra-index-url", "").split()
    return [url for url in urls if url.startswith(("http://", "https://"))]


class _Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.hrefs = []

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.hrefs.extend(value for key, value in attrs if key == "href" and value)


def file_url(page, content_type, base, name):
    """URL of file ``name`` (a wheel, an sdist) on a project page of an index, or ``None``.

    :param page: the body (bytes), JSON (PEP 691) or HTML (PEP 503).
    :param base: the page's own URL; links may be relative to it.
    """
    if "json" in content_type.lower():
        links = [item.text("url", "", most=16384) for item in foreign.parse(page, shown(base)).items("files", ())]
    else:
        parser = _Links()
        parser.feed(page.decode("utf-8", "replace"))
        links = parser.hrefs
    for link in links:
        try:
            url = urllib.parse.urljoin(base, link)
        except ValueError:
            continue  # no address
        if (
            origin(url)[0] in ("http", "https")
            and urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2]) == name
        ):
            return urllib.parse.urlunsplit(urllib.parse.urlsplit(url)._replace(fragment=""))
    return None


def _asked(index, project):
    """``(URL of a project's page, headers, headers with the secret of the index)``."""
    parts = urllib.parse.urlsplit(index)
    secret = {}
    if parts.username is not None:
        userinfo = "%s:%s" % (parts.username, parts.password or "")
        token = base64.b64encode(urllib.parse.unquote(userinfo).encode()).decode()
        secret = {"Authorization": "Basic %s" % token}
    normalized = re.sub(r"[-_.]+", "-", project).lower()
    return "%s/%s/" % (without_userinfo(index).rstrip("/"), normalized), {"Accept": ACCEPT}, secret


def require_answer(config, project, index="", default="", more=(), timeout=20, retries=1):
    """Ask the indexes that pip or uv would ask for a project's page: what cannot be reached will install nothing.

    An index that answers and has no such page is reached. Where packages are also taken from elsewhere
    (``find-links``), or no index is named at all, nobody can tell before: None is asked.

    :param config: of `pip_config`. ``more``: further indexes that would be asked.
    :raises HttpError: no index answers; the message names each and why.
    """
    reasons, hints = [], []
    indexes = index_urls(index, config, default) + list(more)
    if config.get("find-links"):
        return
    client = http_client.Client(timeout, retries, ca_file=config.get("cert"), proxy=config.get("proxy") or None)
    for one in indexes:
        url, headers, secret = _asked(one, project)
        try:
            client.read(url, dict(headers, **secret))
            return
        except HttpError as error:
            if error.status == 404:
                return
            reasons.append("%s" % error)
            hints.append(error.hint)
    if reasons:
        raise HttpError(
            "no package index answers for %s: %s" % (project, "; ".join(reasons)),
            hint=next(filter(None, hints), "") or INDEX_HINT,
        )


def find_file(client, indexes, project, name):
    """Ask the indexes in order; returns ``(url, headers for it)``.

    :raises HttpError: no index has the file; the message names each index and why.
    """
    reasons, hints = [], []
    for index in indexes:
        url, headers, secret = _asked(index, project)
        try:
            body, answered, page = client.read(url, dict(headers, **secret))
            found = file_url(body, answered.get("Content-Type", ""), page, name)
        except Failure as error:
            reasons.append("%s" % error)
            hints.append(error.hint)
            continue
        if found:
            return found, secret if origin(found) == origin(index) else {}
        reasons.append("%s has no %s" % (shown(url), name))
    raise HttpError(
        "no package index has %s: %s" % (name, "; ".join(reasons) or "no index is configured"),
        hint=next(filter(None, hints), ""),
    )
