"""Every byte that a server sends is bounded, in number and in time: also those that are no part of the file."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from parity_tests.fetching import BODY, HURRY, assert_nothing, assert_whole, get, published
from parity_tests.http_server import HostileServer, redirect
from parity_tests.raw_server import Raw, Script, Wire, speaking
from weights.errors import FetchError

pytest_plugins = ["parity_tests.fetch_fixtures"]

STRICT = replace(HURRY, stall=0.4, slowest=20_000, attempts=1, answer=0.8, head=50_000)
"""For servers that are meant to be given up. The test fails where one of them is believed for longer."""

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"


def after(head: bytes, kind: str, rest: bytes) -> Script:
    """`head` at once, then `rest` for ever: in a "flood", or it "drips"."""

    def script(wire: Wire) -> None:
        wire.send(head)
        getattr(wire, kind)(rest)

    return script


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("FCN_PORT_OFFLINE", raising=False)


LATE = "its headers were not there within 0.8 s"
LONG = "more than 50000 bytes of headers"
SLOW = "only .* bytes came in"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (after(b"HTTP/1.1 200 ", "drip", b"O"), LATE),
        (after(b"HTTP/1.1 200 OK\r\n", "drip", b"X-A: b\r\n"), LATE),
        (after(b"", "drip", CONTINUE), LATE),
        (after(b"", "flood", CONTINUE), LONG),
        (after(b"HTTP/1.1 200 OK\r\n", "flood", b"X: " + b"y" * 60_000 + b"\r\n"), LONG),
    ],
    ids=["status line drips", "headers drip", "100 Continue drips", "100 Continue for ever", "headers of 6 MB"],
)
def test_the_head_of_an_answer_is_bounded(tmp_path: Path, script: Script, reason: str) -> None:
    with speaking(script) as server, pytest.raises(FetchError, match=f"no answer: {reason}"):
        get(published([server.url("x")]), tmp_path, patience=STRICT)
    assert len(server.asked) == 1
    assert_nothing(tmp_path)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (after(CHUNKED + b"1;", "drip", b"x"), SLOW),
        (after(CHUNKED, "flood", b"1;" + b"x" * 60_000 + b"\r\ny\r\n"), "more than .* bytes came"),
        (after(CHUNKED + b"400\r\n" + BODY[:1024] + b"\r\n0\r\n", "drip", b"X: y\r\n"), SLOW),
        (after(CHUNKED + b"400\r\n" + BODY[:1024] + b"\r\n0\r\n", "flood", b"X: y\r\n"), "more than .* bytes came"),
        (after(PAGE, "drip", b"x"), "a web page"),
    ],
    ids=["an extension drips", "extensions", "trailers drip", "trailers for ever", "a page drips"],
)
def test_what_stands_around_a_body_is_bounded(tmp_path: Path, script: Script, reason: str) -> None:
    with speaking(script) as server, pytest.raises(FetchError, match=reason):
        get(published([server.url("x")], size=len(BODY)), tmp_path, patience=STRICT)
    assert server.sent < 16 << 20  # what the buffers of both systems take
    assert_nothing(tmp_path)


def test_the_time_for_a_head_runs_over_all_redirects(tmp_path: Path) -> None:
    """Each one is quick enough."""

    def onward(wire: Wire) -> None:
        wire.server.over.wait(0.25)
        wire.send(b"HTTP/1.1 302 Found\r\nLocation: /y\r\nConnection: close\r\n\r\n")

    with speaking(onward) as server, pytest.raises(FetchError, match=LATE):
        get(published([server.url("x")]), tmp_path, patience=STRICT)
    assert 2 <= len(server.asked) <= 4


def test_redirects_in_a_circle_end(server: HostileServer, tmp_path: Path) -> None:
    server.script = [redirect(to=server.url("x"))]
    with pytest.raises(FetchError, match="more than 10 redirects"):
        get(published([server.url("x")]), tmp_path)
    assert len(server.seen) == 11


def leading_on(to: str, *, kind: str) -> Script:
    """A redirect with a body: that never ends, or that is small and becomes large."""
    bomb = gzip.compress(bytes(64 << 20), 1)

    def script(wire: Wire) -> None:
        head = f"HTTP/1.1 302 Found\r\nLocation: {to}\r\n"
        if kind == "bomb":
            wire.send(f"{head}Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode() + bomb)
        else:
            wire.send(f"{head}\r\n".encode())
            wire.flood(bytes(1 << 16))

    return script


@pytest.mark.parametrize("kind", ["bomb", "endless"])
def test_the_body_of_a_redirect_is_not_read(server: HostileServer, tmp_path: Path, kind: str) -> None:
    with speaking(leading_on(server.url("y"), kind=kind)) as first:
        tracemalloc.start()
        try:
            assert_whole(get(published([first.url("x")]), tmp_path))
            assert tracemalloc.get_traced_memory()[1] < 24 << 20
        finally:
            tracemalloc.stop()
    assert first.sent < 16 << 20  # what the buffers of both systems take
    assert [each.path for each in server.seen] == ["/y"]


@pytest.fixture(params=["drip", "flood"])
def proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Raw]:
    """One that never comes to the end of its answer to CONNECT."""
    monkeypatch.delenv("NO_PROXY")
    with speaking(after(b"HTTP/1.1 200 OK\r\n", request.param, b"X: y\r\n")) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url(""))
        yield server


def test_the_answer_of_a_proxy_is_bounded(proxy: Raw, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=f"no answer: ({LATE}|{LONG})|got more than 100 headers"):
        get(published(["https://there.invalid/x"]), tmp_path, patience=STRICT)
    assert proxy.asked[0].startswith(b"CONNECT there.invalid:443 ")


def test_many_small_chunks_are_no_fault(tmp_path: Path) -> None:
    """Honest, if odd: seven bytes at a time."""
    pieces = [BODY[at : at + 7] for at in range(0, len(BODY), 7)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nX: y\r\n\r\n"
    with speaking(lambda wire: wire.send(CONTINUE * 3 + CHUNKED + body)) as server:
        assert_whole(get(published([server.url("x")]), tmp_path))
