"""A tar or zip archive from anywhere, unpacked without trusting it.

Nothing is written outside the target, no link and no device is made, sizes are bounded before a byte is written (and
neither reader gives more than was announced), and the target has its name only when everything is there.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from converters.files import fresh_folder, naming
from weights.errors import FetchError
from weights.progress import human_bytes
from weights.store import require_room

from .errors import DataError

MOST_FILES = 1_000_000
CHUNK = 1 << 20

_COMPRESSIONS: Mapping[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}

_HEADER = 64 << 20
"""Bytes that an archive may spend on anything but contents, beside 1 kB for each file."""

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, RuntimeError)

Progress = Callable[[int, int], None]
"""Told (files, bytes) that are unpacked so far."""


@dataclass(frozen=True)
class _Member:
    """A file in an archive: its path, the size it claims, and its contents."""

    parts: tuple[str, ...]
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path, home: Path, *, marker: str, largest: int, progress: Progress = lambda files, done: None
) -> None:
    """Unpack the folder of `archive` in which `marker` lies (a name or a pattern) to `home`, which must not exist.

    At most `largest` bytes may come out. DataError says what is wrong with the archive and leaves nothing behind;
    FetchError if the disk has no room. What a killed process had unpacked goes.
    """
    if home.exists():
        raise DataError("this is in the way; move it away and run again", path=home)
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        with fresh_folder(home) as beside:
            with _named(archive):
                _write_all(archive, beside, largest, progress)
                inner = _folder_with(beside, marker)
            inner.replace(home)
    except OSError as error:
        raise FetchError(f"{error.filename or home}: {error.strerror or error}; nothing was unpacked") from error


def _write_all(archive: Path, target: Path, largest: int, progress: Progress) -> None:
    done = 0
    for files, member in enumerate(_members(archive, largest), start=1):
        if files > MOST_FILES:
            raise DataError(f"more than {MOST_FILES} files are in it")
        if done + member.size > largest:
            raise DataError(f"more than {human_bytes(largest)} come out of it, which the data set does not have")
        require_room(target, member.size)
        path = target.joinpath(*member.parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(member, path)
        done += member.size
        progress(files, done)


def _write(member: _Member, path: Path) -> None:
    """Copy one file. Both readers stop at the size that it claims, and may give less."""
    written = 0
    try:
        out = path.open("xb")
    except FileExistsError:
        raise DataError(f"{'/'.join(member.parts)} is in it twice") from None
    with out, member.open() as source, naming(path, out):
        while piece := source.read(CHUNK):
            written += out.write(piece)
    if written != member.size:
        raise DataError(f"it ends in the middle of {'/'.join(member.parts)}")


def _members(archive: Path, largest: int) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        yield from _zip_members(archive)
    else:
        yield from _tar_members(archive, largest)


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise DataError(f"{info.filename!r} is a link or a device; data sets have none")
            yield _Member(_safe(info.filename), info.file_size, lambda info=info: file.open(info))  # type: ignore[misc]


def _tar_members(archive: Path, largest: int) -> Iterator[_Member]:
    with _decompressed(archive) as plain:
        bounded: Any = _Bounded(plain, largest + _HEADER + 1024 * MOST_FILES)
        with tarfile.open(fileobj=bounded, mode="r:") as file:
            for info in file:
                file.members = []  # type: ignore[attr-defined] # else tarfile remembers every member
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise DataError(f"{info.name!r} is a link, a device or a sparse file; data sets have none")
                yield _Member(_safe(info.name), info.size, lambda info=info: _contents(file, info))  # type: ignore[misc]
            _read_to_the_end(bounded, file.offset)


def _read_to_the_end(stream: _Bounded, last_header: int) -> None:
    """DataError if the archive was cut: it ends in blocks of zeros, and in the checksum of its compression."""
    stream.seek(last_header)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DataError("it is cut off, or damaged")
    while stream.read(CHUNK):
        pass


def _contents(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    contents = file.extractfile(info)
    assert contents is not None
    return contents


@contextmanager
def _decompressed(archive: Path) -> Iterator[IO[bytes]]:
    with archive.open("rb") as file:
        magic = file.read(6)
        file.seek(0)
        for start, opener in _COMPRESSIONS.items():
            if magic.startswith(start):
                with opener(file) as plain:
                    yield plain
                return
        yield file


class _Bounded:
    """A stream that ends in an error after `limit` bytes, and never reads a header of absurd size into memory."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self._limit = limit

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _HEADER:
            raise DataError(f"a header of {size} bytes")
        if self._file.tell() + size > self._limit:
            size = max(0, self._limit - self._file.tell())
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset > self._limit:
            raise DataError(f"more than {human_bytes(self._limit)} come out of it, which the data set does not have")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _safe(name: str) -> tuple[str, ...]:
    """The parts of a path that stays where it is put; DataError for every other one."""
    slashed = name.replace("\\", "/")  # as archives made on Windows have it
    parts = tuple(part for part in slashed.split("/") if part not in ("", "."))
    outside = slashed.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name)
    if outside or "\0" in name or not parts or any(len(part.encode()) > 255 for part in parts) or len(parts) > 40:
        raise DataError(f"the path {name[:200]!r} leads outside of the folder, or is none")
    return parts


def _folder_with(root: Path, marker: str) -> Path:
    """The first folder, from the top, in which something matches `marker`."""
    level = [root]
    while level:
        for folder in level:
            if next(folder.glob(marker), None) is not None:
                return folder
        level = sorted(child for folder in level for child in folder.iterdir() if child.is_dir())
    raise DataError(f"there is no {marker} in it, so it is not this data set")


@contextmanager
def _named(archive: Path) -> Iterator[None]:
    """Errors about the archive name it."""
    try:
        yield
    except DataError as error:
        raise error.in_file(archive) from None
    except NotImplementedError as error:
        raise DataError(f"compressed in a way that is not known: {error}", path=archive) from error
    except _DAMAGED as error:
        raise DataError(f"damaged, or not an archive: {error}", path=archive) from error
