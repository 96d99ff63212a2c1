"""The gate of a server: a middleware that knows the names of its host, and refuses what pages of others ask.

A browser asks in the name of every page that is open in it, also a server that listens on this machine alone. Two
checks keep such pages out. The Host of a request must be an address or a name of the server's, or else a page whose
name a stranger's DNS turns into 127.0.0.1 (DNS rebinding) would be of one origin with the server. And a request that
computes must not come from another origin (Fetch standard: Origin, Sec-Fetch-Site). No header of ours lets another
origin read an answer. Programs from before there was a Host (HTTP/1.0) send none, and no browser is one of them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from converters.escaping import json_text

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(:\d{0,5})?", re.ASCII)
_WHOLE = re.compile(r"https?://([^/?#]*)", re.ASCII | re.IGNORECASE)
_WHOLE_RAW = re.compile(_WHOLE.pattern.encode(), re.IGNORECASE)
SAFE_METHODS = ("GET", "HEAD")
"""The methods of requests that compute nothing."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}
_NOTHING = "default-src 'none'; frame-ancestors 'none'"


class Guard:
    """The application behind the checks; `names` are host names of the server beside localhost and addresses."""

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = {name.lower().rstrip(".") for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = of_path(scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", _NOTHING)
            await send(message)

        headers = Headers(scope=scope)
        if not self.knows(headers.get("host", "")) and ("host" in headers or scope["http_version"] != "1.0"):
            problem = "this server has another name; start it with --name NAME to have it answer to this one"
            await refusal(421, problem)(scope, receive, guarded)
        elif scope["method"] not in SAFE_METHODS and not is_own(headers):
            await refusal(403, "asked for by a page of another site")(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)

    def knows(self, host: str) -> bool:
        """True for a Host header that names this server: an address, localhost, or one of the names given."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].lower().rstrip(".")
        if name == "localhost" or name.endswith(".localhost") or name in self._names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def of_path(scope: Scope) -> Scope:
    """A request as one that names a path: of a whole address, whose host then counts and no Host (RFC 9112, 3.2.2)."""
    found = _WHOLE.match(scope["path"])
    if found is None:
        return scope
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"host"]
    return {
        **scope,
        "path": scope["path"][found.end() :] or "/",
        "raw_path": _WHOLE_RAW.sub(b"", scope.get("raw_path") or b"", count=1) or b"/",
        "headers": [(b"host", found[1].encode("latin-1", "replace")), *headers],
    }


def is_own(headers: Headers) -> bool:
    """True unless a browser says that another origin's page asks; what is no browser says nothing of the kind."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    scheme, _, host = origin.partition("://")
    return scheme in ("http", "https") and host.lower() == headers.get("host", "").lower()


def refusal(status: int, problem: str, *, again: bool = False) -> Response:
    """A refusal as JSON; the connection ends, as there may be more of a request than was read."""
    headers = {"Cache-Control": "no-store", "Connection": "close", **({"Retry-After": "1"} if again else {})}
    return Response(json_text({"error": problem}) + "\n", status, headers, "application/json")
