"""Downloads with one protection taken out: the scenario that it is for must notice, or it tests nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from parity_tests.fetching import BODY, OTHER, PAGE, assert_nothing, assert_whole, get, published, scenario_changed_file
from parity_tests.http_server import (
    HostileServer,
    Served,
    always,
    cut,
    honest,
    ignore_range_and_cut,
    other_range,
)
from weights.download import partial, transfer, verify
from weights.download import release as download
from weights.errors import ChecksumError, FetchError

pytest_plugins = ["parity_tests.fetch_fixtures"]


def blind_to_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume that appends whatever comes."""
    monkeypatch.setattr(partial.Origin, "validator", property(lambda self: "anything"))
    monkeypatch.setattr(partial.Origin, "contradicts", lambda self, other: False)


def scenario_wrong_file(server: HostileServer, folder: Path) -> None:
    """Another file of the same size."""
    server.served = Served(OTHER)
    with pytest.raises(ChecksumError, match=r"its sha1 is .* was published"):
        get(published([server.url("x")], checksums=["sha1"]), folder)
    assert_nothing(folder)


def blind_to_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that believes what it gets."""
    monkeypatch.setattr(verify, "_compared", lambda path, digests, checksum, recorded: checksum.algorithm)


def scenario_strays_from_the_range(server: HostileServer, folder: Path) -> None:
    """The rest begins somewhere else than asked."""
    server.script = [cut(after=150_000), other_range]
    assert_whole(get(published([server.url("x")]), folder))


def blind_to_content_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume that does not look where the answer begins."""
    monkeypatch.setattr(
        transfer, "_agreed_start", lambda response, start, origin, kept: 0 if response.status_code == 200 else start
    )


def scenario_page_for_a_file(server: HostileServer, folder: Path) -> None:
    """A web page, announced as a file."""
    server.script = [always(PAGE, kind="application/octet-stream")]
    with pytest.raises(ChecksumError, match="web page"):
        get(replace(published([server.url("x")]), blob_bytes=None), folder)
    assert_nothing(folder)


def blind_to_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that takes a page for a file."""
    monkeypatch.setattr(transfer, "refuse_web_page", lambda head: None)
    monkeypatch.setattr(verify, "refuse_web_page", lambda head: None)


def scenario_cut_without_checksum(server: HostileServer, folder: Path) -> None:
    """Nearly all of the file."""
    server.script = [cut(after=299_900), honest]
    assert_whole(get(published([server.url("x")]), folder))


def blind_to_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that takes the end of the connection for the end of the file."""
    whole = transfer._append

    def append(pieces: object, total: int | None, job: transfer.TransferJob) -> None:
        with contextlib.suppress(transfer.InterruptedTransfer):
            whole(pieces, total, job)  # type: ignore[arg-type]

    monkeypatch.setattr(transfer, "_append", append)


def scenario_half_way_for_ever(server: HostileServer, folder: Path) -> None:
    """Always from the start, never to the end; fifty times, so that the test ends too."""
    server.script = [ignore_range_and_cut(after=200_000)] * 50 + [honest]
    with pytest.raises(FetchError, match="tried 3 times"):
        get(published([server.url("x")]), folder)


def blind_to_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that tries again for as long as anything comes."""
    monkeypatch.setattr(download, "max", lambda best, size: 0, raising=False)


@pytest.mark.parametrize(
    ("scenario", "blindness"),
    [
        (scenario_changed_file, blind_to_versions),
        (scenario_wrong_file, blind_to_checksums),
        (scenario_strays_from_the_range, blind_to_content_range),
        (scenario_page_for_a_file, blind_to_pages),
        (scenario_cut_without_checksum, blind_to_cuts),
        (scenario_half_way_for_ever, blind_to_no_progress),
    ],
    ids=lambda each: each.__name__,
)
def test_the_scenario_notices_what_it_is_about(
    server: HostileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scenario: Callable[[HostileServer, Path], None],
    blindness: Callable[[pytest.MonkeyPatch], None],
) -> None:
    scenario(server, tmp_path / "right")
    server.served = Served(BODY)
    blindness(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        scenario(server, tmp_path / "blind")
