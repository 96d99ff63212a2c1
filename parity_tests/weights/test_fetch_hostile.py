"""Something else than the file comes, or nothing at all: it never gets the file's name, and the message says why."""

from __future__ import annotations

import errno
import io
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parity_tests.fetching import BODY, IMPATIENT, OTHER, PAGE, assert_nothing, assert_whole, get, published
from parity_tests.http_server import (
    Behaviour,
    HostileServer,
    Served,
    always,
    announce,
    cut,
    drip,
    endless,
    hang_up,
    honest,
    redirect,
    silent,
    stall,
    status,
)
from weights import store
from weights.download import partial
from weights.errors import ChecksumError, FetchError
from weights.store import place_of

pytest_plugins = ["parity_tests.fetch_fixtures"]


# --- something else than the file ---


@pytest.mark.parametrize(
    ("page", "kind", "title"),
    [
        (PAGE, "text/html; charset=utf-8", "'Sign in & surf'"),
        (PAGE, "application/octet-stream", "'Sign in & surf'"),
        (b"\xef\xbb\xbf\n  <HTML><p>gone", "application/octet-stream", ""),
        (b"moved", "text/html", ""),
        (PAGE + b" " * len(BODY), "application/octet-stream", "'Sign in & surf'"),
    ],
    ids=["page", "page as a file", "page without title", "only its type", "as long as the file"],
)
def test_a_web_page_is_recognised(server: HostileServer, tmp_path: Path, page: bytes, kind: str, title: str) -> None:
    server.script = [always(page, kind=kind)]
    entry = replace(published([server.url("x")]), blob_bytes=None)
    with pytest.raises(ChecksumError, match="it is a web page") as caught:
        get(entry, tmp_path)
    assert title in str(caught.value) and server.url("x") in str(caught.value)
    assert_nothing(tmp_path)
    assert len(server.seen) == 1


def test_a_web_page_does_not_cost_what_has_arrived(server: HostileServer, tmp_path: Path) -> None:
    """A portal that wants a login in the middle of a large download."""
    server.script = [cut(after=150_000), always(PAGE, kind="application/octet-stream")]
    with pytest.raises(FetchError, match="150 kB have arrived and are kept"):
        get(published([server.url("x")], checksums=["sha1"]), tmp_path)
    server.script = [honest]
    assert_whole(get(published([server.url("x")], checksums=["sha1"]), tmp_path))
    assert server.seen[-1].start == 150_000


def test_another_file_of_the_same_size_is_refused(server: HostileServer, tmp_path: Path) -> None:
    server.served = Served(OTHER)
    with pytest.raises(ChecksumError, match=r"its sha1 is .* was published"):
        get(published([server.url("x")], checksums=["sha1"]), tmp_path)
    assert_nothing(tmp_path)
    assert not place_of(published([]), directory=tmp_path).part.exists()


def test_the_strongest_checksum_counts(server: HostileServer, tmp_path: Path) -> None:
    right, wrong = published([server.url("x")], checksums=["sha256"]), published([], body=OTHER, checksums=["md5"])
    with pytest.raises(ChecksumError, match="its sha256 is"):
        get(replace(right, checksums=published([], body=OTHER, checksums=["sha256"]).checksums), tmp_path)
    assert get(replace(right, checksums=right.checksums + wrong.checksums), tmp_path).verified_by == "sha256"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (announce(length=len(BODY) - 1), "announces 300004 bytes, and the file has 300005"),
        (announce(length=1 << 50), "announces 1125899906842624 bytes"),
        (endless, "more than the 300005 bytes"),
        (always(BODY, kind="application/octet-stream", Content_Encoding="gzip"), "compressed"),
        (status(404), "status 404"),
        (status(403), "status 403"),
        (redirect(to="ftp://127.0.0.1/x"), "ftp"),
    ],
    ids=["too short", "too long", "endless", "compressed", "404", "403", "ftp"],
)
def test_refused_at_once(server: HostileServer, tmp_path: Path, behaviour: Behaviour, reason: str) -> None:
    server.script = [behaviour]
    with pytest.raises(FetchError, match=reason):
        get(published([server.url("x")], size=len(BODY)), tmp_path)
    assert_nothing(tmp_path)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (announce(length=1000), "announces 1000 bytes, and the file has at least"),
        (announce(length=1 << 40), "announces 1099511627776 bytes, and the file has at most"),
        (endless, "more than the .* bytes"),
    ],
    ids=["too short", "too long", "endless"],
)
def test_refused_where_the_size_was_never_published(
    server: HostileServer, tmp_path: Path, behaviour: Behaviour, reason: str
) -> None:
    server.script = [behaviour]
    with pytest.raises(FetchError, match=reason):
        get(published([server.url("x")]), tmp_path)
    assert_nothing(tmp_path)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (stall(after=100), "nothing came for 0.3 s"),
        (silent, "no answer within 0.3 s"),
        (drip, "only .* bytes came"),
        (hang_up, "no answer: "),
        (status(500), "status 500"),
    ],
    ids=["stalls", "silent", "drips", "hangs up", "500"],
)
def test_patience_ends(server: HostileServer, tmp_path: Path, behaviour: Behaviour, reason: str) -> None:
    server.script = [behaviour]
    began = time.monotonic()
    with pytest.raises(FetchError, match=f"{reason}.*, tried 3 times"):
        get(published([server.url("x")]), tmp_path, patience=IMPATIENT)
    assert time.monotonic() - began < 20
    assert_nothing(tmp_path)


