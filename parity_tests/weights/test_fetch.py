"""A file that is there already or was obtained elsewhere, what is recorded of it, and no network."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parity_tests.fetching import BODY, OTHER, PAGE, assert_nothing, assert_whole, get, published, sha256
from parity_tests.http_server import HostileServer, Served, cut, hang_up, honest
from weights.download.digests import RunningDigests
from weights.download.fetching import fetch, is_offline, plan
from weights.errors import ChecksumError, FetchError, OfflineError, UnknownReleaseError
from weights.sidecar import Record, read_record, write_record
from weights.store import in_words, place_of

pytest_plugins = ["parity_tests.fetch_fixtures"]


def refuse(path: Path) -> None:
    """A structural check that finds what it is for: the other file."""
    if path.read_bytes() == OTHER:
        raise ValueError("layer 'fc6' is missing")


# --- a file that is there ---


def test_a_verified_file_is_not_read_again(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = published([server.url("x")], checksums=["sha1"])
    first = get(entry, tmp_path)
    monkeypatch.setattr(RunningDigests, "catch_up", pytest.fail)
    again = get(entry, tmp_path)
    assert (again.sha256, again.verified_by, again.source) == (first.sha256, "sha1", server.url("x"))
    assert again.already_there and again.bytes_downloaded == 0 and len(server.seen) == 1


@pytest.mark.parametrize("options", [{"verify": True}, {}], ids=["when asked to", "when its time changed"])
def test_a_damaged_file_is_found(server: HostileServer, tmp_path: Path, options: dict[str, bool]) -> None:
    entry = published([server.url("x")], checksums=["sha1"])
    path = get(entry, tmp_path).path
    before = path.stat()
    with path.open("rb+") as file:
        file.write(b"?")
    if options:  # to the eye it is the same file
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert get(entry, tmp_path).already_there
    with pytest.raises(ChecksumError, match=r"its sha1 is .* was published") as caught:
        get(entry, tmp_path, **options)
    assert str(path) in str(caught.value) and "move it away" in str(caught.value)
    assert path.exists() and len(server.seen) == 1  # a person's file is never thrown away


def test_a_touched_file_is_hashed_once(server: HostileServer, tmp_path: Path) -> None:
    entry = published([server.url("x")], checksums=["sha1"])
    path = get(entry, tmp_path).path
    os.utime(path)
    heard: list[list[str]] = [[], []]
    for stages in heard:
        get(entry, tmp_path, progress=lambda moment, stages=stages: stages.append(moment.stage))
    assert set(heard[0]) == {"verifying"} and heard[1] == []
    assert read_record(place_of(entry, directory=tmp_path).record).source == server.url("x")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("checksums", "options", "verified_by"),
    [(["sha1"], {}, "sha1"), ([], {"check": refuse}, "structure"), ([], {}, "size")],
    ids=["checksum", "structure", "size"],
)
def test_a_file_put_there_by_hand_is_checked(
    tmp_path: Path, checksums: list[str], options: dict[str, Any], verified_by: str
) -> None:
    entry = published([], checksums=checksums)  # type: ignore[arg-type]
    (tmp_path / "x.caffemodel").write_bytes(BODY)
    result = get(entry, tmp_path, offline=True, **options)
    assert_whole(result)
    assert result.verified_by == verified_by and result.already_there and result.first_time is not bool(checksums)
    (tmp_path / "x.caffemodel").write_bytes(OTHER)
    with pytest.raises(ChecksumError, match=r"published|recorded"):
        get(entry, tmp_path, offline=True, **options)


@pytest.mark.parametrize(
    ("body", "problem"),
    [(PAGE, "it is a web page .'Sign in & surf'."), (BODY[:1000], "1000 bytes, .* at least"), (OTHER, "'fc6'")],
    ids=["page", "short", "other"],
)
def test_the_wrong_file_put_there_by_hand(tmp_path: Path, body: bytes, problem: str) -> None:
    (tmp_path / "x.caffemodel").write_bytes(body)
    with pytest.raises(ChecksumError, match=problem):
        get(published([]), tmp_path, offline=True, check=refuse)
    assert (tmp_path / "x.caffemodel").read_bytes() == body


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.caffemodel").mkdir()
    with pytest.raises(FetchError, match="a file is expected here"):
        get(published([]), tmp_path, offline=True)


def test_a_folder_that_cannot_be_written_to_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.caffemodel").write_bytes(BODY)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    result = get(published([], checksums=["sha1"]), tmp_path)
    assert result.verified_by == "sha1" and not result.first_time
    assert [each.name for each in tmp_path.iterdir()] == ["x.caffemodel"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FetchError, match=f"voc-fcn8s: {tmp_path / 'file'}"):
        get(published(["http://127.0.0.1:1/x"]), tmp_path / "file" / "weights")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EEXIST, errno.ENOTDIR])
def test_a_folder_for_weights_that_is_closed_or_none_says_what_to_set(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path / "weights"))
    closed, other = (OSError(number, "Closed", str(tmp_path / name)) for name in ("weights/x.part", "out/x.part"))
    assert in_words(closed).endswith("x.part: closed\n  set FCN_PORT_WEIGHTS to a folder that you can write to")
    assert in_words(other).endswith("x.part: closed")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a folder that is somebody's current one may stay")
def test_a_current_folder_that_was_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        Path("x").absolute()
    assert in_words(caught.value).startswith("the current folder was removed; ")
    assert in_words(FileNotFoundError("no release")) == "no release"


# --- where no checksum was published ---


def test_the_first_copy_is_recorded_and_later_ones_must_match(server: HostileServer, tmp_path: Path) -> None:
    entry = published([server.url("x")])
    first = get(entry, tmp_path, check=refuse)
    assert (first.verified_by, first.first_time) == ("structure", True)
    assert "no checksum was ever published" in first.explanation and "any later copy must match" in first.explanation
    as_sha256sum_writes_it = f"\n{sha256(BODY)}  x.caffemodel\n"
    assert place_of(entry, directory=tmp_path).record.read_text().endswith(as_sha256sum_writes_it)
    first.path.unlink()
    server.served = Served(OTHER, etag='"v2"')
    with pytest.raises(ChecksumError, match=f"{first.sha256} was recorded when it was first fetched"):
        get(entry, tmp_path)
    assert not first.path.exists()
    server.served = Served(BODY)
    second = get(entry, tmp_path)
    assert (second.verified_by, second.first_time) == ("record", False)
    assert "recorded with the first copy" in second.explanation


def test_a_structure_that_is_wrong_is_refused(server: HostileServer, tmp_path: Path) -> None:
    server.served = Served(OTHER)
    with pytest.raises(ChecksumError, match="layer 'fc6' is missing"):
        get(published([server.url("x")]), tmp_path, check=refuse)
    assert_nothing(tmp_path)
    server.served = Served(BODY, etag='"v2"')
    assert_whole(get(published([server.url("x")]), tmp_path, check=refuse))


def test_a_published_checksum_spares_the_structure_and_beats_the_record(server: HostileServer, tmp_path: Path) -> None:
    entry = published([server.url("x")], checksums=["sha1"])
    write_record(place_of(entry, directory=tmp_path).record, Record(sha256(OTHER)), file=entry.file)
    result = get(entry, tmp_path, check=pytest.fail)
    assert_whole(result)
    assert "has the published sha1" in result.explanation


def test_a_checksum_that_becomes_known_later_is_used(server: HostileServer, tmp_path: Path) -> None:
    server.served = Served(OTHER)
    get(published([server.url("x")]), tmp_path)
    with pytest.raises(ChecksumError, match=r"its md5 is .* was published"):
        get(published([server.url("x")], checksums=["md5"]), tmp_path)


def test_a_record_written_by_hand_counts(server: HostileServer, tmp_path: Path) -> None:
    entry = published([server.url("x")])
    record = place_of(entry, directory=tmp_path).record
    record.write_text(f"{sha256(OTHER)}  x.caffemodel\n")
    with pytest.raises(ChecksumError, match=sha256(OTHER)):
        get(entry, tmp_path)
    record.write_text(f"{sha256(BODY)} *x.caffemodel\n")
    assert get(entry, tmp_path).verified_by == "record"


@pytest.mark.parametrize("damage", ["", "# fcn-port {}\n", "zz  x\n", f"{sha256(BODY)}  x\n" * 2], ids=repr)
def test_a_damaged_record_stops_only_where_it_matters(server: HostileServer, tmp_path: Path, damage: str) -> None:
    record = place_of(published([]), directory=tmp_path).record
    record.write_text(damage)
    with pytest.raises(ChecksumError, match="one line with a sha256 is expected"):
        get(published([server.url("x")]), tmp_path)
    assert_whole(get(published([server.url("x")], checksums=["md5"]), tmp_path))


@pytest.mark.parametrize("line", ["# fcn-port {", '# fcn-port ["size"]', '# fcn-port {"size": "7", "other": 1}'])
def test_a_record_with_a_damaged_first_line_is_not_trusted_unread(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.caffemodel").write_bytes(BODY)
    place_of(published([]), directory=tmp_path).record.write_text(f"{line}\n{sha256(BODY)}  x.caffemodel\n")
    assert get(published([]), tmp_path).verified_by == "record"


# --- a file obtained elsewhere ---


@pytest.mark.parametrize("checksums", [["sha1"], []], ids=["checksum", "no checksum"])
def test_from_file_copies_through_the_checks(tmp_path: Path, checksums: list[str]) -> None:
    elsewhere = tmp_path / "download (1)"
    elsewhere.write_bytes(BODY)
    entry = published([], checksums=checksums)  # type: ignore[arg-type]
    result = get(entry, tmp_path / "weights", from_file=elsewhere, offline=True, check=refuse)
    assert_whole(result)
    assert result.verified_by == (checksums or ["structure"])[0] and result.source == str(elsewhere)
    assert elsewhere.read_bytes() == BODY and not result.path.samefile(elsewhere)
    assert get(entry, tmp_path / "weights", offline=True).already_there


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (PAGE, "it is a web page"),
        (b"", "0 bytes, and the file has at least"),
        (BODY[:-5000], "bytes, and the file has at least"),
        (BODY + bytes(20 << 20), "bytes, and the file has at most"),
        (OTHER, r"its sha1 is .* was published"),
    ],
    ids=["page", "empty", "short", "long", "other"],
)
def test_from_file_refuses_the_wrong_file(tmp_path: Path, body: bytes, problem: str) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "weights"
    elsewhere.write_bytes(body)
    with pytest.raises(ChecksumError, match=problem) as caught:
        get(published([], checksums=["sha1"]), folder, from_file=elsewhere)
    assert str(elsewhere) in str(caught.value)
    assert_nothing(folder)
    assert not list(folder.glob(".*.part")) and elsewhere.read_bytes() == body


def test_from_file_leaves_a_good_file_if_the_new_one_is_wrong(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(BODY)
    bad.write_bytes(OTHER)
    entry = published([])
    result = get(entry, tmp_path / "weights", from_file=good)
    with pytest.raises(ChecksumError, match="was recorded"):
        get(entry, tmp_path / "weights", from_file=bad)
    assert_whole(result)


def test_from_file_in_its_place_already(tmp_path: Path) -> None:
    path = tmp_path / "x.caffemodel"
    path.write_bytes(BODY)
    result = get(published([]), tmp_path, from_file=path)
    assert_whole(result)
    assert result.already_there


def test_from_file_mends_a_damaged_one_and_clears_a_partial_download(server: HostileServer, tmp_path: Path) -> None:
    entry = published([server.url("x")], checksums=["sha1"])
    server.script = [cut(after=100_000), hang_up]
    with pytest.raises(FetchError):
        get(entry, tmp_path)
    (tmp_path / "x.caffemodel").write_bytes(OTHER)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.write_bytes(BODY)
    assert_whole(get(entry, tmp_path, from_file=elsewhere))


def test_from_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="there is no such file"):
        get(published([]), tmp_path, from_file=tmp_path / "nothing")


# --- no network ---


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_touches_no_network(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("FCN_PORT_OFFLINE", value)
    with pytest.raises(OfflineError, match="the network may not be used") as caught:
        get(published([server.url("x")]), tmp_path)
    assert str(tmp_path / "x.caffemodel") in str(caught.value) and "--from-file" in str(caught.value)
    assert server.seen == []
    assert_whole(get(published([server.url("x")]), tmp_path, offline=False))  # the argument is stronger
    assert get(published([server.url("x")]), tmp_path).already_there


@pytest.mark.parametrize("value", ["", "0", "false", "no", "off"])
def test_offline_is_off(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FCN_PORT_OFFLINE", value)
    assert not is_offline()


def test_an_unknown_release_is_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(UnknownReleaseError, match="voc-fcn8s"):
        fetch("voc-fcn8", directory=tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


# --- before a download ---


def test_plan_says_what_to_expect(server: HostileServer, tmp_path: Path) -> None:
    entry = published([server.url("x")], size=len(BODY))
    server.script = [cut(after=100_000), hang_up]
    with pytest.raises(FetchError):
        get(entry, tmp_path)
    ahead = plan(entry, directory=tmp_path)
    assert (ahead.present, ahead.expected_bytes, ahead.kept_bytes) == (False, len(BODY), 100_000)
    assert ahead.free_bytes > 0 and ahead.urls == entry.urls and ahead.path == tmp_path / "x.caffemodel"
    assert ahead.seconds_at(1000) == pytest.approx(200.005)
    assert plan(replace(entry, size=None, blob_bytes=None), directory=tmp_path).seconds_at(1000) is None
    server.script = [honest]
    get(entry, tmp_path)
    assert plan(entry, directory=tmp_path).seconds_at(1000) == 0
    assert plan("voc-fcn8s", directory=tmp_path / "not" / "there").expected_bytes == 537959036
