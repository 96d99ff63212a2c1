"""Answers that no server should give, made up by hypothesis: the file ends up whole, or a FetchError says why not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity_tests.fetching import BODY, IMPATIENT, OTHER, PAGE, assert_whole, get, published
from parity_tests.http_server import Exchange, HostileServer, Served, cut, serving
from weights.errors import FetchError

SIZE = len(BODY)
NUMBERS = st.sampled_from(["0", "1", "-1", "x", "", "9" * 5000, "1e3", "10, 11", str(SIZE), str(SIZE - 1), "١٢"])
RANGES = st.one_of(
    st.builds("bytes {}-{}/{}".format, NUMBERS, NUMBERS, NUMBERS),
    st.builds("bytes {}-/{}".format, st.just("100000"), NUMBERS),
    st.sampled_from(["bytes */0", "bytes */x", "lines 1-2/3", "bytes", "/", f"bytes {'9' * 5000}-9/9"]),
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Content-Length": NUMBERS,
        "Content-Range": RANGES,
        "Content-Type": st.sampled_from(["text/html", "x", "", "application/octet-stream"]),
        "Content-Encoding": st.sampled_from(["gzip", "identity", "br", "?"]),
        "Transfer-Encoding": st.sampled_from(["chunked", "gzip", "identity"]),
        "ETag": st.sampled_from(['"v1"', '"v2"', "W/x", "", "é"]),
        "Last-Modified": st.sampled_from(["yesterday", "Thu, 01 Sep 2016 00:00:00 GMT"]),
        "Location": st.sampled_from(["", "/x", "http://", "mailto:me", "http://127.0.0.1:1/"]),
    },
)
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
BODIES = st.sampled_from([b"", b"\n", BODY, BODY[100_000:], BODY[:-1], OTHER, PAGE, CHUNKS, b"zz\r\n"])
STATUSES = st.sampled_from([200, 200, 206, 206, 416, 204, 304, 301, 302, 404, 500, 299])


@dataclass(frozen=True)
class Answer:
    """Status, headers and body, sent as they are."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __call__(self, exchange: Exchange) -> None:
        lines = [f"HTTP/1.1 {self.status} so", "Connection: close", *(f"{k}: {v}" for k, v in self.headers.items())]
        exchange.wfile.write("\r\n".join([*lines, "", ""]).encode() + self.body)


ANSWERS = st.builds(Answer, STATUSES, HEADERS, BODIES)


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with pytest.MonkeyPatch.context() as patch, serving(Served(BODY)) as running:
        patch.setenv("NO_PROXY", "*")
        patch.delenv("FCN_PORT_OFFLINE", raising=False)
        yield running


@settings(max_examples=120)
@given(answers=st.lists(ANSWERS, min_size=1, max_size=3), begun=st.booleans(), known=st.booleans())
def test_no_answer_gets_past(server: HostileServer, answers: list[Answer], begun: bool, known: bool) -> None:
    server.script = [*([cut(after=100_000)] if begun else []), *answers]
    entry = published([server.url("x")], checksums=["sha1"], size=SIZE if known else None)
    with tempfile.TemporaryDirectory() as folder, suppress(FetchError):
        try:
            assert_whole(get(entry, Path(folder), patience=IMPATIENT))
        finally:
            path = Path(folder) / entry.file
            assert not path.exists() or path.read_bytes() == BODY
