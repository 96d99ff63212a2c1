"""Numbers that tell a file from every other one, and from itself after it was written again."""

from __future__ import annotations

import os
from pathlib import Path


def file_version(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Device, inode, bytes, and the nanoseconds of the last change of contents and of the file itself.

    The last of them changes even where a program sets the others back, and where only permissions change. OSError
    where there is no such file.
    """
    found = Path(path).stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
