"""An HDF5 file as data and nothing else: the one way in which this project opens one and takes values from it.

The HDF5 library follows links into other files, takes values from other files (external storage, virtual datasets),
loads filters as plugins, and unpacks chunks of any size. Here names are followed over hard links only, the library says
where values lie, and they are mapped, or unpacked with a bound on memory and time that follows the size of the file.
Source: HDF5's file format specification, version 3.
"""

from __future__ import annotations

import itertools
import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5l, h5t, h5z

from ..errors import CaffeFormatError, WireError, place
from ..safety.limits import check_limit, check_memory
from ..safety.opening import open_file
from .hdf5_indexes import CHUNK, MOST_CHUNKS
from .hdf5_trees import check_trees, in_an_extensible_array, root_header

_STORED = {
    **{
        getattr(h5t, f"IEEE_F{8 * n}{end}E"): f"{sign}f{n}" for n in (2, 4, 8) for end, sign in (("L", "<"), ("B", ">"))
    },
    **{
        getattr(h5t, f"STD_I{8 * n}{end}E"): f"{sign}i{n}"
        for n in (1, 2, 4, 8)
        for end, sign in (("L", "<"), ("B", ">"))
    },
    **{
        getattr(h5t, f"STD_U{8 * n}{end}E"): f"{sign}u{n}"
        for n in (1, 2, 4, 8)
        for end, sign in (("L", "<"), ("B", ">"))
    },
}
"""The types of HDF5 whose bytes numpy knows."""

_FILTERS = (h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32)
_EXPANSION = 8
"""Bytes of values for each byte of a file, beyond the first 64 MiB: pruned weights are packed as well as that."""
_FEW_CHUNKS, _CHUNK_BYTES = 64, 400
"""Chunks that the library is asked for one by one, for each of which it goes through all that a dataset has; and what
one takes in a list of them all."""
_LONGEST_TEXT = 1 << 16
_ELSEWHERE = "Caffe writes none like that"


@dataclass
class Hdf5File:
    """An open file: its root group, its bytes, and how much was taken from it so far."""

    root: h5py.Group
    mapped: mmap.mmap
    viewed: int = field(default=0, init=False)
    unpacked: int = field(default=0, init=False)

    def view(self, start: int, size: int) -> memoryview:
        """Bytes of the file where they lie, of which nothing may belong to two datasets."""
        if start + size > len(self.mapped):
            raise WireError(f"{size} bytes at offset {start} run past the end of the file ({len(self.mapped)})")
        self.viewed += size
        if self.viewed > len(self.mapped):
            raise WireError(f"datasets or chunks share bytes: they have more than the file ({len(self.mapped)})")
        return memoryview(self.mapped)[start : start + size]

    def take(self, needed: int, *, meanwhile: int = 0) -> None:
        """LimitError if `needed` bytes, all before, and `meanwhile` some more are too much for a file of this size."""
        self.unpacked += needed
        check_memory(
            self.unpacked + meanwhile,
            file_size=len(self.mapped),
            expansion=_EXPANSION,
            what="the values would need",
        )


@contextmanager
def opened_hdf5(path: str | os.PathLike[str]) -> Iterator[Hdf5File]:
    """The file at `path` for the time of the block; what was read stays valid afterwards.

    Whatever h5py raises inside the block becomes a WireError; FileNotFoundError where there is no file.
    """
    try:
        with open_file(path) as raw:
            mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
        with h5py.File(path, "r") as file:
            if file.userblock_size:
                raise WireError("the HDF5 file begins inside the file; expected it at offset 0")
            check_trees(mapped, root_header(mapped))
            yield Hdf5File(file["/"], mapped)
    except (CaffeFormatError, FileNotFoundError):
        raise
    except Exception as error:  # h5py lets nearly any exception of its own and of libhdf5 escape on damaged files
        raise WireError(
            f"the HDF5 library cannot read it: {error}", hint="the file is damaged: get it again and compare its size"
        ) from error


