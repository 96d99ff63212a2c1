"""The files of Caffe's HDF5Data layer (hdf5_data_layer.cpp): a dataset for each top, with an image in each row.

Caffe has one file in memory at a time, and draws rows at random only within it. Here every row of every file may come
next, so that no more is unpacked for one than the chunks that it lies in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from ..errors import CaffeFormatError, WireError
from ..safety.written import file_version
from .hdf5_file import Hdf5File, member, names, opened_hdf5, read_values

_Version = tuple[Path, str, tuple[int, ...]]
"""A dataset of a file: its name, and what tells the file from itself after a change."""


def read_rows(path: str | os.PathLike[str], name: str) -> np.ndarray:
    """The dataset that a top is called, (n, ...) as stored, floats or whole numbers, read-only.

    WireError names what the file has where it is missing, or is no dataset of rows.
    """
    return _read(_version(path, name), slice(None))


def count_rows(path: str | os.PathLike[str], name: str) -> int:
    """The number of rows in the dataset that a top is called; raises what `read_rows` does."""
    return _extent(_version(path, name))[0]


def read_row(path: str | os.PathLike[str], name: str, row: int) -> np.ndarray:
    """One row of the dataset that a top is called, read-only, of which there are more than `row`.

    Raises what `read_rows` does. The chunks that hold it are kept for the next rows; of packed files some eight.
    """
    version = _version(path, name)
    _, together = _extent(version)
    first = row // together * together
    return _block(version, first, first + together)[row - first]  # type: ignore[no-any-return]


def _version(path: str | os.PathLike[str], name: str) -> _Version:
    return Path(path), name, file_version(path)


@lru_cache(maxsize=1024)
def _extent(version: _Version) -> tuple[int, int]:
    """The rows of a dataset, and how many of them are unpacked together: all where they lie in the file as they are."""
    with _dataset(version) as (found, _):
        return int(found.shape[0]), int(found.chunks[0] if found.chunks else found.shape[0])


@lru_cache(maxsize=8)
def _block(version: _Version, first: int, last: int) -> np.ndarray:
    return _read(version, slice(first, last))


def _read(version: _Version, rows: slice) -> np.ndarray:
    with _dataset(version) as (found, file):
        return read_values(found, file, kind=found.dtype.kind if found.dtype.kind in "iu" else "f", rows=rows)


@contextmanager
def _dataset(version: _Version) -> Iterator[tuple[h5py.Dataset, Hdf5File]]:
    """The dataset, which has rows, for the time of the block; errors name the file."""
    path, name, *_ = version
    try:
        with opened_hdf5(path) as file:
            found = member(file.root, name, file)
            if not isinstance(found, h5py.Dataset):
                there = ", ".join(map(repr, names(file.root)[:8])) or "nothing"
                raise WireError(f"there is no dataset '{name}'; there are {there}")
            if not found.shape or not found.size:
                raise WireError(f"dataset '{name}' has the shape {found.shape}; expected rows")
            yield found, file
    except CaffeFormatError as error:
        raise error.in_file(path) from None
