"""Files that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # on Windows a file that is open cannot be removed, which does as well as a lock
    fcntl = None  # type: ignore[assignment]


@contextmanager
def whole_file(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[BinaryIO]:
    """A new file that appears under `path` when the block ends well, and not at all when it does not.

    An earlier file of that name stays until then; folders on the way are made; a link is followed. A process that is
    killed leaves its part, `.<name>.<letters>.part`, which the next one to write the same file takes away: a part is
    locked for as long as its writer lives. Raises OSError where the place cannot be written, at once if it is a folder
    or a device.

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
    part, file = _new_part(target)
    try:
        with file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            part.unlink()
        raise


def _new_part(target: Path) -> tuple[Path, BinaryIO]:
    """A part of our own, locked. One that a cleaner took away before it was locked is made anew."""
    while True:
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        file = part.open("x+b")
        if _locked(file.fileno()) is not False and (fcntl is None or os.fstat(file.fileno()).st_nlink):
            return part, file
        file.close()


def _remove_abandoned(target: Path) -> None:
    """Take away the parts of writers that were killed, whatever their times say: nobody holds their lock."""
    head, tail = f".{target.name}.", ".part"
    with suppress(OSError):
        for part in target.parent.iterdir():
            if part.name.startswith(head) and part.name.endswith(tail) and len(part.name) == len(head + tail) + 8:
                with suppress(OSError):
                    _remove_unless_locked(part)


def _remove_unless_locked(part: Path) -> None:
    if fcntl is None:
        part.unlink()
        return
    file = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if _locked(file):
            part.unlink()
    finally:
        os.close(file)


def _locked(file: int) -> bool | None:
    """Lock an open file if nobody else has; None where the file system knows no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
