"""The members of a tar from anywhere: what tarfile makes of their headers, within bounds, and their contents.

tarfile reads a header of any size into memory, lets many kinds of exception escape on damaged ones, and before Python
3.11.10 takes minutes for a header of digits. Contents are read here, from where the header says that they lie.
"""

from __future__ import annotations

import errno
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from converters.errors import CaffeFormatError

from .errors import DataError

CHUNK = 1 << 20
_LARGEST_HEADER = 1 << 16
_MOST_COMMON = 1000
"""Entries of headers that are for all members; each member gets a copy."""
_LONG_NUMBER = re.compile(rb"[0-9]{40}")


class Stream(Protocol):
    """A file that is read forwards; it may be one of those that unpack what is below them."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...
    def tell(self) -> int: ...


@dataclass(frozen=True)
class TarMember:
    """A member: its header, and the stream that it is in."""

    info: tarfile.TarInfo
    stream: Stream

    def pieces(self) -> Iterator[bytes]:
        """Its contents, fewer than it claims where the tar ends early. Raises DataError for damage."""
        left = self.info.size
        with reading():
            self.stream.seek(self.info.offset_data)
            while left > 0 and (piece := self.stream.read(min(CHUNK, left))):
                left -= len(piece)
                yield piece


def tar_members(stream: Stream, *, within: Callable[[int], None]) -> Iterator[TarMember]:
    """The members of a tar, in order; each is read before the next one is asked for.

    `within` is told how many bytes of the stream will have been passed, and raises where that is too much. DataError
    for a tar that is damaged or cut, also behind its last member.
    """
    bounded: Any = _Headers(stream, within)
    with reading(), tarfile.open(fileobj=bounded, mode="r:") as file:
        while (info := file.next()) is not None:
            file.members = []  # type: ignore[attr-defined] # else tarfile remembers every member
            if info.size < 0 or len(file.pax_headers) > _MOST_COMMON:
                raise DataError(f"a header that is damaged or too large, of {info.name[:200]!r}")
            within(info.offset_data + info.size)
            yield TarMember(info, stream)
        _read_to_the_end(bounded, file.offset)


@contextmanager
def reading() -> Iterator[None]:
    """Whatever a reader of archives raises is a DataError; what the system says of a file stays an OSError."""
    try:
        yield
    except NotImplementedError as error:
        raise DataError(f"compressed in a way that is not known: {error}") from error
    except CaffeFormatError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL, errno.EOVERFLOW):  # the last two: of offsets that the data says
            raise
        raise DataError(f"damaged, or not an archive: {error}") from error
    except Exception as error:  # tarfile, zipfile and what they unpack with raise whatever they stumble over
        raise DataError(f"damaged, or not an archive: {str(error) or type(error).__name__}") from error


def _read_to_the_end(stream: _Headers, last_header: int) -> None:
    """DataError if the archive was cut: it ends in blocks of zeros, and in the checksum of its compression."""
    stream.seek(last_header)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DataError("it is cut off, or damaged")
    while stream.read(_LARGEST_HEADER):
        pass


class _Headers:
    """A stream as tarfile sees it: headers of a size that is usual, and none beyond what `within` allows."""

    def __init__(self, stream: Stream, within: Callable[[int], None]) -> None:
        self._stream = stream
        self._within = within

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise DataError(f"a header of {size} bytes")
        self._within(self._stream.tell() + size)
        body = self._stream.read(size)
        if size > tarfile.BLOCKSIZE and _LONG_NUMBER.search(body):
            raise DataError("a header with a number of 40 digits")
        return body

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset < 0 or whence != 0:
            raise DataError("a header that leads before the archive")
        self._within(offset)
        return self._stream.seek(offset)

    def tell(self) -> int:
        return self._stream.tell()
