"""A requests session in which every byte from the wire is counted, and the time that it took to come.

requests, urllib3 and http.client bound one line (64 kB), the lines of one head (100) and one wait (the timeout). They
do not bound how many interim answers come (http.client skips `100 Continue` for as long as it is sent), how slowly a
line drips, or what stands around the bytes of a chunked body (extensions of chunks, trailers); and requests reads the
body of a redirect to its end, decompressed. Here http.client reads its answers through `_Wire`, which asks `Watch`
before and after each wait, and redirects are followed with their bodies unread.
"""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, requote_uri, select_proxy

from weights.download.retry_policy import RetryPolicy

MOST_REDIRECTS = 10
STRAY = 1 << 20
"""Bytes of a body that nobody has asked for yet: an error's page."""

_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


class Overlong(OSError):
    """An answer that takes too many bytes or too long; an OSError, which is what urllib3 expects of a socket."""


class MalformedProxy(requests.exceptions.InvalidProxyURL):
    """A proxy's address that is none."""


class Watch:
    """The bytes and time that the answer to the present question may still take."""

    def __init__(self, patience: RetryPolicy) -> None:
        self._patience = patience
        self.ask()

    def ask(self) -> None:
        """A question is put: from now on the time runs, also over redirects and the answers of proxies."""
        self._deadline = time.monotonic() + self._patience.answer
        self._head_left = self._patience.head
        self.expect_head()

    def expect_head(self) -> None:
        """A status line and headers come next."""
        self._in_head = True

    def expect_body(self, count: int) -> None:
        """At most `count` bytes come next, which includes what chunks have around them."""
        self._in_head = False
        self._body_left = self._body = count
        self._waited, self._came = 0.0, 0

    def receive(self, raw: io.RawIOBase, sock: Any, buffer: memoryview) -> int | None:
        """One `recv`, if time and bytes are left for it; else Overlong."""
        return self._of_head(raw, sock, buffer) if self._in_head else self._of_body(raw, buffer)

    def _of_head(self, raw: io.RawIOBase, sock: Any, buffer: memoryview) -> int | None:
        if self._head_left <= 0:
            raise Overlong(f"more than {self._patience.head} bytes of headers")
        left, timeout = self._deadline - time.monotonic(), sock.gettimeout()
        late = Overlong(f"its headers were not there within {self._patience.answer:g} s")
        if left <= 0:
            raise late
        sock.settimeout(left if timeout is None else min(left, timeout))
        try:
            count: int | None = raw.readinto(buffer)
        except TimeoutError:
            if timeout is None or left < timeout:
                raise late from None
            raise
        finally:
            sock.settimeout(timeout)
        self._head_left -= count or 0
        return count

    def _of_body(self, raw: io.RawIOBase, buffer: memoryview) -> int | None:
        """The time that counts is that of waiting for the server, not what is done with the bytes in between."""
        if self._body_left <= 0:
            raise Overlong(f"more than {self._body} bytes came")
        began = time.monotonic()
        count: int | None = raw.readinto(buffer)
        self._waited += time.monotonic() - began
        self._came += count or 0
        self._body_left -= count or 0
        if self._waited >= self._patience.stall:
            if self._came < self._patience.slowest * self._waited and count:
                raise Overlong(f"only {self._came} bytes came in {self._waited:.3g} s")
            self._waited, self._came = 0.0, 0
        return count


class _Wire(io.RawIOBase):
    """The bytes of a socket, as far as a watch allows."""

    def __init__(self, raw: io.RawIOBase, sock: Any, watch: Watch) -> None:
        self._raw, self._sock, self._watch = raw, sock, watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return self._watch.receive(self._raw, self._sock, buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Adapter(HTTPAdapter):
    """Connections of whatever kind, whose answers are read through a `_Wire`."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _watched(self.poolmanager.pool_classes_by_scheme, self._watch)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not known:
            manager.pool_classes_by_scheme = _watched(manager.pool_classes_by_scheme, self._watch)
        return manager


def _watched(pools: Mapping[str, Any], watch: Watch) -> dict[str, Any]:
    """urllib3's classes of pools, by scheme, with connections that read answers through a `_Wire`."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            watch.expect_head()
            self.fp = io.BufferedReader(_Wire(self.fp.detach(), sock, watch))

        def begin(self) -> None:
            super().begin()
            watch.expect_body(STRAY)

    found = {}
    for scheme, pool in pools.items():
        connection = type("Connection", (pool.ConnectionCls,), {"response_class": Response})
        found[scheme] = type("Pool", (pool,), {"ConnectionCls": connection})
    return found


class Session(requests.Session):
    """A session that heeds the proxies of the environment, and never sends a password of the user's .netrc."""

    def __init__(self, patience: RetryPolicy) -> None:
        super().__init__()
        self.auth = _no_auth
        # identity: with a compressed body neither lengths nor ranges would be the file's
        self.headers.update({"Accept-Encoding": "identity", "User-Agent": "fcn-port"})
        self.watch = Watch(patience)
        self._timeout = (patience.connect, patience.stall)
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(self.watch))

    def answer(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """The answer to GET, redirects followed, its body still to come; requests' exceptions, ValueError."""
        self.watch.ask()
        for _ in range(MOST_REDIRECTS + 1):
            _refuse_malformed_proxy(url)
            response = self.get(url, headers=dict(headers), stream=True, timeout=self._timeout, allow_redirects=False)
            try:
                target = self.get_redirect_target(response)
                if target is None:
                    return response
                url = requote_uri(urljoin(url, target))
            except BaseException:
                response.close()
                raise
            response.close()
        raise requests.exceptions.TooManyRedirects(f"more than {MOST_REDIRECTS} redirects")

    def resolve_redirects(self, *args: Any, **kwargs: Any) -> Any:
        """None: requests would read a redirect's body whole before it went on; `answer` follows them."""
        return iter(())


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _refuse_malformed_proxy(url: str) -> None:
    """MalformedProxy where requests and urllib3 would quote what they cannot parse, and the password with it."""
    proxy = select_proxy(url, get_environ_proxies(url))
    if proxy and not _is_address(proxy if "://" in proxy else f"http://{proxy}"):
        scheme = urlsplit(url).scheme.upper()
        raise MalformedProxy(
            f"the proxy in {scheme}_PROXY or ALL_PROXY has no address such as http://proxy.example:3128 "
            "(what it has is not shown, for it may hold a password)"
        )


def _is_address(proxy: str) -> bool:
    try:
        parts, theirs = urlsplit(proxy), urllib3.util.parse_url(proxy)
        port, host = parts.port, parts.hostname  # a port that is no number is found only now
    except (ValueError, urllib3.exceptions.HTTPError):
        return False
    same = (theirs.host or "").strip("[]").lower() == host and theirs.port == port
    return same and bool(host) and parts.scheme in _PROXY_SCHEMES