# --- mirrors, and no server at all ---


@pytest.mark.parametrize(
    "first",
    [status(404), status(500), hang_up, always(PAGE, kind="text/html"), announce(length=5), cut(after=200)],
    ids=["404", "500", "hangs up", "page", "short", "cuts"],
)
def test_the_next_mirror_is_tried(
    server: HostileServer, mirror: HostileServer, tmp_path: Path, first: Behaviour
) -> None:
    server.script = [first]
    result = get(published([server.url("x"), mirror.url("x")], checksums=["sha1"]), tmp_path)
    assert_whole(result)
    assert result.source == mirror.url("x")


def test_a_mirror_with_the_wrong_file_is_passed_over(
    server: HostileServer, mirror: HostileServer, tmp_path: Path
) -> None:
    server.served = Served(OTHER)
    result = get(published([server.url("x"), mirror.url("x")], checksums=["sha1"]), tmp_path)
    assert_whole(result)
    assert mirror.starts() == [0]


@pytest.mark.parametrize("checksums", [["sha1"], []], ids=["checksum", "no checksum"])
def test_a_mirror_goes_on_only_where_a_checksum_will_tell(
    server: HostileServer, mirror: HostileServer, tmp_path: Path, checksums: list[str]
) -> None:
    server.script = [cut(after=150_000), status(404)]
    entry = published([server.url("x"), mirror.url("x")], checksums=checksums)  # type: ignore[arg-type]
    assert_whole(get(entry, tmp_path))
    assert mirror.starts() == [150_000 if checksums else 0]
    assert "if-range" not in mirror.seen[0].headers


def test_no_server_can_be_reached(server: HostileServer, tmp_path: Path) -> None:
    server.script = [status(404)]
    nobody = "http://127.0.0.1:1/x.caffemodel"
    nowhere = "http://no-such-host.invalid/x.caffemodel"
    with pytest.raises(FetchError) as caught:
        get(published([nobody, nowhere, server.url("x")]), tmp_path)
    message = str(caught.value)
    assert not isinstance(caught.value, ChecksumError)
    for part in (nobody, "no connection", "refused", nowhere, server.url("x"), "status 404", "tried 2 times"):
        assert part in message
    for part in (str(tmp_path / "x.caffemodel"), "--from-file", "make demo", "voc-fcn8s"):
        assert part in message
    assert "Pool(" not in message and "object at" not in message


def test_no_password_leaves_the_machine(
    server: HostileServer, mirror: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.script = [redirect(to=mirror.url("x"))]
    assert_whole(get(published([server.url("x")]), tmp_path / "weights"))
    assert all("authorization" not in each.headers for each in (*server.seen, *mirror.seen))


def test_a_disk_that_is_too_small_is_noticed_first(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "free_bytes", lambda folder: 100_000 + store.SPARE_BYTES)
    with pytest.raises(FetchError, match=r"300 kB more are needed and 16.9 MB are free\n.* FCN_PORT_WEIGHTS") as caught:
        get(published([server.url("x")], size=len(BODY)), tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert server.seen == []
    # nobody knows the size before the server says it
    with pytest.raises(FetchError, match="300 kB more are needed"):
        get(replace(published([server.url("x")]), blob_bytes=None), tmp_path)
    assert_nothing(tmp_path)


def test_a_disk_that_fills_up_keeps_what_has_arrived(
    server: HostileServer, mirror: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.FileIO):
        def write(self, data: Any, /) -> int:
            room = 100_000 - self.tell()
            if room == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data[: min(room, 4000)])  # it never takes all that it is given

    with monkeypatch.context() as full:
        full.setattr(partial.Partial, "append", lambda self: Full(self.path, "ab"))
        with pytest.raises(FetchError, match=r"x\.caffemodel\.part: No space left on device"):
            get(published([server.url("x"), mirror.url("x")], checksums=["sha1"]), tmp_path)
    assert mirror.seen == []  # another server does not help
    result = get(published([server.url("x")], checksums=["sha1"]), tmp_path)
    assert_whole(result)
    assert server.seen[-1].start == 100_000
