"""Files that are whole or not there, and files that only their owner had a hand in: safe in folders that are shared.

Whoever can write in a folder can put a link where a file is about to be made. So what is unfinished has a name that
nobody can guess or is refused if it is not this user's own, and a link that another user left in a folder for
everybody is not followed (as Linux does where `fs.protected_symlinks` is set).
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from ..escaping import name_with_room
from ..given import path_of

try:
    import fcntl
except ImportError:  # on Windows a file that is open cannot be removed, which does as well as a lock
    fcntl = None  # type: ignore[assignment]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The errors of a write where there is no room; they do not name the file."""
_MOST_LINKS = 40
"""Of one path, as in Linux."""

PARTS: set[Path] = set()
"""The files and folders that this process has in the making, from before they are there until they are gone."""


@contextmanager
def whole_file(path: str | os.PathLike[str], *, durable: bool = True, follow: bool = True) -> Iterator[BinaryIO]:
    """A new file that appears under `path` when the block ends well, and not at all when it does not.

    An earlier file of that name stays until then; folders on the way are made; a link is followed, or with
    `follow=False`, for names that no person chose, replaced. A process that is killed leaves its part,
    `.<name>.<letters>.part`, which the next one to write the same file takes away: a part is locked for as long as its
    writer lives. Raises OSError where the place cannot be written, at once if it is a folder or a device; where there
    is no room, it names `path`.

    `durable` waits until the disk has it, so that even a power cut leaves the old file or the new one; without it a
    power cut in the next seconds may leave a short file, which does for what can be made again.
    """
    target = _resolved(path_of(path), follow=follow)
    is_link = target.is_symlink()
    if not is_link and target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder; expected the name of a file to write", os.fspath(path))
    if not is_link and target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "a device or pipe cannot be replaced by a file", os.fspath(path))
    make_folder(target.parent)
    with fresh_file(target) as file:
        part = Path(file.name)
        with naming(path, file):
            yield file
            complete(file, durable=durable)
        part.replace(target)


