# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP GET for targets that have only the standard library: safe redirects, retries, proxies, time limits.

A secret (``Authorization``) is sent to the host it was given for and to no other: hubs redirect
downloads to storage hosts, and urllib would carry the header along.

No server holds a run for ever: the head of an answer must be there within the time-out, a small document within
`SMALL_TIME`, and a large body must come at `MIN_SPEED` at least.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import random
import re
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import bounded, foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.hints import hint_for

RETRIED = (408, 429, 500, 502, 503, 504)
USER_AGENT = "dsdeploy"
MOST_DOCUMENT = 32 * 1024 * 1024  # bytes of a small document: a listing, a page of an index
SMALL_TIME = 300.0  # s for a small document as a whole
MIN_SPEED = 256  # bytes a second of one connection, over `SPEED_WINDOW` s of waiting for bytes
SPEED_WINDOW = 60.0
COMPRESSED_HINT = "the mirror or a proxy before it compresses what it passes on: use another one"
PROXY_HINT = "correct http_proxy and https_proxy, of dsdeploy_mirrors or of the host's environment"


class HttpError(Failure):
    """A request that failed for good.

    :ivar status: the HTTP status; ``None`` when there was no answer, 0 when the answer is not what was asked for.
    :ivar code: what a hub says of it in ``X-Error-Code`` (``RepoNotFound``, ``GatedRepo``, ...), or "".
    :ivar retry_after: the server's ``Retry-After``, or the seconds of its ``RateLimit``, or ``None``.
    """

    def __init__(self, message, status=None, hint="", code="", retry_after=None):
        super().__init__(message, hint or hint_for(message), "")
        self.status = status
        self.code = code
        self.retry_after = retry_after


def origin(url):
    """``(scheme, host, port)`` of a URL: what a secret is bound to. Of what is no URL: empty and ``None``."""
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme, (parts.hostname or "").lower(), parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "", "", None


def without_userinfo(url):
    """The URL without user and password, for messages and records."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def shown(url):
    """The URL for messages: no user, no password, no query (storage hosts sign their URLs in the query)."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "an address that is none"
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    return foreign.one_line(urllib.parse.urlunsplit(bare), 400)


class Pace:
    """How long one connection may take: until a deadline, or as long as it is not too slow.

    :param timeout: seconds without a byte.
    """

    def __init__(self, timeout, clock=time.monotonic):
        self.timeout = timeout
        self._clock = clock
        self.within(timeout)

    def within(self, seconds):
        """From now on everything must be there in so many seconds; ``None``: at `MIN_SPEED`."""
        self._deadline = None if seconds is None else self._clock() + seconds
        self._waited, self._got = 0.0, 0

    def left(self):
        """Seconds that the next read may take."""
        if self._deadline is None:
            return self.timeout
        left = self._deadline - self._clock()
        if left <= 0:
            raise socket.timeout("it was not complete in time")
        return min(left, self.timeout)

    def read(self, seconds, count):
        """Note that a read took so long and gave so many bytes. Time that the reader itself takes does not count."""
        self._waited += seconds
        self._got += count
        if self._waited >= SPEED_WINDOW and self._deadline is None:
            if self._got < MIN_SPEED * self._waited:
                raise TooSlow("%d bytes in %d s: too slow" % (self._got, self._waited))
            self._waited, self._got = 0.0, 0


class TooSlow(OSError):
    """A connection that gives bytes, but too few."""


class Response:
    """An answer whose body is still to be read. ``url`` is the final URL, after redirects."""

    def __init__(self, raw, connection, url, pace):
        self._raw = raw
        self._connection = connection
        self.pace = pace
        self.url = url
        self.status = raw.status
        self.reason = raw.reason
        self.headers = raw.headers
        self.length = raw.length  # bytes of the body, where the server tells
        encoding = (raw.headers.get("Content-Encoding") or "").strip().lower()
        self.encoding = "" if encoding == "identity" else encoding  # never asked for

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


class _Tunnelled(http.client.HTTPSConnection):
    """One that asks a proxy for an IPv6 address as RFC 9110 has it, in brackets; newer Pythons do that."""

    def _tunnel(self):
        host = self._tunnel_host
        if ":" in host:
            self._tunnel_host = "[%s]" % host
        try:
            super()._tunnel()
        finally:
            self._tunnel_host = host  # TLS compares it with the certificate


