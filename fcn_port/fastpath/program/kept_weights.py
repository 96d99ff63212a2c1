"""Packed weights on disk: what one process packed of a file is mapped by the next one that runs the same net.

Packing is most of a first pass: it reads all weights and fills memory that the system has to clear first. What is
mapped from the system's cache of files costs neither. A net's folder is named after all that its weights depend on;
where others could have put something into it, nothing is kept there and nothing read from it. A disk that gives other
bits is seen by a sum of each piece, which takes 9 ms for ResNet-50's 222 MB, 2 % of its first result (a CRC of all 54).
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converters.safety import file_version, open_own, whole_file
from converters.version import VERSION
from weights.cache import cache_folder as user_cache

from ...private import why_not_private
from ..flow import Flow
from ..native import build
from ..native.memory import Floats

MOST_BYTES = 4 << 30
"""Of all nets together; those that were used longest ago go first. ResNet-50 takes 0.21 GB, VGG-16 0.75."""
SETTLED = 2.0
"""Seconds since a file was last written, from which on its times tell whether it has been written again."""
_PAGE, _LINE = 4096, 64
_SOURCES = (Path(__file__), *(Path(__file__).parent.parent / name for name in (
    "flow/affine.py", "program/phases.py", "program/volumes.py", "program/weights.py", "native/division.py",
    "native/packing.py",
)))  # fmt: skip

Piece = tuple[Floats | None, ...]
Pieces = Mapping[str, Piece]


@dataclass(frozen=True)
class _Kept:
    """A piece in a mapped file, and the sum that it had when it was written."""

    arrays: Piece
    sum: int
    path: Path

    def is_whole(self) -> bool:
        return _sum(self.arrays) == self.sum


def cache_folder() -> Path:
    """The folder in which packed weights are kept, each net's in one of its own."""
    return user_cache("packed")


class KeptWeights:
    """Pieces of a net's packed weights by name, as earlier processes left them; each is arrays, or None for one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, _Kept] = {}
        for path in sorted(folder.glob("*.packed")):
            try:
                self._found.update(_mapped(path))
            except (OSError, ValueError, TypeError, KeyError):  # cut short by a power cut
                _remove(path)
        with suppress(OSError):
            os.utime(folder)

    def get(self, name: str) -> Piece | None:
        """The arrays of a piece, read-only; None where nobody has kept it, or its bits are others by now."""
        found = self._found.get(name)
        if found is None or found.is_whole():
            return None if found is None else found.arrays
        _remove(found.path)  # what is mapped stays
        return None

    def add(self, pieces: Pieces) -> None:
        """Keep more pieces, in a file that is there whole or not at all; nothing where there is no room."""
        if why_not_private(self._folder) is not None:  # made again where another process forgot it meanwhile
            return
        name = hashlib.sha256("\n".join(sorted(pieces)).encode()).hexdigest()[:16]
        path = self._folder / f"{name}.packed"
        with suppress(OSError), whole_file(path, durable=False, follow=False) as file:  # sums see what a power cut did
            _write(file, pieces)
        with suppress(OSError):
            _forget(self._folder)


def kept_weights(path: Path, flow: Flow) -> KeptWeights | None:
    """The packed weights that are kept of a file, for a flow; None where nothing may be, or it was written just now."""
    found, root = path.stat(), cache_folder()
    if time.time() - max(found.st_mtime, found.st_ctime) < SETTLED or why_not_private(root) is not None:
        return None
    identity = [os.fspath(path.resolve()), *file_version(path)]
    about = [VERSION, *(each.read_text(encoding="utf-8") for each in _SOURCES), Path(build.library()._name).name]
    digest = hashlib.sha256(json.dumps([*about, *identity, repr(flow.operations)]).encode())
    folder = root / digest.hexdigest()[:32]
    return None if why_not_private(folder) is not None else KeptWeights(folder)


def _remove(path: Path) -> None:
    with suppress(OSError):  # where nothing can be removed either, it is passed over
        path.unlink()


def _sum(arrays: Sequence[Floats | None]) -> int:
    """The CRC of the sums of the arrays' bits, a page at a time: as quick as they can be read.

    Another one where bits changed, and where pages changed places or are another's.
    """
    crc = 0
    for array in arrays:
        if array is not None:
            bits = array.reshape(-1).view(np.uint8)
            pages = bits[: len(bits) // _PAGE * _PAGE].view(np.uint64).reshape(-1, _PAGE // 8)
            crc = zlib.crc32(bits[pages.nbytes :].data, zlib.crc32(pages.sum(axis=1).data, crc))
    return crc


def _write(file: Any, pieces: Pieces) -> None:
    """A line, the CRC of its JSON and that, to the end of a page; the arrays.

    It has (offset, shape) of each array by piece, each piece's sum, and the file's size.
    """
    places: dict[str, list[tuple[int, tuple[int, ...]] | None]] = {}
    size = 0
    for name, arrays in pieces.items():
        places[name] = []
        for array in arrays:
            places[name].append(None if array is None else (size, array.shape))
            size += 0 if array is None else -(-array.nbytes // _LINE) * _LINE
    sums = {name: _sum(arrays) for name, arrays in pieces.items()}
    about = json.dumps({"size": size, "pieces": places, "sums": sums}).encode()
    header = b"%08x %s\n" % (zlib.crc32(about), about)
    file.write(header + b" " * (-len(header) % _PAGE))
    for array in (array for arrays in pieces.values() for array in arrays if array is not None):
        file.write(np.ascontiguousarray(array).data)
        file.write(b"\0" * (-array.nbytes % _LINE))


def _mapped(path: Path) -> dict[str, _Kept]:
    """The pieces of a file; ValueError and the like where it is not whole."""
    with open_own(path) as file:
        line = file.readline(1 << 26)
        start = -(-len(line) // _PAGE) * _PAGE
        crc, _, about = line.rstrip(b"\n").partition(b" ")
        if int(crc, 16) != zlib.crc32(about):
            raise ValueError(f"{path}: other bits than were written")
        header = json.loads(about)
        if os.fstat(file.fileno()).st_size != start + header["size"]:
            raise ValueError(f"{path}: cut short")
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def array(place: tuple[int, list[int]] | None) -> Floats | None:
        return None if place is None else np.ndarray(place[1], np.float32, memory, start + place[0])

    sums = header["sums"]
    return {
        name: _Kept(tuple(array(place) for place in places), sums[name], path)
        for name, places in header["pieces"].items()
    }


def _forget(mine: Path) -> None:
    """Remove the nets that were used longest ago, but not this one, until all that is kept is not too much."""
    used: list[tuple[float, int, Path]] = []
    for folder in mine.parent.iterdir():
        with suppress(OSError):  # forgotten by another process meanwhile
            size = sum(path.stat().st_size for path in folder.glob("*.packed"))
            used.append((folder.stat().st_mtime, size, folder))
    room = MOST_BYTES
    for _, size, folder in sorted(used, reverse=True, key=lambda each: (each[2] == mine, each[0])):
        room -= size
        if room < 0 and folder != mine:
            shutil.rmtree(folder, ignore_errors=True)
