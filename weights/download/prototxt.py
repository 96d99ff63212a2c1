"""The authors' net definition of a release, beside its caffemodel.

Nobody needs it to convert, for a caffemodel holds its net too; it is there to be read and compared. No checksum was
published, so it is only seen to be text that defines layers.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from weights import catalogue
from weights.download.digests import RunningDigests
from weights.download.fetching import is_offline
from weights.download.lock import locked, sweep
from weights.download.mirror import addresses
from weights.download.partial import Partial
from weights.download.progress import Callback, Meter
from weights.download.retry_policy import RetryPolicy
from weights.download.verify import Wanted, WrongFile
from weights.errors import FetchError, OfflineError
from weights.records import Release
from weights.store import StoredFile, prototxt_place

LARGEST = 1 << 20
"""Bytes; the nets of the releases take ten thousand."""


def fetch_prototxt(
    release: Release | str,
    *,
    directory: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    progress: Callback | None = None,
    patience: RetryPolicy | None = None,
) -> Path:
    """The path of the release's net definition, `<name>.prototxt`; FetchError if it cannot be had.

    A file that is there already is left as it is.
    """
    entry = catalogue.release_of(release)
    place = prototxt_place(entry, directory=directory)
    if place.path.is_file():
        sweep(place)
        return place.path
    if is_offline() if offline is None else offline:
        raise OfflineError(f"{entry.name}: {place.path} is not here, and the network may not be used")
    meter = Meter(progress, place.file)
    try:
        with locked(place, meter):
            if not place.path.is_file():
                _download(entry, place, meter, patience or RetryPolicy())
    except OSError as error:
        raise FetchError(f"{entry.name}: {error.filename or place.folder}: {error.strerror or error}") from error
    return place.path


def _download(release: Release, place: StoredFile, meter: Meter, patience: RetryPolicy) -> None:
    from weights.download.release import NoAddressWorked, download  # here, for the network library is slow to import
    from weights.download.transfer import TransferJob

    partial = Partial.of(place)
    job = TransferJob(partial, Wanted(at_most=LARGEST), RunningDigests(), meter, patience)
    try:
        download(addresses(release.prototxts, place.file), job, verify=lambda: _look_at(partial.path.read_bytes()))
    except NoAddressWorked as error:
        tried = "".join(f"\n  {each.url}\n    {each.reason}" for each in error.failures)
        raise FetchError(f"{release.name}: {place.file} could not be downloaded{tried}") from None
    partial.path.replace(place.path)
    partial.discard()


def _look_at(body: bytes) -> None:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WrongFile(f"it is not text: {error}") from None
    if not re.search(r"\blayers?\s*\{", text):
        raise WrongFile("it defines no layer")
