"""What the tests of downloads share: a small file to fetch, its release, and little patience."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from parity_tests.http_server import Behaviour, HostileServer, Served, cut, hang_up, ignore_if_range
from weights.catalogue import DIGEST_LENGTHS, release
from weights.download.fetching import FetchResult, fetch
from weights.download.retry_policy import RetryPolicy
from weights.errors import FetchError
from weights.records import Checksum, Release
from weights.sidecar import read_record

BODY = b"\n\x03net" + random.Random(7).randbytes(300_000)
"""A file that begins as a caffemodel does, and takes several reads."""

PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in &amp; surf</title></head></html>"

OTHER = b"\n\x03net" + random.Random(8).randbytes(300_000)
"""Another one of the same size."""

HURRY = RetryPolicy(connect=5.0, stall=5.0, slowest=1000, attempts=3, worthwhile=1000, pause=0.001, longest_pause=0.01)
"""No time between tries, and time enough for an honest server on a busy machine."""

IMPATIENT = replace(HURRY, stall=0.3, slowest=20_000)
"""For servers that are meant to be given up."""


def sha256(body: bytes) -> str:
    """As hashlib has it."""
    return hashlib.sha256(body).hexdigest()


def published(
    urls: Iterable[str],
    *,
    body: bytes = BODY,
    checksums: Iterable[Literal["sha256", "sha1", "md5"]] = (),
    size: int | None = None,
) -> Release:
    """A release of `body`: voc-fcn8s, with another file and only the checksums that are asked for."""
    return replace(
        release("voc-fcn8s"),
        file="x.caffemodel",
        urls=tuple(urls),
        size=size,
        blob_bytes=len(body) - 500,
        checksums=tuple(
            Checksum(name, hashlib.new(name, body).hexdigest()) for name in DIGEST_LENGTHS if name in set(checksums)
        ),
    )


def get(entry: Release, folder: Path, **options: Any) -> FetchResult:
    """Fetch into `folder`, in a hurry."""
    return fetch(entry, directory=folder, **{"patience": HURRY, **options})


def assert_whole(result: FetchResult, *, body: bytes = BODY) -> None:
    """The file is there, it and its record are right, and nothing else is left."""
    assert result.path.read_bytes() == body
    assert result.sha256 == sha256(body)
    record = read_record(result.path.with_name(result.path.name + ".sha256"))
    assert record is not None and record.sha256 == sha256(body)
    left = {each.name.removeprefix(result.path.name) for each in result.path.parent.iterdir()}
    assert left <= {"", ".sha256", ".lock"}


def assert_nothing(folder: Path) -> None:
    """No file under its name, and nothing recorded that a later one would have to match."""
    assert not (folder / "x.caffemodel").exists() and not (folder / "x.caffemodel.sha256").exists()


def scenario_changed_file(server: HostileServer, folder: Path, then: Behaviour = ignore_if_range) -> None:
    """The second half of another file must not be put behind the first half of this one."""
    entry = published([server.url("x")])
    server.script = [cut(after=150_000), hang_up]
    with pytest.raises(FetchError):
        get(entry, folder)
    server.served = Served(OTHER, etag='"v2"')
    server.script = [then]
    assert_whole(get(entry, folder), body=OTHER)