@contextmanager
def whole_or_open(to: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    """A file that appears whole under the path `to`; or `to` itself, a file that is open, flushed after the block.

    So one is handed on that `whole_file` opened: another file in its place would have no lock.
    """
    if isinstance(to, (str, os.PathLike)) or not hasattr(to, "flush"):
        with whole_file(path_of(to)) as file:
            yield file
    else:
        name = getattr(to, "name", None)  # which a file in memory has not, and which of a nameless one is a number
        with naming(name, to) if isinstance(name, (str, os.PathLike)) else nullcontext():
            yield to
            to.flush()


def write_whole(path: str | os.PathLike[str], content: bytes, *, durable: bool = True, follow: bool = True) -> None:
    """Write a file that appears under `path` whole or not at all, as `whole_file` does."""
    with whole_file(path, durable=durable, follow=follow) as file:
        file.write(content)


def is_one_of(path: str | os.PathLike[str], others: Iterable[str | os.PathLike[str] | None]) -> bool:
    """True where a file of that name is there and is one of the others, by whatever links: writing would lose it."""
    place = Path(path)
    found = [Path(each) for each in others if each is not None] if place.exists() else []
    return any(each.exists() and place.samefile(each) for each in found)


def make_folder(path: Path) -> None:
    """A folder, made if it is missing, and those on the way; OSError for one behind a link of another user."""
    _resolved(path, follow=True).mkdir(parents=True, exist_ok=True)


@contextmanager
def fresh_file(target: Path) -> Iterator[BinaryIO]:
    """A new file beside `target`, `.<name>.<letters>.part`: taken away after the block, unless it was renamed.

    It is open for reading and writing; nobody can have put anything under its name before. Parts of `target` that
    processes left when they were killed are taken away.
    """
    remove_abandoned(target)
    part, file = _new_part(target)
    try:
        with naming(target, file):
            yield file
            file.close()
    finally:
        with suppress(OSError):  # what a full disk did not take, it does not take now; the first error says it
            file.close()
        _remove(part)


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """A new, empty folder beside `target`, `.<name>.<letters>.part`: taken away after the block with all that is in it.

    Unless it was renamed, as is meant. Those that processes left for `target` when they were killed are taken away.
    """
    remove_abandoned(target)
    part, lock = _new_folder(target)
    try:
        yield part
    finally:
        if lock is not None:
            os.close(lock)
        _remove(part)


def remove_parts() -> None:
    """Take away what this process has in the making: for a program that ends, whatever a signal interrupted."""
    for part in list(PARTS):
        with suppress(OSError):
            _remove(part)


@contextmanager
def naming(path: str | os.PathLike[str], file: BinaryIO) -> Iterator[None]:
    """Have an error that there is no room name `path`, and say how much of it there was room for."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL or error.filename not in (None, file.name):
            raise
        written = "" if file.closed else f" after {os.fstat(file.fileno()).st_size:,} bytes"
        raise OSError(error.errno, os.strerror(error.errno) + written, os.fspath(path)) from error


def complete(file: BinaryIO, *, durable: bool = False) -> None:
    """Have all of a fresh file where others see it, ready to be renamed; it stays locked until it is closed."""
    file.flush()
    if durable:
        os.fsync(file.fileno())
    if fcntl is None:  # what is open cannot be renamed there
        file.close()


def open_part(path: Path) -> BinaryIO:
    """A file that several runs add to, such as an unfinished download: open at its end, unbuffered; made if missing.

    Its name has to be known beforehand, so it is refused (OSError) unless it is a regular file of this user's, under
    this name alone. What `is_own` says no to can be unlinked, and then made anew.
    """
    flags = os.O_RDWR | os.O_APPEND | _SAFE
    while True:
        try:
            return _opened(path, flags | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            pass
        with suppress(FileNotFoundError):  # gone meanwhile: made in the next round
            return _opened(path, flags)


def unlinked(path: Path) -> Path:
    """`path`, for a file whose name no person chose: a link that is there is taken away, not followed."""
    if path.is_symlink():
        path.unlink(missing_ok=True)
    return path


def append(file: BinaryIO, content: bytes) -> None:
    """Write all of `content` to an unbuffered file, which by itself may take a part; OSError that names the file."""
    with naming(file.name, file):
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]


def open_own(path: Path) -> BinaryIO:
    """A file to read that this user made, and nobody else: OSError for a link, a pipe, or somebody else's file."""
    return _opened(path, os.O_RDONLY | _SAFE)


def is_own(path: Path) -> bool:
    """True where `path` is a regular file of this user's, under this name alone and no link."""
    try:
        return _why_not_own(path.lstat()) is None
    except OSError:
        return False


_SAFE = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_BINARY"))
"""Neither follow a link, nor be inherited, nor wait for the other end of a pipe, nor translate lines."""


def _opened(path: Path, flags: int) -> BinaryIO:
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):  # what systems say of a link, and of a pipe
            raise _not_own(path, "a link or a pipe") from None
        raise
    try:
        problem = _why_not_own(os.fstat(descriptor))
        if problem is not None:
            raise _not_own(path, problem)
        mode = "ab+" if flags & os.O_APPEND else "rb"
        return open(path, mode, buffering=0, opener=lambda *_: descriptor)  # type: ignore[return-value]
    except BaseException:
        os.close(descriptor)
        raise


def _not_own(path: Path, problem: str) -> OSError:
    return OSError(errno.EPERM, f"expected a file that you made, found {problem}; move it away", os.fspath(path))


def _why_not_own(found: os.stat_result) -> str | None:
    """The kind of a file that is not this user's own; None for one that is."""
    if stat.S_ISLNK(found.st_mode):
        return "a link"
    if not stat.S_ISREG(found.st_mode):
        return "no regular file"
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        return "another user's file"
    return f"a file with {found.st_nlink} names" if found.st_nlink > 1 else None


# Links