class Client:
    """HTTP requests with persistent connections (one per thread and host), time-outs, proxies and retries.

    :param timeout: seconds without a byte before a connection counts as dead.
    :param retries: further attempts after a failed one.
    :param ca_file: certificate bundle (PEM); ``None``: the system's.
    :param proxy: proxy URL; ``None``: the environment's; "": none.
    :param follow: whether redirects are followed.
    :param sleep: replaced by tests.
    """

    def __init__(self, timeout=60, retries=5, ca_file=None, proxy=None, sleep=time.sleep, *, follow=True):
        self.timeout = timeout
        self.follow = follow
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
            if not self.follow:
                response.__exit__()
                raise HttpError("%s redirects unexpectedly" % shown(url), 0)
            target = _target_of(url, response.headers.get("Location"))
            response.read(65536)
            response.__exit__()
            if origin(target)[0] not in ("http", "https") or not origin(target)[1]:
                raise HttpError("%s redirects to an address that is not http(s)" % shown(url), 0)
            if origin(url)[0] == "https" and origin(target)[0] != "https":
                raise HttpError("%s redirects to a host without TLS, %s: refused" % (shown(url), shown(target)), 0)
            if origin(target) != origin(url):
                headers = dict((k, v) for k, v in headers.items() if k.lower() not in ("authorization", "cookie"))
            url = target
        else:
            raise HttpError("%s redirects in a loop" % shown(url), 0)
        if response.status >= 400:
            raise self._refusal(url, response)
        return response

    def _refusal(self, url, response):
        """What an answer from 400 on says, as an `HttpError`."""
        try:
            body = response.read(4096)
        except HttpError:
            body = b""
        response.__exit__()
        said = "%s answered %d %s" % (shown(url), response.status, foreign.one_line(response.reason, 60))
        said = said.strip()
        try:
            said += ": " + foreign.error_text(foreign.loads(body))
        except ValueError:
            pass  # a page for people; the status says enough
        code = response.headers.get("X-Error-Code") or ""
        hint = next((hint for name, hint in _HUB_HINTS.items() if name == code), "")
        wait = response.headers.get("Retry-After") or _reset_of(response.headers.get("RateLimit"))
        return HttpError(said, response.status, hint, code, wait)

    def _request(self, url, headers, body):
        for attempt in (1, 2):
            via = self._via(url)
            connection, target, reused, pace = self._connection(url, via)
            try:
                pace.within(self.timeout)
                if connection.sock is not None:
                    connection.sock.settimeout(self.timeout)
                sent = dict(headers, **_for_the_proxy(url, via))
                connection.request("GET" if body is None else "POST", target, body=body, headers=sent)
                raw = connection.getresponse()
                pace.within(None)
                return Response(raw, connection, url, pace)
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                # A kept connection may have been closed by the server meanwhile: that says nothing about it.
                if attempt == 2 or not reused or isinstance(error, socket.timeout):
                    raise HttpError("%s: %s" % (shown(url), _words(error))) from None
            except ValueError:
                connection.close()
                # Not the error's own words: they show a header, which may hold a token.
                raise HttpError(
                    "%s: the address or a header holds characters that cannot be sent" % shown(url), 0
                ) from None
        return None

    def _connection(self, url, via):
        """``(connection, request target, whether it was used before, its pace)`` of this thread for the URL's host."""
        scheme, host, port = origin(url)
        pool = self._local.__dict__.setdefault("pool", {})
        parts = urllib.parse.urlsplit(url)
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        if via and scheme == "http":
            target = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        key = (scheme, host, port, via)
        if key in pool:
            connection, pace = pool[key]
            return connection, target, connection.sock is not None, pace
        where = (via.hostname, via.port or 80) if via else (host, port)
        if scheme == "https":
            connection = _Tunnelled(*where, timeout=self.timeout, context=self._context)
            if via:
                connection.set_tunnel(host, port, headers=_proxy_authorization(via))
        else:
            connection = http.client.HTTPConnection(*where, timeout=self.timeout)
        pace = Pace(self.timeout)
        bounded.bound(connection, pace.left, pace.read)
        pool[key] = connection, pace
        return connection, target, False, pace

    def _via(self, url):
        """The proxy for a URL, split; ``None`` where there is none."""
        scheme, host, _port = origin(url)
        proxy = self._proxy
        if proxy is None and not urllib.request.proxy_bypass(host):
            proxy = urllib.request.getproxies().get(scheme)
        if not proxy:
            return None
        # Many settings name it without a scheme, as curl takes it.
        via = proxy if "://" in proxy else "http://" + proxy
        kind, name, _port = origin(via)
        if not name or kind not in ("http", "https"):
            # Its own words may hold a password.
            said = "the %s proxy is %s" % (scheme, "one of %s" % foreign.one_line(kind, 20) if name else "no address")
            raise HttpError(
                "%s: %s; one such as http://proxy.example:3128 is needed" % (shown(url), said), 0, PROXY_HINT
            )
        return urllib.parse.urlsplit(via)

    def read(self, url, headers=None, limit=MOST_DOCUMENT, body=None):
        """Return (body, headers, final URL) of a small document, with retries."""

        def attempt():
            with self.open(url, headers, body) as response:
                if response.encoding:
                    raise HttpError(compressed(response), 0, COMPRESSED_HINT)
                response.pace.within(SMALL_TIME)
                text = response.read(limit + 1)
                if len(text) > limit:
                    raise HttpError("%s is larger than %d bytes: not the expected document" % (shown(url), limit), 0)
                if len(text) < (response.length or 0):
                    raise HttpError("%s broke off after %d bytes" % (shown(url), len(text)))
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
                self.sleep(back_off(number, error.retry_after))


