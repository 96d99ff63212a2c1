"""A download is whole in the end, whatever interrupts it, and never put together from two different files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from parity_tests.fetching import (
    BODY,
    HURRY,
    IMPATIENT,
    OTHER,
    assert_nothing,
    assert_whole,
    get,
    published,
    scenario_changed_file,
)
from parity_tests.http_server import (
    Behaviour,
    HostileServer,
    Served,
    absurd_range,
    announce,
    chunked,
    cut,
    hang_up,
    honest,
    ignore_if_range,
    ignore_range,
    ignore_range_and_cut,
    other_range,
    silent,
    slow,
    stall,
    status,
)
from weights.download.progress import Progress
from weights.errors import FetchError
from weights.store import place_of

pytest_plugins = ["parity_tests.fetch_fixtures"]


# --- a server that may be trusted ---


@pytest.mark.parametrize("behaviour", [honest, slow, chunked, ignore_range], ids=lambda each: each.__name__)
@pytest.mark.parametrize("checksums", [["sha256", "sha1"], ["sha1", "md5"], ["md5"], []], ids=str)
def test_download(server: HostileServer, tmp_path: Path, behaviour: Behaviour, checksums: list[str]) -> None:
    server.script = [behaviour]
    entry = published([server.url("x")], checksums=checksums)  # type: ignore[arg-type]
    result = get(entry, tmp_path)
    assert_whole(result)
    assert result.verified_by == (checksums[0] if checksums else "size")
    assert (result.bytes_downloaded, result.source) == (len(BODY), server.url("x"))
    assert result.first_time is (not checksums) and not result.already_there
    assert server.starts() == [0]


def test_progress_adds_up(server: HostileServer, tmp_path: Path) -> None:
    server.script = [cut(after=100_000), slow]
    heard: list[Progress] = []
    get(published([server.url("x")], size=len(BODY)), tmp_path, progress=heard.append)
    stages = list(dict.fromkeys(each.stage for each in heard))
    assert stages == ["connecting", "downloading", "retrying", "verifying", "done"]
    moving = [each for each in heard if each.stage == "downloading"]
    assert [each.done for each in moving] == sorted(each.done for each in moving)
    assert moving[-1].done == moving[-1].total == len(BODY) and moving[0].done == 0
    halfway = next(each for each in moving if each.done > 150_000)
    assert halfway.rate and halfway.seconds_left is not None and 0 <= halfway.seconds_left < 5
    assert all(each.url == server.url("x") for each in moving)
    retry = next(each for each in heard if each.stage == "retrying")
    assert retry.note is not None and retry.note.endswith("after 100 kB of 300 kB")


def test_needs_no_more_disk_than_the_file(server: HostileServer, tmp_path: Path) -> None:
    server.script = [cut(after=200_000), slow]
    most = 0

    def look(_moment: Progress) -> None:
        nonlocal most
        most = max(most, sum(each.stat().st_size for each in tmp_path.iterdir()))

    get(published([server.url("x")], checksums=["sha1"]), tmp_path, progress=look)
    assert len(BODY) <= most < len(BODY) + 2000


# --- interruptions ---

INTERRUPTIONS: dict[str, Behaviour] = {
    "cut": cut(after=120_000),
    "stalled": stall(after=120_000),
    "announced too much": announce(length=len(BODY) + 1000),
    "500": status(500),
    "503": status(503),
    "429": status(429),
    "no answer": silent,
    "hung up": hang_up,
}


@pytest.mark.parametrize("interruption", INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_goes_on_after_an_interruption(server: HostileServer, tmp_path: Path, interruption: Behaviour) -> None:
    server.script = [cut(after=100_000), interruption, honest]
    entry = published([server.url("x")], checksums=["sha1"])
    patience = IMPATIENT if interruption in (INTERRUPTIONS["stalled"], silent) else HURRY
    assert_whole(get(entry, tmp_path, patience=patience))
    assert server.starts()[:2] == [0, 100_000]
    assert all(begin > 0 for begin in server.starts()[1:])
    assert len(server.seen) == 3


def test_many_cuts_are_no_reason_to_give_up(server: HostileServer, tmp_path: Path) -> None:
    server.script = [cut(after=20_000)]
    result = get(published([server.url("x")], size=len(BODY)), tmp_path)
    assert_whole(result)
    assert len(server.seen) == -(-len(BODY) // 20_000) and result.bytes_downloaded == len(BODY)


def test_a_second_run_goes_on(server: HostileServer, tmp_path: Path) -> None:
    entry = published([server.url("x")])
    server.script = [cut(after=130_000), hang_up]
    with pytest.raises(FetchError, match="130 kB have arrived and are kept"):
        get(entry, tmp_path)
    assert_nothing(tmp_path)
    server.script = [honest]
    result = get(entry, tmp_path)
    assert_whole(result)
    assert server.seen[-1].start == 130_000 and server.seen[-1].headers["if-range"] == '"v1"'
    assert result.bytes_downloaded == len(BODY) - 130_000


def test_an_interrupt_from_the_keyboard_keeps_what_has_arrived(server: HostileServer, tmp_path: Path) -> None:
    server.script = [slow]

    def press(moment: Progress) -> None:
        if moment.done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(published([server.url("x")]), tmp_path, progress=press)
    assert_nothing(tmp_path)
    kept = place_of(published([]), directory=tmp_path).part.stat().st_size
    assert kept > 100_000
    assert_whole(get(published([server.url("x")]), tmp_path))
    assert server.seen[-1].start == kept


def test_a_download_that_only_had_to_be_checked_needs_no_network(server: HostileServer, tmp_path: Path) -> None:
    entry = published([server.url("x")], checksums=["sha1"])

    def die(moment: Progress) -> None:
        if moment.stage == "verifying":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(entry, tmp_path, progress=die)
    assert_nothing(tmp_path)
    assert_whole(get(entry, tmp_path, offline=True))
    assert len(server.seen) == 1


def test_a_finished_download_without_known_size_is_settled_by_416(server: HostileServer, tmp_path: Path) -> None:
    server.script = [chunked]
    entry = published([server.url("x")])

    def die(moment: Progress) -> None:
        if moment.stage == "verifying":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(entry, tmp_path, progress=die)
    server.script = [honest]
    result = get(entry, tmp_path)
    assert_whole(result)
    assert server.starts() == [0, len(BODY)] and result.bytes_downloaded == 0


# --- the file changed, or the server does not do as asked ---


@pytest.mark.parametrize("then", [honest, ignore_range, ignore_if_range], ids=lambda each: each.__name__)
def test_a_changed_file_is_fetched_from_its_start(server: HostileServer, tmp_path: Path, then: Behaviour) -> None:
    scenario_changed_file(server, tmp_path, then)


def test_a_shorter_file_is_fetched_from_its_start(server: HostileServer, tmp_path: Path) -> None:
    entry = replace(published([server.url("x")]), blob_bytes=90_000)
    server.script = [cut(after=150_000), hang_up]
    with pytest.raises(FetchError):
        get(entry, tmp_path)
    server.served, server.script = Served(OTHER[:100_000], etag=None), [honest]  # 416 to a Range beyond its end
    assert_whole(get(entry, tmp_path), body=OTHER[:100_000])


def test_without_validator_or_checksum_nothing_is_put_together(server: HostileServer, tmp_path: Path) -> None:
    server.served = Served(BODY, etag=None)
    server.script = [cut(after=150_000), honest]
    assert_whole(get(published([server.url("x")]), tmp_path))
    assert server.starts() == [0, 0]


@pytest.mark.parametrize(
    ("etag", "date", "expected"),
    [
        ('"v1"', None, '"v1"'),
        (None, "Thu, 01 Sep 2016 00:00:00 GMT", "Thu, 01 Sep 2016 00:00:00 GMT"),
        ('W/"v1"', "Thu, 01 Sep 2016 00:00:00 GMT", "Thu, 01 Sep 2016 00:00:00 GMT"),  # a weak one is not for ranges
    ],
)
def test_if_range_names_the_version(
    server: HostileServer, tmp_path: Path, etag: str | None, date: str | None, expected: str
) -> None:
    server.served = Served(BODY, etag=etag, last_modified=date)
    server.script = [cut(after=150_000), honest]
    assert_whole(get(published([server.url("x")]), tmp_path))
    assert server.seen[1].start == 150_000 and server.seen[1].headers["if-range"] == expected


def test_a_checksum_settles_what_the_server_cannot(server: HostileServer, tmp_path: Path) -> None:
    """No validator: the halves of two files are put together, found out, and fetched again in one piece."""
    server.served = Served(OTHER, etag=None)
    entry = published([server.url("x")], checksums=["md5"])
    server.script = [cut(after=150_000), hang_up]
    with pytest.raises(FetchError):
        get(entry, tmp_path)
    server.served, server.script = Served(BODY, etag=None), [honest]
    assert_whole(get(entry, tmp_path))
    assert server.starts()[-2:] == [150_000, 0]


@pytest.mark.parametrize("then", [ignore_range, other_range, absurd_range, chunked], ids=lambda each: each.__name__)
def test_an_answer_that_begins_elsewhere(server: HostileServer, tmp_path: Path, then: Behaviour) -> None:
    server.script = [cut(after=150_000), then]
    assert_whole(get(published([server.url("x")]), tmp_path))


def test_always_from_the_start_and_never_to_the_end(server: HostileServer, tmp_path: Path) -> None:
    """Every try brings bytes, and none brings the file any further: this ends."""
    server.script = [ignore_range_and_cut(after=200_000)]
    with pytest.raises(FetchError, match="ended, after 200 kB of 300 kB, tried 3 times"):
        get(published([server.url("x")]), tmp_path)
    assert len(server.seen) == 1 + HURRY.attempts
