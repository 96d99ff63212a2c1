"""One process at a time works on a file; the others wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import filelock

from weights.progress import Meter
from weights.store import Place


@contextmanager
def alone(place: Place, meter: Meter) -> Iterator[None]:
    """Hold the lock of a place; whoever comes second waits, and usually finds the file done."""
    place.folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(place.lock)
    while True:
        try:
            lock.acquire(timeout=1.0, poll_interval=0.05)
            break
        except filelock.Timeout:
            meter.stage("waiting", note="another process is fetching the same file")
    try:
        yield
    finally:
        lock.release()
