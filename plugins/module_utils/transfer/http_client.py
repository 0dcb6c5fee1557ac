# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP GET for targets that have only the standard library: safe redirects, retries, proxies.

A secret (``Authorization``) is sent to the host it was given for and to no other: hubs redirect
downloads to storage hosts, and urllib would carry the header along.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import random
import socket
import ssl
import threading
import time
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


class Response:
    """An answer whose body is still to be read. ``url`` is the final URL, after redirects."""

    def __init__(self, raw, connection, url):
        self._raw = raw
        self._connection = connection
        self.url = url
        self.status = raw.status
        self.reason = raw.reason
        self.headers = raw.headers

    def read(self, limit):
        """At most ``limit`` bytes of the body."""
        return self._guarded(self._raw.read, limit)

    def readinto(self, view):
        """Fill ``view`` as far as the body reaches; 0 at its end."""
        return self._guarded(self._raw.readinto, view)

    def _guarded(self, call, argument):
        try:
            return call(argument)
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise HttpError("%s broke off: %s" % (shown(self.url), _words(error))) from None

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        # A connection is used again only when its last body was read to the end.
        if not self._raw.isclosed():
            self._connection.close()


class Client:
    """HTTP requests with persistent connections (one per thread and host), time-outs, proxies and retries.

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
        self._proxy = proxy
        self._context = ssl.create_default_context(cafile=ca_file)
        self._local = threading.local()

    def open(self, url, headers=None, body=None):
        """GET (or POST ``body``) once, following redirects; returns a `Response`, raises `HttpError`.

        ``Authorization`` and cookies are dropped as soon as a redirect leaves the origin.
        """
        headers = dict({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}, **(headers or {}))
        for _hop in range(10):
            response = self._request(url, headers, body)
            if response.status not in (301, 302, 303, 307, 308):
                break
            target = urllib.parse.urljoin(url, response.headers.get("Location") or "")
            response.read(65536)
            response.__exit__()
            if origin(target)[0] not in ("http", "https"):
                raise HttpError("%s redirects to no http(s) address" % shown(url), 0)
            if origin(url)[0] == "https" and origin(target)[0] != "https":
                raise HttpError("%s redirects to a host without TLS, %s: refused" % (shown(url), shown(target)), 0)
            if origin(target) != origin(url):
                headers = dict((k, v) for k, v in headers.items() if k.lower() not in ("authorization", "cookie"))
            url = target
        else:
            raise HttpError("%s redirects in circles" % shown(url), 0)
        if response.status >= 400:
            failure = HttpError("%s answered %d %s" % (shown(url), response.status, response.reason), response.status)
            failure.retry_after = response.headers.get("Retry-After")
            response.__exit__()
            raise failure
        return response

    def _request(self, url, headers, body):
        for attempt in (1, 2):
            connection, target, reused = self._connection(url)
            try:
                connection.request("GET" if body is None else "POST", target, body=body, headers=headers)
                return Response(connection.getresponse(), connection, url)
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                # A kept connection may have been closed by the server meanwhile: that says nothing about it.
                if attempt == 2 or not reused or isinstance(error, socket.timeout):
                    raise HttpError("%s: %s" % (shown(url), _words(error))) from None
        return None

    def _connection(self, url):
        """``(connection, request target, whether it was used before)`` of this thread for the URL's host."""
        scheme, host, port = origin(url)
        pool = self._local.__dict__.setdefault("pool", {})
        proxy = self._proxy or (None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(scheme))
        parts = urllib.parse.urlsplit(url)
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        if proxy and scheme == "http":
            target = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        key = (scheme, host, port, proxy)
        if key in pool:
            return pool[key], target, pool[key].sock is not None
        via = urllib.parse.urlsplit(proxy) if proxy else None
        where = (via.hostname, via.port or 80) if via else (host, port)
        if scheme == "https":
            connection = http.client.HTTPSConnection(*where, timeout=self.timeout, context=self._context)
            if via:
                connection.set_tunnel(host, port, headers=_proxy_authorization(via))
        else:
            connection = http.client.HTTPConnection(*where, timeout=self.timeout)
        pool[key] = connection
        return connection, target, False

    def read(self, url, headers=None, limit=64 * 1024 * 1024, body=None):
        """Return (body, headers, final URL) of a small document, with retries."""

        def attempt():
            with self.open(url, headers, body) as response:
                text = response.read(limit + 1)
                if len(text) > limit:
                    raise HttpError("%s is larger than %d bytes: not the expected document" % (shown(url), limit), 0)
                return text, response.headers, response.url

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


def _words(error):
    return str(error) or type(error).__name__


def _proxy_authorization(proxy):
    if not proxy.username:
        return {}
    userinfo = urllib.parse.unquote("%s:%s" % (proxy.username, proxy.password or ""))
    return {"Proxy-Authorization": "Basic %s" % base64.b64encode(userinfo.encode()).decode()}


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