def _resolved(path: Path, *, follow: bool) -> Path:
    """`path` without links, but for the last one where it is not to be followed; OSError for one of another user."""
    target = path if follow else path.parent
    links = 0
    waiting = [target.absolute()]
    while waiting:
        place = waiting.pop()
        for each in (*reversed(place.parents), place):
            if not each.is_symlink():
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
            if _is_left_by_another(each):
                problem = "a link that another user made in a folder where everybody writes; remove it"
                raise OSError(errno.EACCES, problem, os.fspath(each))
            waiting.append(each.parent / each.readlink())
    real = Path(os.path.realpath(target))
    return real if follow else real / path.name


def _is_left_by_another(link: Path) -> bool:
    """True for a link that was made by another user in a folder where everybody may write."""
    if not hasattr(os, "geteuid"):
        return False
    owner, folder = link.lstat().st_uid, link.parent.stat()
    return owner not in (0, os.geteuid(), folder.st_uid) and bool(folder.st_mode & stat.S_IWOTH)


# Parts


@contextmanager
def _as_of(target: Path) -> Iterator[None]:
    """Have an error name the file that somebody asked for, and not its part, whose name nobody knows."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(target)) from error


def _new_part(target: Path) -> tuple[Path, BinaryIO]:
    """A part of our own, locked. One that a cleaner took away before it was locked is made anew."""
    while True:
        with _named_part(target) as part:
            file = part.open("x+b")  # "x" neither follows a link nor opens what is there
            if _locked(file.fileno(), shared=True) is not False and (fcntl is None or os.fstat(file.fileno()).st_nlink):
                return part, file
            file.close()
        PARTS.discard(part)


def _new_folder(target: Path) -> tuple[Path, int | None]:
    """The same for a folder, with what holds its lock where there are locks."""
    while True:
        with _named_part(target) as part:
            part.mkdir()
            if fcntl is None:
                return part, None
            with suppress(FileNotFoundError):
                lock = os.open(part, os.O_RDONLY)
                if _locked(lock) is not False and part.is_dir():
                    return part, lock
                os.close(lock)
        PARTS.discard(part)


@contextmanager
def _named_part(target: Path) -> Iterator[Path]:
    """The name of a part that is made within; not there if that fails.

    It is among PARTS before it is there: making a file can take the system so long that an interrupt falls into it,
    and is raised where the file is there and nobody has it.
    """
    part = target.with_name(f".{name_with_room(target.name)}.{secrets.token_hex(4)}.part")
    PARTS.add(part)
    try:
        with _as_of(target):
            yield part
    except FileExistsError:  # another's
        PARTS.discard(part)
        raise
    except BaseException:
        with suppress(OSError):
            _remove(part)
        PARTS.discard(part)
        raise


def _remove(part: Path) -> None:
    """Take away a part of our own, unless it was renamed; an interrupt in between leaves it among PARTS."""
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)
    PARTS.discard(part)


def remove_abandoned(target: Path) -> None:
    """Take away the parts of writers that were killed, whatever their times say: nobody holds their lock."""
    head, tail = f".{name_with_room(target.name)}.", ".part"
    with suppress(OSError):
        for part in target.parent.iterdir():
            if part.name.startswith(head) and part.name.endswith(tail) and len(part.name) == len(head + tail) + 8:
                with suppress(OSError):
                    _remove_unless_locked(part)


def _remove_unless_locked(part: Path) -> None:
    if stat.S_ISDIR(part.lstat().st_mode):
        _remove_folder_unless_locked(part)
    elif fcntl is None:
        part.unlink()
    else:
        with open_own(part) as file:
            if _locked(file.fileno()):
                part.unlink()


def _remove_folder_unless_locked(part: Path) -> None:
    """Only where there are locks, for what is in a folder that is in use could be taken away elsewhere."""
    if fcntl is None:
        return
    folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(folder)
        if found.st_uid == os.geteuid() and _locked(folder):
            shutil.rmtree(part, ignore_errors=True)
    finally:
        os.close(folder)


def _locked(file: int, *, shared: bool = False) -> bool | None:
    """Lock an open file if nobody else has; None where the file system knows no locks."""
    if fcntl is None:
        return None
    try:  # a shared lock is in the way of a cleaner's, and not of the one that libhdf5 takes to read
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
