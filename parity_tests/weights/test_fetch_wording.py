"""What strangers say reaches a message without passwords, and without anything that a terminal obeys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parity_tests.fetching import BODY, assert_whole, get, published
from parity_tests.http_server import HostileServer, cut, hang_up, honest
from parity_tests.raw_server import speaking
from weights import Progress
from weights.download.wording import redacted, shown
from weights.errors import FetchError
from weights.store import place_of

pytest_plugins = ["parity_tests.fetch_fixtures"]

OBEYED = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202eevil"
SECRETS = ("hunter2", "hun/ter2", "hun ter2", "hunt@er2", "hun%2Fter2")


def assert_harmless(message: str) -> None:
    assert all(line.isprintable() for line in message.splitlines())


@pytest.mark.parametrize("status", [404, 500, 302], ids=["404", "500", "302 without Location"])
def test_a_reason_is_harmless_and_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    reason = OBEYED.encode().replace(b"\r", b"") + b"y" * 5000
    told: list[Progress] = []
    with (
        speaking(lambda wire: wire.send(b"HTTP/1.1 %d %s\r\n\r\n" % (status, reason))) as server,
        pytest.raises(FetchError, match=rf"status {status} \\x1b\]0;owned\\x07") as caught,
    ):
        get(published([server.url("x")]), tmp_path, progress=told.append)
    assert_harmless(str(caught.value))
    assert len(str(caught.value)) < 1500
    for each in told:
        assert_harmless(f"{each.url}{each.note}")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: gopher://\x1b]0;owned\x07%s/\r\n\r\n" % (b"z" * 5000),
        b"HTTP/1.1 302 Found\r\nLocation: http://me:hunter2@[::\x1b[2J/\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: gopher://me:hunter2@there/\r\n\r\n",
        b"\x1b]0;owned\x07%s\r\n\r\n" % (b"z" * 5000),
        b"HTTP/1.1 200 OK\r\nContent-Encoding: \x1b[2J\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><title>\x1b[2Jowned</title>",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\x1b[2J\r\n",
    ],
    ids=["scheme", "Location", "password", "status line", "encoding", "title", "chunk"],
)
def test_what_a_server_sends_is_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with speaking(lambda wire: wire.send(answer)) as server, pytest.raises(FetchError) as caught:
        get(published([server.url("x")]), tmp_path)
    assert_harmless(str(caught.value))
    assert len(str(caught.value)) < 1500 and "hunter2" not in str(caught.value)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "proxy",
    [
        "http://me:{}@127.0.0.1:port",
        "http://me:{}@127.0.0.1:99999",
        "http://me:{}@[::1",
        "http://me:{}@:1",
        "http://me:{}@",
        "me:{}@127.0.0.1:port",
        "htp://me:{}@127.0.0.1:1",
        "http://me:{}@127.0.0.1:1",
        "http:/me:{}@127.0.0.1:1",
        "//me:{}@127.0.0.1:1",
    ],
)
def test_no_message_has_the_password_of_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str, secret: str
) -> None:
    for name in ("NO_PROXY", "no_proxy", "FCN_PORT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy.format(secret))
    monkeypatch.setenv("http_proxy", proxy.format(secret))
    told: list[Progress] = []
    with pytest.raises(FetchError, match="proxy") as caught:
        get(published(["http://there.invalid/x"]), tmp_path, progress=told.append)
    for text in (str(caught.value), *(f"{each.url}{each.note}" for each in told)):
        assert not any(part in text for part in (secret, "hun", "er2", "me:"))


def test_no_message_and_no_file_has_the_password_of_an_address(server: HostileServer, tmp_path: Path) -> None:
    url = server.url("x").replace("//", "//me:hunter2@")
    told: list[Progress] = []
    server.script = [cut(after=150_000), hang_up]
    with pytest.raises(FetchError) as caught:
        get(published([url], checksums=["sha1"]), tmp_path, progress=told.append)
    assert "hunter2" not in str(caught.value) and "//***@127.0.0.1" in str(caught.value)
    assert not any("hunter2" in str(each) for each in told)
    origin = place_of(published([]), directory=tmp_path).origin
    assert "hunter2" not in origin.read_text() and json.loads(origin.read_text())["total"] == len(BODY)
    server.script = [honest]
    result = get(published([url], checksums=["sha1"]), tmp_path)
    assert_whole(result)
    assert server.seen[-1].start == 150_000, "the note still tells where the bytes came from"
    assert "hunter2" not in str(result.source) + (tmp_path / "x.caffemodel.sha256").read_text()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://me:secret@there/x", "http://***@there/x"),
        ("at //me@there/x and http://a:b@c", "at //***@there/x and http://***@c"),
        ("http://me:se@cret@there/x", "http://***@there/x"),
        ("http://me:se/cret@there/x", "http://***@there/x"),
        ("http://there:80/@scope/x", "http://there:80/@scope/x"),
        ("http://there/@scope/x", "http://there/@scope/x"),
        ("http://[::1]:80/x@y", "http://[::1]:80/x@y"),
        ("mail me@there", "mail me@there"),
    ],
)
def test_only_names_and_passwords_are_redacted(text: str, found: str) -> None:
    assert redacted(text) == found


def test_shown_is_short() -> None:
    assert shown("a" * 1000, most=10) == "a" * 10 + "..."
    assert shown("\x1b[2J") == "\\x1b[2J"


def test_an_etag_that_cannot_be_sent_back_does_not_stop_a_resume(tmp_path: Path, server: HostileServer) -> None:
    """A folded header keeps its line break, which requests refuses to send."""
    entry = published([server.url("x")], checksums=["sha1"])
    head = b'HTTP/1.1 200 OK\r\nETag: "a\r\n b"\r\nContent-Length: %d\r\n\r\n' % len(BODY)
    with speaking(lambda wire: wire.send(head + BODY[:150_000])) as first, pytest.raises(FetchError):
        get(published([first.url("x")], checksums=["sha1"]), tmp_path)
    assert_whole(get(entry, tmp_path))
    assert server.starts() == [150_000]
