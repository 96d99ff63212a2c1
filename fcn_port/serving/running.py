"""An application run by uvicorn: on a socket of our own, with patience that ends, and a graceful stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from .guard import SAFE_METHODS, refusal

_HEADERS_SECONDS = 10.0
"""The time in which the head of a request must have come; uvicorn itself waits for ever."""
_MOST_HEADERS = 16 << 10
_TAKEN_TOGETHER = 64
"""Connections that are taken from the system one after the other, before any of them is looked at."""
_OWN_FILES = 64
"""Files that a server may have open beside its connections."""
_LAST_WORDS_SECONDS = 1
"""The time beyond a request's own in which its refusal is sent, before a server that stops breaks it off."""
_SILENT_SECONDS = 60.0
"""The time in which a lack of files is told once."""
_LOG = logging.getLogger("fcn_port")


def open_socket(host: str, port: int) -> socket.socket:
    """A socket bound to an address of this machine; port 0 takes any that is free. OSError where there is none.

    It does not listen yet, so that who asks before the net is loaded is refused and does not wait.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let another program take the same address
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def run_app(
    app: ASGIApp,
    listening: socket.socket,
    *,
    wanted: Callable[[], bool],
    grace: float,
    connections: int = 256,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until `wanted()` says to stop; then take nothing new, and let what is under way end within `grace` seconds.

    `ready` is called once requests are answered. More than `connections` at a time are told to come again, and one that
    takes nothing of its answer for `grace` seconds is ended.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        state = server.server_state
        full = len(state.connections) >= connections or len(state.tasks) > connections  # this one is one of the tasks
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        answering = refusal(503, "too many connections", again=True) if full else app
        await _to_its_end(answering, scope, receive, send)

    config = Config(
        answer, http=type("_Limited", (_Impatient,), {"answered": connections, "patience": max(1.0, grace)}),
        ws="none", lifespan="on", loop="asyncio", access_log=False, log_config=None,
        log_level="critical", server_header=False, proxy_headers=False,
        h11_max_incomplete_event_size=_MOST_HEADERS, backlog=_TAKEN_TOGETHER, timeout_keep_alive=5,
        timeout_graceful_shutdown=math.ceil(grace) + _LAST_WORDS_SECONDS,
    )  # fmt: skip
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a stranger's form writes nothing into our log
    server = _Stoppable(config, wanted, ready)
    asyncio.run(server.serve(sockets=[listening]))


async def _to_its_end(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, also a request that a server breaks off as it stops, of which uvicorn makes a status 500 without a word.

    Each request ends in its own time; but where the process was held beyond that, all times are over at once.
    """
    began = False

    async def sent(message: Message) -> None:
        nonlocal began
        began = True
        await send(message)

    try:
        await app(scope, receive, sent)
    except asyncio.CancelledError:
        if began:
            raise
        await refusal(503, "the server stops", again=True)(scope, receive, send)


class _Stoppable(Server):
    """A server that asks whether it shall go on, and leaves signals to who has them."""

    def __init__(self, config: Config, wanted: Callable[[], bool], ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._wanted, self._ready = wanted, ready
        self._silent_until = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._tell)
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._wanted()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def _tell(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """One line where asyncio has a traceback for each connection that finds no file left, again and again."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
        elif loop.time() >= self._silent_until:
            self._silent_until = loop.time() + _SILENT_SECONDS
            _LOG.error("connections wait: too many open files; allow the server more (ulimit -n)")


def most_connections(answered: int) -> int:
    """The connections at a time where `answered` get more than a 503: twice as many, if there may be so many files."""
    if sys.platform == "win32":
        return 2 * answered
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    room = files - _OWN_FILES - _TAKEN_TOGETHER
    return 2 * answered if files == resource.RLIM_INFINITY else max(1, min(2 * answered, room))


class _Impatient(H11Protocol):
    """HTTP/1.1 where a client that opens a connection and then dawdles over its request's head is left alone.

    So is one that takes nothing of its answer, which would have the connection and the answer's memory for ever.
    """

    answered: int
    """The connections at a time of which requests are answered."""
    patience: float
    """The seconds in which something of an answer must be taken."""
    _clock: asyncio.TimerHandle | None = None
    _watch: asyncio.TimerHandle | None = None
    _left: int | None = None
    """Bytes that the client had not taken at the last look; None where there were none, or another answer came."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > most_connections(self.answered):
            transport.abort()  # type: ignore[attr-defined]
            return
        self._wind()
        self._look()

    def data_received(self, data: bytes) -> None:
        if self._between() and not self.conn.trailing_data[0]:
            data = data.lstrip(b"\r\n")  # some clients end a body with an empty line more (RFC 9112, 2.2)
        if data:  # none at all would be the end of the connection
            super().data_received(data)
        if self._between():
            self._wind()
        else:
            self._unwind()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client that has said all it will has its answer, but where it costs work: whoever leaves says no more."""
        if self._between() or self.cycle.more_body or self.scope["method"] not in SAFE_METHODS:
            return None
        self.cycle.keep_alive = False
        return True

    def send_400_response(self, msg: str) -> None:
        """As every refusal is, JSON; none where a request was answered whose body goes on, and goes wrong."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            no = refusal(400, msg.rstrip("."))
            head = h11.Response(status_code=400, headers=no.raw_headers, reason=b"Bad Request")
            for event in (head, h11.Data(data=bytes(no.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwind()
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._left = None
        super().on_response_complete()

    def _between(self) -> bool:
        """True while no request is under way: its head has not all come."""
        return self.cycle is None or self.cycle.response_complete

    def _wind(self) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(_HEADERS_SECONDS, self._ring)

    def _unwind(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _ring(self) -> None:
        self._clock = None
        if self._between() and not self.transport.is_closing():
            self.transport.close()

    def _look(self) -> None:
        """End the connection if nothing was taken since the last look, else look again after as long."""
        left = self.transport.get_write_buffer_size()
        if left and self._left is not None and left >= self._left:
            self.transport.abort()
            return
        self._left = left or None
        self._watch = self.loop.call_later(self.patience, self._look)