def names(group: h5py.Group) -> list[str]:
    """The names in a group, in HDF5's order; nothing is followed. WireError for a name that is not UTF-8."""
    found = list(group)
    for name in found:
        if not name.isascii() and name.encode(errors="ignore").decode() != name:
            raise WireError(f"a name that is not UTF-8: {name!r}", where=f"group {group.name!r}")
    return found


def address(group: h5py.Group, name: str) -> int:
    """The place in the file of a member's header; of the library's own ways to say it some go through its trees."""
    return int(group.id.links.get_info(name.encode()).u)


def member(group: h5py.Group, name: str, file: Hdf5File) -> h5py.Group | h5py.Dataset | None:
    """The group or dataset `name` of a group, None where there is none; libhdf5 may go through its trees.

    WireError for what is not in the file itself: links, external storage, virtual datasets; and for named types.
    """
    raw = name.encode()
    if not group.id.links.exists(raw):
        return None
    where = f"'{group.name.rstrip('/')}/{name}'"
    if group.id.links.get_info(raw).type != h5l.TYPE_HARD:
        raise WireError("a link to another place; Caffe writes none", where=where)
    with place(where):
        check_trees(file.mapped, address(group, name))
    found = group[name]
    if isinstance(found, h5py.Group):
        return found
    if not isinstance(found, h5py.Dataset):
        raise WireError("a named type; expected a group or a dataset", where=where)
    creation = found.id.get_create_plist()
    if creation.get_layout() == h5d.VIRTUAL or creation.get_external_count():
        raise WireError(f"its values are in another file; {_ELSEWHERE}", where=where)
    return found


def read_values(dataset: Any, file: Hdf5File, *, kind: str = "f", rows: slice = slice(None)) -> np.ndarray:
    """The values of a dataset of floats (`kind` "f") or whole numbers ("i", "u"), read-only and little-endian.

    A view of the mapped file where they lie in it as they are. Of values in chunks only those of `rows`, along the
    first axis, are unpacked.
    """
    expected = "floats" if kind == "f" else "whole numbers"
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != kind or dataset.dtype.itemsize > 8:
        raise WireError(f"expected a dataset of {expected}; found {getattr(dataset, 'dtype', dataset)}")
    if dataset.shape is None:
        raise WireError(f"a dataset without a shape; expected {expected}", where=f"'{dataset.name}'")
    size = prod(map(int, dataset.shape)) * dataset.id.get_type().get_size()  # damaged dims would overflow numpy's
    own_type = dataset.id.get_type()
    stored = next((dtype for each, dtype in _STORED.items() if own_type.equal(each)), None)
    if dataset.chunks is not None:
        values = _unpacked(dataset, stored, file, range(*rows.indices(dataset.shape[0])))
    elif dataset.id.get_create_plist().get_layout() == h5d.CONTIGUOUS and dataset.id.get_offset() is None:
        _check_never_written(dataset)
        file.take(size)
        values = np.zeros(dataset.shape, stored or dataset.dtype)
    elif stored is None or dataset.id.get_offset() is None:
        values = _converted(dataset, size, file)
    else:
        if size > dataset.id.get_storage_size():
            raise WireError(f"{size} bytes of values, of which the file has {dataset.id.get_storage_size()}")
        values = np.frombuffer(file.view(dataset.id.get_offset(), size), stored).reshape(dataset.shape)
        if values.dtype.byteorder == ">":
            file.take(size)
    if dataset.chunks is None and rows != slice(None):
        values = values[rows]
    values = np.asarray(values, values.dtype.newbyteorder("<"))
    values.flags.writeable = False
    return values


