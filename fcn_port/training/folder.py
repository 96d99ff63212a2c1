"""The folder of a run: one run at a time writes into it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from converters.safety import make_folder, unlinked

from .errors import TrainingError

LOCK = "train.lock"
_held: dict[Path, int] = {}


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the folder of a run for the block; TrainingError at once where another run holds it.

    The system lets go of it when a process ends, however that ends. Entered again by the thread that holds it, it
    changes nothing.
    """
    place = folder.resolve()
    if _held.get(place) == threading.get_ident():
        yield
        return
    make_folder(folder)
    lock = filelock.FileLock(unlinked(folder / LOCK), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise TrainingError(
            f"{folder}: another training is writing here; wait until it ends, or say --out for another folder"
        ) from None
    _held[place] = threading.get_ident()
    try:
        yield
    finally:
        del _held[place]
        lock.release()
