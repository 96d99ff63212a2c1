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
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from converters.errors import CaffeFormatError
from converters.safety import VARIABLE, entries_share_bytes, fresh_folder, make_folder, naming, scaled
from weights.download import human_bytes
from weights.errors import FetchError
from weights.store import require_room

from .errors import DataError
from .tars import CHUNK, reading, tar_members

MOST_FILES = 1_000_000

_COMPRESSIONS: Mapping[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}

_HEADERS = (64 << 20) + 1024 * MOST_FILES
"""Bytes that a tar may spend on anything but contents."""

ProgressCallback = Callable[[int, int], None]
"""Told (files, bytes) that are unpacked so far."""


@dataclass(frozen=True)
class _Member:
    """A file in an archive: its path, the size it claims, and its contents."""

    parts: tuple[str, ...]
    size: int
    pieces: Callable[[], Iterator[bytes]]


def unpack(
    archive: Path, home: Path, *, marker: str, largest: int, progress: ProgressCallback = lambda files, done: None
) -> None:
    """Unpack the folder of `archive` in which `marker` lies (a name or a pattern) to `home`, which must not exist.

    At most `largest` bytes may come out. DataError says what is wrong with the archive and leaves nothing behind;
    FetchError if the disk has no room. What a killed process had unpacked goes.
    """
    if home.exists():
        raise DataError("this is in the way; move it away and run again", path=home)
    make_folder(home.parent)
    try:
        with fresh_folder(home) as beside:
            with _named(archive):
                _write_all(archive, beside, largest, progress)
                inner = _folder_with(beside, marker)
            inner.replace(home)
    except OSError as error:
        raise FetchError(f"{error.filename or home}: {error.strerror or error}; nothing was unpacked") from error


def _write_all(archive: Path, target: Path, largest: int, progress: ProgressCallback) -> None:
    done = 0
    for files, member in enumerate(_members(archive, largest), start=1):
        if files > MOST_FILES:
            raise DataError(f"more than {MOST_FILES} files are in it")
        _check_size(done + member.size, largest)
        require_room(target, member.size)
        path = target.joinpath(*member.parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(member, path)
        done += member.size
        progress(files, done)


def _check_size(size: int, largest: int) -> None:
    if size > scaled(largest):
        raise DataError(
            f"more than {human_bytes(scaled(largest))} come out of it, which the data set does not have",
            hint=f"if you trust the archive, set {VARIABLE} to a factor for this limit",
        )


def _write(member: _Member, path: Path) -> None:
    """Copy one file. Both readers stop at the size that it claims, and may give less."""
    written = 0
    try:
        out = path.open("xb")
    except FileExistsError:
        raise DataError(f"{'/'.join(member.parts)!r} is in it twice") from None
    with out, naming(path, out):
        for piece in member.pieces():
            written += out.write(piece)
    if written != member.size:
        raise DataError(f"it ends in the middle of {'/'.join(member.parts)!r}")


def _members(archive: Path, largest: int) -> Iterator[_Member]:
    with reading():
        is_zip = zipfile.is_zipfile(archive)
    yield from _zip_members(archive) if is_zip else _tar_members(archive, largest)


def _zip_members(archive: Path) -> Iterator[_Member]:
    with reading(), zipfile.ZipFile(archive) as file:
        if entries_share_bytes(file):
            raise DataError("its entries share bytes, each of which would be read for all of them")
        for info in file.infolist():
            mode = info.external_attr >> 16
            if info.filename.endswith("/"):
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise DataError(f"{info.filename!r} is a link or a device; data sets have none")
            yield _Member(_safe(info.filename), info.file_size, partial(_zip_pieces, file, info))


def _zip_pieces(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with reading(), file.open(info) as source:
        while piece := source.read(CHUNK):
            yield piece


def _tar_members(archive: Path, largest: int) -> Iterator[_Member]:
    with reading(), _decompressed(archive) as plain:
        for member in tar_members(plain, within=lambda size: _check_size(size - _HEADERS, largest)):
            info = member.info
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise DataError(f"{info.name!r} is a link, a device or a sparse file; data sets have none")
            yield _Member(_safe(info.name), info.size, member.pieces)


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


def _safe(name: str) -> tuple[str, ...]:
    """The parts of a path that stays where it is put; DataError for every other one."""
    slashed = name.replace("\\", "/")  # as archives made on Windows have it
    parts = tuple(part for part in slashed.split("/") if part not in ("", "."))
    try:
        long = any(len(part.encode()) > 255 for part in parts)
    except UnicodeEncodeError:
        raise DataError(f"the path {name[:200]!r} is not UTF-8") from None
    outside = slashed.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name)
    if outside or "\0" in name or not parts or long or len(parts) > 40:
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
    except CaffeFormatError as error:
        raise error.in_file(archive) from None
