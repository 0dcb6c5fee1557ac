# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP GET for targets that have only the standard library: safe redirects, retries, proxies.

A secret (``Authorization``) is sent to the host it was given for and to no other: hubs redirect
downloads to storage hosts, and urllib would carry the header along.
"""

from __future__ import annotations

import email.utils
import http.client
import random
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

RETRIED = (408, 429, 500, 502, 503, 504)
USER_AGENT = "dsdeploy"


class HttpError(Exception):
    """A request that failed for good. ``status`` is the HTTP status, or ``None`` when there was no answer."""

    def __init__(self, message, status=None):
        super().__init__(message)
        self.status = status


def origin(url):
    """``(scheme, host, port)`` of a URL: what a secret is bound to."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def without_userinfo(url):
    """The URL without user and password, for messages and records."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def shown(url):
    """The URL for messages: no user, no password, no query (storage hosts sign their URLs in the query)."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if origin(req.full_url)[0] == "https" and origin(newurl)[0] != "https":
            raise HttpError("%s redirects to a host without TLS, %s: refused" % (shown(req.full_url), shown(newurl)), 0)
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and origin(newurl) != origin(req.full_url):
            for store in (new.headers, new.unredirected_hdrs):
                for name in [name for name in store if name.lower() in ("authorization", "cookie")]:
                    del store[name]
        return new


class Client:
    """GET with time-outs and retries.

    :param timeout: seconds without a byte before a connection counts as dead.
    :param retries: further attempts after a failed one.
    :param ca_file: certificate bundle (PEM); ``None``: the system's.
    :param proxy: proxy URL; ``None``: the environment's.
    :param sleep: replaced by tests.
    """

    def __init__(self, timeout=60, retries=5, ca_file=None, proxy=None, sleep=time.sleep):
        self.timeout = timeout
        self.retries = retries
        self.sleep = sleep
        handlers = [_SafeRedirects(), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file))]
        if proxy:
            handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
        self._opener = urllib.request.build_opener(*handlers)

    def open(self, url, headers=None):
        """Open a URL once; returns the response, raises `HttpError`."""
        request = urllib.request.Request(url, headers=dict({"User-Agent": USER_AGENT}, **(headers or {})))
        try:
            return self._opener.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            wait = error.headers.get("Retry-After") if error.headers else None
            failure = HttpError("%s answered %d %s" % (shown(url), error.code, error.reason), error.code)
            failure.retry_after = wait
            error.close()
            raise failure from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise HttpError("%s: %s" % (shown(url), getattr(error, "reason", None) or error)) from None

    def read(self, url, headers=None, limit=64 * 1024 * 1024):
        """Return (body, headers, final URL) of a small document, with retries."""

        def attempt():
            with self.open(url, headers) as response:
                try:
                    body = response.read(limit + 1)
                except (http.client.HTTPException, OSError) as error:
                    raise HttpError("%s broke off: %s" % (shown(url), error)) from None
                if len(body) > limit:
                    raise HttpError("%s is larger than %d bytes: not the expected document" % (shown(url), limit), 0)
                return body, response.headers, response.geturl()

        return self.retrying(attempt)

    def retrying(self, attempt, retries=None):
        """Call ``attempt`` until it does not raise a passing `HttpError`, with back-off and jitter."""
        retries = self.retries if retries is None else retries
        for number in range(retries + 1):
            try:
                return attempt()
            except HttpError as error:
                if number == retries or not is_passing(error):
                    raise
                self.sleep(back_off(number, getattr(error, "retry_after", None)))


def is_passing(error):
    """Whether trying again can help: no answer at all, or a status that hubs use under load."""
    return error.status is None or error.status in RETRIED


def back_off(number, retry_after=None, longest=60.0):
    """Seconds to wait after failed attempt ``number`` (0-based): the server's wish, else 1, 2, 4 ... with jitter."""
    if retry_after:
        if retry_after.strip().isdigit():
            return min(float(retry_after), longest)
        when = email.utils.parsedate_to_datetime(retry_after) if "," in retry_after else None
        if when is not None:
            return max(0.0, min(when.timestamp() - time.time(), longest))
    return min(longest, 2.0**number) * random.uniform(0.5, 1.0)
