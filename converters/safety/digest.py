"""The SHA-256 of a file, for whoever records or compares one, at once or beside other work."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import BinaryIO

from ..cancelling import stop_when

_PIECE = 1 << 22
"""Bytes at a time: few enough calls that another thread can compute meanwhile."""


def sha256_of(file: str | os.PathLike[str] | BinaryIO, *, progress: Callable[[int], None] | None = None) -> str:
    """The SHA-256, in lower-case hex, of the file at a path, or of what is left to read of an open one; OSError.

    `progress` is told of the bytes of each piece, and may end the call.
    """
    if isinstance(file, (str, os.PathLike)):
        with Path(file).open("rb", buffering=0) as opened:
            return sha256_of(opened, progress=progress)
    digest, piece = hashlib.sha256(), memoryview(bytearray(_PIECE))
    while count := file.readinto(piece):  # type: ignore[attr-defined]
        digest.update(piece[:count])
        if progress is not None:
            progress(count)
    return digest.hexdigest()


@contextmanager
def sha256_beside(path: str | os.PathLike[str]) -> Iterator[Callable[[], str]]:
    """The SHA-256 of a file, made in another thread while the block runs; gives the call that waits for it.

    A block that is left without having asked, as where its work is cancelled, does not wait for the rest of the file.
    """
    left = Event()
    with ThreadPoolExecutor(1) as thread:
        made = thread.submit(sha256_of, path, progress=stop_when(left.is_set))
        try:
            yield made.result
        finally:
            left.set()
