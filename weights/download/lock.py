"""One process at a time works on a file; the others wait. What a killed one left is taken away by the next.

Whether somebody is at work is told by locks, never by times: clocks differ, and a download may stand still for an hour.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from converters.safety import make_folder, remove_abandoned
from weights.download.partial import Partial
from weights.download.progress import Meter
from weights.store import StoredFile


@contextmanager
def locked(place: StoredFile, meter: Meter) -> Iterator[None]:
    """Hold the lock of a place; whoever comes second waits, and usually finds the file done."""
    make_folder(place.folder)
    lock = filelock.FileLock(place.lock)
    while True:
        try:
            lock.acquire(timeout=1.0, poll_interval=0.05)
            break
        except filelock.Timeout:
            meter.stage("waiting", note="another process is fetching the same file")
    try:
        _remove_parts(place)
        yield
    finally:
        lock.release()


def sweep(place: StoredFile, *, also: Path | None = None) -> None:
    """Take away what killed processes left of a thing that is here by now: its download, its parts, the folder `also`.

    Nothing while somebody works on it; nor where it cannot be written.
    """
    left = also is not None and also.is_dir()
    if not left and place.folder.is_dir():
        left = any(each.name.startswith(_heads(place)) for each in place.folder.iterdir())
    if not left:
        return
    with suppress(OSError), filelock.FileLock(place.lock, timeout=0):  # its Timeout is an OSError
        _remove_parts(place)
        Partial.of(place).discard()
        if also is not None:
            shutil.rmtree(also, ignore_errors=True)


def _heads(place: StoredFile) -> tuple[str, str]:
    """The beginnings of unfinished files' names."""
    return f".{place.file}.", place.part.name


def _remove_parts(place: StoredFile) -> None:
    for path in (place.path, place.record, place.part, place.origin):
        remove_abandoned(path)
