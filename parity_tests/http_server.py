"""A web server on the loopback that behaves as told: honestly, or in the ways in which servers and networks fail.

    with serving(Served(body)) as server:
        server.script = [cut(after=1000), honest]     # one behaviour for each request; the last one goes on
        ... server.url("x.caffemodel") ...
        server.seen                                    # what was asked, in order

Nothing waits for ever: a behaviour that stalls ends when the server does.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Served:
    """A file as a server has it; without `etag` and `last_modified` it cannot tell one version from another."""

    body: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = None


@dataclass(frozen=True)
class Seen:
    """A request: its path, and its headers by lower-case name."""

    path: str
    headers: dict[str, str]

    @property
    def start(self) -> int:
        """The byte from which on the file was asked for."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(found[1]) if found else 0


class Exchange(BaseHTTPRequestHandler):
    """One request and what a behaviour answers to it."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Hand over to the behaviour whose turn it is."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        behaviour = self.server.owner.next_behaviour(Seen(self.path, headers))
        self.close_connection = True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has seen enough
            behaviour(self)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""

    @property
    def served(self) -> Served:
        """The file."""
        return self.server.owner.served

    @property
    def over(self) -> threading.Event:
        """Set when the server stops."""
        return self.server.owner.over

    def asked_from(self) -> int:
        """Where an honest answer begins: If-Range with another version means at 0."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if found is None or (condition is not None and condition not in (self.served.etag, self.served.last_modified)):
            return 0
        return int(found[1])

    def head(self, status: int, **headers: object) -> None:
        """Status line and headers; underscores stand for hyphens, None leaves one out."""
        self.send_response(status)
        for name, value in {"Connection": "close", **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def file_head(self, start: int, *, length: int | None = None, **headers: object) -> bytes:
        """The head of 200, or of 206 if `start` is not 0, for the file from there on; gives the bytes to send."""
        rest = self.served.body[start:]
        total = len(self.served.body)
        announced: dict[str, object] = {
            "Content_Length": len(rest) if length is None else length,
            "Content_Type": "application/octet-stream",
            "ETag": self.served.etag,
            "Last_Modified": self.served.last_modified,
        }
        if start:
            announced["Content_Range"] = f"bytes {start}-{total - 1}/{total}"
        self.head(206 if start else 200, **{**announced, **headers})
        return rest


Behaviour = Callable[[Exchange], None]


def honest(exchange: Exchange) -> None:
    """As RFC 9110 has it, with Range, If-Range and 416."""
    start = exchange.asked_from()
    if start >= len(exchange.served.body):
        exchange.head(416, Content_Range=f"bytes */{len(exchange.served.body)}", Content_Length=0)
        return
    exchange.wfile.write(exchange.file_head(start))


def slow(exchange: Exchange) -> None:
    """Honest, over about half a second."""
    rest = exchange.file_head(exchange.asked_from())
    step = len(rest) // 20 + 1
    for at in range(0, len(rest), step):
        exchange.wfile.write(rest[at : at + step])
        time.sleep(0.025)


def cut(*, after: int) -> Behaviour:
    """The connection ends early."""

    def behaviour(exchange: Exchange) -> None:
        exchange.wfile.write(exchange.file_head(exchange.asked_from())[:after])

    return behaviour


def stall(*, after: int) -> Behaviour:
    """Nothing more comes, and the connection stays open."""

    def behaviour(exchange: Exchange) -> None:
        exchange.wfile.write(exchange.file_head(exchange.asked_from())[:after])
        exchange.over.wait(30)

    return behaviour


def drip(exchange: Exchange) -> None:
    """A byte now and then: no timeout of a read ever passes."""
    for byte in exchange.file_head(exchange.asked_from()):
        exchange.wfile.write(bytes([byte]))
        if exchange.over.wait(0.02):
            return


def silent(exchange: Exchange) -> None:
    """No answer."""
    exchange.over.wait(30)


def hang_up(exchange: Exchange) -> None:
    """The connection ends before any answer."""


def ignore_range(exchange: Exchange) -> None:
    """The whole file, whatever was asked."""
    exchange.wfile.write(exchange.file_head(0))


def ignore_range_and_cut(*, after: int) -> Behaviour:
    """The same, and never to its end."""

    def behaviour(exchange: Exchange) -> None:
        exchange.wfile.write(exchange.file_head(0)[:after])

    return behaviour


def ignore_if_range(exchange: Exchange) -> None:
    """The rest of whatever file there is now, even if it is not the one that was begun."""
    start = int((re.search(r"\d+", exchange.headers.get("Range", "0")) or [0])[0])
    exchange.wfile.write(exchange.file_head(start))


def other_range(exchange: Exchange) -> None:
    """As many bytes as were asked for, from a hundred bytes before."""
    start = exchange.asked_from()
    begin = max(0, start - 100)
    end = len(exchange.served.body) - (start - begin)
    exchange.wfile.write(exchange.file_head(begin, length=end - begin)[: end - begin])


def absurd_range(exchange: Exchange) -> None:
    """A range that begins at a number of five thousand digits."""
    start = exchange.asked_from()
    exchange.wfile.write(exchange.file_head(start, **({"Content_Range": f"bytes {'9' * 5000}-9/9"} if start else {})))


def announce(*, length: int) -> Behaviour:
    """A length that is a lie; the whole file follows."""

    def behaviour(exchange: Exchange) -> None:
        exchange.wfile.write(exchange.file_head(exchange.asked_from(), length=length))

    return behaviour


def chunked(exchange: Exchange) -> None:
    """Honest, in chunks, without a length."""
    start = exchange.asked_from()
    rest = exchange.file_head(start, Content_Length=None, Transfer_Encoding="chunked")
    for at in range(0, len(rest), 10_000):
        piece = rest[at : at + 10_000]
        exchange.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    exchange.wfile.write(b"0\r\n\r\n")


def endless(exchange: Exchange) -> None:
    """No length, and no end."""
    exchange.head(200, Content_Type="application/octet-stream")
    while not exchange.over.is_set():
        exchange.wfile.write(exchange.served.body)


def status(code: int) -> Behaviour:
    """An error, with a page that explains it."""

    def behaviour(exchange: Exchange) -> None:
        page = b"<html><title>Sorry</title></html>"
        exchange.head(code, Content_Length=len(page), Content_Type="text/html")
        exchange.wfile.write(page)

    return behaviour


def always(body: bytes, *, kind: str, **headers: object) -> Behaviour:
    """Status 200 and something else than the file."""

    def behaviour(exchange: Exchange) -> None:
        exchange.head(200, Content_Length=len(body), Content_Type=kind, **headers)
        exchange.wfile.write(body)

    return behaviour


def redirect(*, to: str) -> Behaviour:
    """Somewhere else."""

    def behaviour(exchange: Exchange) -> None:
        exchange.head(302, Location=to, Content_Length=0)

    return behaviour


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: HostileServer


@dataclass
class HostileServer:
    """A running server: the file that it has, what it does next, what it was asked."""

    served: Served
    script: list[Behaviour] = field(default_factory=lambda: [honest])
    seen: list[Seen] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def url(self, name: str) -> str:
        """The address of a file."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def starts(self) -> list[int]:
        """From which byte on each request asked."""
        return [each.start for each in self.seen]

    def next_behaviour(self, request: Seen) -> Behaviour:
        """The behaviour for this request; the last one of the script stays."""
        with self._turn:
            self.seen.append(request)
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@contextmanager
def serving(served: Served) -> Iterator[HostileServer]:
    """A server for as long as the block lasts."""
    hostile = HostileServer(served)
    with _Server(("127.0.0.1", 0), Exchange) as server:
        server.owner, hostile.port = hostile, server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hostile
        finally:
            hostile.over.set()
            server.shutdown()
            thread.join()