def read_text(dataset: Any) -> bytes:
    """The bytes of a dataset that is one text of fixed length, without the zeros at its end."""
    if (
        not isinstance(dataset, h5py.Dataset)
        or not isinstance(dataset.id.get_type(), h5t.TypeStringID)
        or dataset.id.get_type().is_variable_str()
        or dataset.shape != ()
        or dataset.chunks is not None
    ):
        raise WireError(f"expected a text of fixed length; found {dataset}")
    length = dataset.id.get_type().get_size()
    check_limit(length, _LONGEST_TEXT, what="the text has")
    if length > dataset.id.get_storage_size():
        raise WireError(f"a text of {length} bytes, of which the file has {dataset.id.get_storage_size()}")
    return bytes(dataset[()])


def _check_never_written(dataset: h5py.Dataset) -> None:
    """WireError unless values that were never written are zeros; the library may crash when asked for others."""
    if dataset.id.get_create_plist().fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED:
        raise WireError(f"values that were never written, with a fill value of their own; {_ELSEWHERE}")


def _converted(dataset: h5py.Dataset, size: int, file: Hdf5File) -> np.ndarray:
    """Values that the library reads: in the header of the dataset, or floats of a strange layout."""
    plain = max(size, prod(map(int, dataset.shape)) * dataset.dtype.itemsize)
    file.take(plain, meanwhile=plain)
    if size > dataset.id.get_storage_size():
        raise WireError(f"{size} bytes of values, of which the file has {dataset.id.get_storage_size()}")
    return np.asarray(dataset[()])


# Chunks