# What Hugging Face and its mirrors say in X-Error-Code. A repository that one may not see answers RepoNotFound, too.
_HUB_HINTS = {
    "RepoNotFound": "check the repository's id; one that is private or gated needs a token in model_tokens",
    "GatedRepo": "the hub asks for a token: accept the model's licence there, and set model_tokens",
    "RevisionNotFound": "check the revision of the source",
    "EntryNotFound": "check the path of the file, and the revision of the source",
}


def _reset_of(limit):
    """Seconds, as text, until an allowance that is used up is filled again: 55 of ``"api";r=0;t=55``, what Hugging Face
    sends as ``RateLimit`` in place of ``Retry-After`` (draft-ietf-httpapi-ratelimit-headers). ``None``: unknown."""
    waits = [
        int(found.group(1))
        for item in (limit or "").split(",")
        if re.search(r";\s*r\s*=\s*0\s*(?:;|$)", item)
        for found in [re.search(r";\s*t\s*=\s*([0-9]{1,6})\s*(?:;|$)", item)]
        if found
    ]
    return str(max(waits)) if waits else None


def _target_of(url, location):
    """Where a redirect leads; "" for what is no address."""
    try:
        # A header is Latin-1 for http.client, and UTF-8 for the servers that write such addresses.
        location = (location or "").encode("latin-1", "replace").decode("utf-8", "replace")
        return urllib.parse.quote(urllib.parse.urljoin(url, location), safe="%/:=&?~#+!$,;'@()*[]") if location else ""
    except ValueError:
        return ""


def _for_the_proxy(url, via):
    """Headers for a proxy that is asked for the URL itself; of a tunnel it gets its own."""
    return _proxy_authorization(via) if via and origin(url)[0] == "http" else {}


def compressed(response):
    """One line on an answer that came in another encoding than was asked for."""
    said = foreign.one_line(response.encoding, 40)
    return "%s came compressed (Content-Encoding: %s), which was not asked for" % (shown(response.url), said)


def _words(error):
    return foreign.one_line(str(error) or type(error).__name__)


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
        if re.match(r"\s*[0-9]{1,6}\s*$", retry_after):
            return min(float(retry_after), longest)
        try:
            when = email.utils.parsedate_to_datetime(retry_after)
            return max(0.0, min(when.timestamp() - time.time(), longest))
        except (TypeError, ValueError, OverflowError, IndexError):
            pass  # no date: our own pauses
    return min(longest, 2.0**number) * random.uniform(0.5, 1.0)
