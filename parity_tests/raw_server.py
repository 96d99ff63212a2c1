"""A server on the loopback that writes bytes as it pleases, below what a web server would do.

    with speaking(lambda wire: wire.send(b"HTTP/1.1 200 OK\\r\\n\\r\\n")) as server:
        ... server.url("x") ...          # each question is read to its end, then the script has the connection
        server.asked, server.sent        # request heads; bytes that the client's side took

A script that goes on for ever is ended by `Wire`, after MOST bytes or LONGEST seconds: whoever believes a hostile
server gets a short one, and another message than the one that is expected.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

MOST, LONGEST = 48 << 20, 6.0


class _End(Exception):
    pass


@dataclass
class Raw:
    """A running server."""

    port: int
    asked: list[bytes] = field(default_factory=list)
    sent: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def url(self, name: str) -> str:
        """The address of a file."""
        return f"http://127.0.0.1:{self.port}/{name}"


@dataclass
class Wire:
    """A connection to a client."""

    server: Raw
    sock: socket.socket
    began: float = field(default_factory=time.monotonic)

    def send(self, data: bytes) -> None:
        """At once."""
        if self.server.sent > MOST or time.monotonic() - self.began > LONGEST or self.server.over.is_set():
            raise _End
        self.sock.sendall(data)
        self.server.sent += len(data)

    def flood(self, data: bytes) -> None:
        """Again and again."""
        data *= 1 + (1 << 14) // len(data)
        while True:
            self.send(data)

    def drip(self, data: bytes) -> None:
        """A byte now and then, again and again: no timeout of a read ever passes."""
        while True:
            for byte in data:
                self.send(bytes([byte]))
                self.server.over.wait(0.02)


Script = Callable[[Wire], None]


@contextmanager
def speaking(script: Script) -> Iterator[Raw]:
    """A server for as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        server = Raw(listener.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(listener, server, script), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            thread.join()


def _serve(listener: socket.socket, server: Raw, script: Script) -> None:
    while not server.over.is_set():
        with suppress(TimeoutError):
            sock, _ = listener.accept()
            with sock, suppress(_End, OSError):
                sock.settimeout(1.0)  # for a client that stays and reads nothing more
                head = b""
                while b"\r\n\r\n" not in head:
                    head += sock.recv(4096) or b"\r\n\r\n"
                server.asked.append(head)
                script(Wire(server, sock))