def _unpacked(dataset: h5py.Dataset, stored: str | None, file: Hdf5File, rows: range) -> np.ndarray:
    """Values of some rows, which lie in chunks, each by itself packed with any of `_FILTERS`."""
    if stored is None:
        raise WireError("floats of a layout of their own, in chunks; Caffe writes neither")
    shape, chunk = tuple(map(int, dataset.shape)), tuple(map(int, dataset.chunks))
    most = [max(s, 0 if m is None else int(m)) for s, m in zip(shape, dataset.maxshape, strict=True)]
    size = prod(chunk) * np.dtype(stored).itemsize
    for extent in (most, shape):
        check_limit(_count(extent, chunk), MOST_CHUNKS + len(file.mapped) // CHUNK, what="it has", unit="chunks")
    first, shape = rows.start // chunk[0] * chunk[0], (rows.stop, *shape[1:])
    part = (rows.stop - first, *shape[1:])
    wanted = _count(part, chunk)
    file.take(max(wanted, 1) * size, meanwhile=3 * size + (_CHUNK_BYTES * wanted if wanted > _FEW_CHUNKS else 0))
    filters = _filters(dataset)
    _check_order(dataset, chunk, file)
    values = np.zeros(part, stored)
    begins = (first, *[0] * (len(shape) - 1))
    corners = itertools.product(*(range(b, s, c) for b, s, c in zip(begins, shape, chunk, strict=True)))
    for corner, found in _places(dataset, corners, few=wanted <= _FEW_CHUNKS, most=_count(most, chunk)):
        if found is None or found.byte_offset is None:
            _check_never_written(dataset)
            continue
        body = _filtered(file.view(found.byte_offset, found.size), filters, found.filter_mask, size)
        whole = np.frombuffer(body, stored).reshape(chunk)
        inside = tuple(slice(0, min(c, s - x)) for x, c, s in zip(corner, chunk, shape, strict=True))
        places = (slice(x - b, x - b + c) for x, b, c in zip(corner, begins, chunk, strict=True))
        values[tuple(places)] = whole[inside]
    return values[rows.start - first :]


def _check_order(dataset: h5py.Dataset, chunk: tuple[int, ...], file: Hdf5File) -> None:
    """WireError where libhdf5 takes the place of one chunk for another's (1.10 to 2.0, H5D__earray_idx_iterate_cb).

    It counts them along the axes as they are, and they lie in the file with the axis that grows first.
    """
    growing = [axis for axis, most in enumerate(dataset.maxshape) if most is None]
    if len(growing) != 1 or _count(dataset.maxshape[: growing[0]], chunk[: growing[0]]) < 2:
        return
    if in_an_extensible_array(file.mapped, address(dataset.parent, dataset.name.rpartition("/")[2])):
        raise WireError(
            f"chunks that grow along axis {growing[0]}, whose places the HDF5 library mistakes; expected axis 0",
            hint="`h5repack -l CONTI IN OUT` puts the values in one piece",
        )


def _places(
    dataset: h5py.Dataset, corners: Iterable[tuple[int, ...]], *, few: bool, most: int
) -> Iterator[tuple[tuple[int, ...], h5d.StoreInfo | None]]:
    """The places of the chunks at `corners`, of `most` that there can be; None for one that was never written."""
    if few or not hasattr(dataset.id, "chunk_iter"):
        yield from ((corner, dataset.id.get_chunk_info_by_coord(corner)) for corner in corners)
        return
    wanted = dict.fromkeys(corners)
    seen = itertools.count(1)

    def put_down(found: h5d.StoreInfo) -> bool | None:
        if found.chunk_offset in wanted:
            wanted[found.chunk_offset] = found
        return next(seen) > most or None  # True ends it

    dataset.id.chunk_iter(put_down)
    if next(seen) > most + 1:
        raise WireError(f"more than the {most} chunks that its shape has room for", hint="the file is damaged")
    yield from wanted.items()


def _count(shape: Any, chunk: tuple[int, ...]) -> int:
    return prod(-(-s // c) for s, c in zip(shape, chunk, strict=True))


def _filters(dataset: h5py.Dataset) -> list[tuple[int, tuple[int, ...]]]:
    """The filters in the order in which they were applied, each with its options."""
    creation = dataset.id.get_create_plist()
    filters = [creation.get_filter(i) for i in range(creation.get_nfilters())]
    for code, _, _, name in filters:
        if code not in _FILTERS:
            raise WireError(
                f"packed with filter {code} ({name.decode(errors='replace') or 'no name'}); read are gzip, shuffle and "
                "fletcher32",
                hint="`h5repack -f NONE IN OUT` unpacks it, if you trust the file",
            )
    return [(code, options) for code, _, options, _ in filters]


def _filtered(
    raw: memoryview, filters: list[tuple[int, tuple[int, ...]]], skipped: int, size: int
) -> bytes | memoryview:
    """The `size` bytes of a chunk; bit i of `skipped` says that filter i was not applied to it."""
    body: bytes | memoryview = raw
    for i, (code, options) in reversed(list(enumerate(filters))):
        if skipped >> i & 1:
            continue
        if code == h5z.FILTER_DEFLATE:
            body = zlib.decompressobj().decompress(body, size + 4 * len(filters) + 1)
        elif code == h5z.FILTER_SHUFFLE:
            body = _unshuffled(body, options[0] if options else 1)
        else:
            body = _checked(body)
    if len(body) != size:
        raise WireError(f"a chunk of {len(body)} bytes or more; expected {size}")
    return body


def _unshuffled(body: bytes | memoryview, width: int) -> bytes:
    """All first bytes of the elements, then all second ones and so on, put together again."""
    whole = len(body) // max(1, width) * width
    planes = np.frombuffer(body, np.uint8, whole).reshape(width, -1) if whole else np.empty((1, 0), np.uint8)
    return bytes(planes.T.tobytes()) + bytes(body[whole:])


def _checked(body: bytes | memoryview) -> memoryview:
    """The body without the Fletcher sum of its 16-bit words that is at its end; WireError if it is another one."""
    data, expected = memoryview(body)[:-4], int.from_bytes(body[-4:], "little")
    words = np.frombuffer(bytes(data) + bytes(len(data) % 2), ">u2").astype(np.uint64)
    places = np.arange(len(words), 0, -1, dtype=np.uint64)
    sums = int(words.sum()) % 65535, int((places * words % 65535).sum()) % 65535
    if sums != (expected % 65536 % 65535, expected // 65536 % 65535):
        raise WireError("the checksum of a chunk is wrong")
    return data
