"""The SHA-256 of a file, for whoever records or compares one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

_PIECE = 1 << 22
"""Bytes at a time: few enough calls that another thread can compute meanwhile."""


def sha256_of(file: str | os.PathLike[str] | BinaryIO) -> str:
    """The SHA-256, in lower-case hex, of the file at a path, or of what is left to read of an open one; OSError."""
    if isinstance(file, (str, os.PathLike)):
        with Path(file).open("rb", buffering=0) as opened:
            return sha256_of(opened)
    digest, piece = hashlib.sha256(), memoryview(bytearray(_PIECE))
    while count := file.readinto(piece):  # type: ignore[attr-defined]
        digest.update(piece[:count])
    return digest.hexdigest()
