"""Requests that HTTP allows and few programs send: whole addresses, no Host, empty lines, several at once."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from parity_tests.serving.nets import largest_channel, png_of, stripes

pytest.importorskip("starlette", reason="the extra `serve`")
pytest.importorskip("prometheus_client", reason="the extra `serve`")
pytest.importorskip("python_multipart", reason="the extra `serve`")
pytest.importorskip("uvicorn", reason="the extra `serve`")

from fcn_port.serving import make_app
from parity_tests.serving.test_running import server

BODY = png_of(stripes())
OWN, OTHER = "Host: localhost\r\n", "Host: evil.example\r\n"
ENDS = "Connection: close\r\n"
CHUNKED = b"%x;a=b\r\n" % len(BODY) + BODY + b"\r\n0\r\nX-Trailer: 1\r\n\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with server(make_app(largest_channel(), name="x", threads=1)) as (number, _, _):
        yield number


def answers(port: int, *sent: bytes) -> list[int]:
    """The statuses of the answers to what is sent, in their order."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(30)
        for part in sent:
            client.sendall(part)
        got = b"".join(iter(lambda: client.recv(1 << 16), b""))
    return [int(each[:3]) for each in got.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(("line", "host", "expected"), [
    ("GET http://localhost/healthz HTTP/1.1", OWN, 200),
    ("GET HTTP://127.0.0.1:8000/healthz HTTP/1.1", OWN, 200),
    ("GET http://localhost HTTP/1.1", OWN, 200),
    ("GET http://localhost?a=b HTTP/1.1", OWN, 200),
    ("GET http://localhost/no-such HTTP/1.1", OWN, 404),
    ("GET http://localhost/healthz HTTP/1.1", OTHER, 200),
    ("GET http://evil.example/healthz HTTP/1.1", OWN, 421),
    ("GET http://evil.example@localhost/healthz HTTP/1.1", OWN, 421),
    ("GET http:///healthz HTTP/1.1", OWN, 421),
    ("GET /http://localhost/healthz HTTP/1.1", OWN, 404),
    ("GET /healthz HTTP/1.1", "Host: localhost:\r\n", 200),
    ("GET /healthz HTTP/1.0", "", 200),
    ("GET /healthz HTTP/1.0", OTHER, 421),
    ("GET /healthz HTTP/1.1", "Host:\r\n", 421),
    ("GET /healthz HTTP/1.1", "", 400),
])  # fmt: skip
def test_a_request_names_a_host_in_each_of_the_ways_that_there_are(
    port: int, line: str, host: str, expected: int
) -> None:
    """A whole address, as programs behind a proxy send it, was a path that there is none of."""
    assert answers(port, f"{line}\r\n{host}{ENDS}\r\n".encode()) == [expected]


@pytest.mark.parametrize(("line", "expected", "allowed"), [
    ("OPTIONS *", 200, b"GET, HEAD, POST, OPTIONS"), ("OPTIONS /predict", 405, b"POST"),
])  # fmt: skip
def test_the_methods_that_there_are_may_be_asked_for(port: int, line: str, expected: int, allowed: bytes) -> None:
    """``OPTIONS *``, by which balancers of load ask whether a server is there, was "there is no /*", 404."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"{line} HTTP/1.1\r\n{OWN}{ENDS}\r\n".encode())
        got = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert got.startswith(b"HTTP/1.1 %d " % expected)
    assert b"\r\nallow: %s\r\n" % allowed in got


@pytest.mark.parametrize(("origin", "expected"), [("http://localhost", 200), ("http://127.0.0.1", 403)])
def test_the_page_that_asks_is_compared_with_the_host_that_counts(port: int, origin: str, expected: int) -> None:
    head = f"POST http://localhost/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: {origin}\r\n{ENDS}"
    assert answers(port, f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY) == [expected]


@pytest.mark.parametrize("first", [b"\r\n", b"\n", b"\r\n\r\n"])
def test_empty_lines_before_a_request_are_passed_over(port: int, first: bytes) -> None:
    """Some clients send one behind a body; the next request was no HTTP then."""
    last = f"GET /healthz HTTP/1.1\r\n{OWN}{ENDS}\r\n".encode()
    assert answers(port, first + last) == [200]
    assert answers(port, first, last) == [200]


def test_several_requests_at_once_are_answered_in_their_order(port: int) -> None:
    image = f"POST /predict HTTP/1.1\r\n{OWN}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    pieces = f"POST /predict HTTP/1.1\r\n{OWN}Transfer-Encoding: chunked\r\n\r\n".encode() + CHUNKED
    health = f"GET /healthz HTTP/1.1\r\n{OWN}\r\n".encode()
    last = f"GET /no-such HTTP/1.1\r\n{OWN}{ENDS}\r\n".encode()
    assert answers(port, image + health + pieces + health + last) == [200, 200, 200, 200, 404]
