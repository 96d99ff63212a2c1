"""The folder of a run: one run at a time writes into it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    changes nothing. A run that fails before it has written anything, as by a mistyped option, leaves nothing behind.
    """
    place = folder.resolve()
    if _held.get(place) == threading.get_ident():
        yield
        return
    made = [each for each in (place, *place.parents) if not each.exists()]
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
    except BaseException:
        _take_away(place / LOCK, made)
        raise
    finally:
        del _held[place]
        lock.release()


def _take_away(lock: Path, folders: list[Path]) -> None:
    """Remove a lock that is held and alone, where the system can, and what was made to put it there, innermost first.

    Who opened the file meanwhile sees that it has no name any more, and has not got the lock.
    """
    with suppress(OSError):
        if list(lock.parent.iterdir()) == [lock]:
            lock.unlink()
            for folder in folders:
                folder.rmdir()
