"""The files of Caffe's HDF5Data layer (hdf5_data_layer.cpp): a dataset for each top, with an image in each row."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from ..errors import CaffeFormatError, WireError
from .hdf5_file import member, names, opened_hdf5, read_values


def read_rows(path: str | os.PathLike[str], name: str) -> np.ndarray:
    """The dataset that a top is called, (n, ...) as stored, floats or whole numbers, read-only.

    The whole of it is read at once, as Caffe does (LoadHDF5FileData); of the last files it is kept. WireError names
    what the file has where it is missing, or is no dataset of rows.
    """
    place = Path(path)
    changed = place.stat()
    return _rows(place, name, changed.st_size, changed.st_mtime_ns)


@lru_cache(maxsize=8)
def _rows(path: Path, name: str, size: int, changed: int) -> np.ndarray:
    try:
        with opened_hdf5(path) as file:
            found = member(file.root, name)
            if not isinstance(found, h5py.Dataset):
                there = ", ".join(map(repr, names(file.root)[:8])) or "nothing"
                raise WireError(f"there is no dataset '{name}'; there are {there}")
            values = read_values(found, file, kind=found.dtype.kind if found.dtype.kind in "iu" else "f")
    except CaffeFormatError as error:
        raise error.in_file(path) from None
    if values.ndim < 1 or not values.size:
        raise WireError(f"dataset '{name}' has the shape {values.shape}; expected rows", path=path)
    return values
