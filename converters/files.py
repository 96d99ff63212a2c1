"""Files that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_ABANDONED = 3600
"""Seconds without a write after which a part belongs to nobody: its writer was killed."""


@contextmanager
def whole_file(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[BinaryIO]:
    """A new file that appears under `path` when the block ends well, and not at all when it does not.

    An earlier file of that name stays until then; folders on the way are made; a link is followed. A process that is
    killed leaves its part, `.<name>.<letters>.part`, which the next one to write the same file an hour later takes
    away. Raises OSError where the place cannot be written, at once if it is a folder or a device.

    `durable` waits until the disk has it, so that even a power cut leaves the old file or the new one; without it a
    power cut in the next seconds may leave a short file, which does for what can be made again.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder; expected the name of a file to write", os.fspath(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "a device or pipe cannot be replaced by a file", os.fspath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("x+b") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            part.unlink()
        raise


def _remove_abandoned(target: Path) -> None:
    head, tail = f".{target.name}.", ".part"
    with suppress(OSError):
        for part in target.parent.iterdir():
            is_ours = part.name.startswith(head) and part.name.endswith(tail) and len(part.name) == len(head + tail) + 8
            if is_ours and time.time() - part.stat().st_mtime > _ABANDONED:
                part.unlink()
