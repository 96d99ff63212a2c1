"""The .caffemodel.h5: /data/<layer>/<position>, and no net; in both directions (net.cpp, ToHDF5).

The HDF5 library parses, and values that lie in one piece in the file are mapped like those of a .caffemodel. Layers
that borrow their blobs from another one have an empty group, as Caffe writes them.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np

from .caffemodel import CaffeModel
from .errors import CaffeFormatError, MismatchError, WireError, place
from .files import whole_file

_MAX_SLASHES = 8
_MAX_EXPANSION = 1024
"""Compressed values may be this many times larger than their file; more is a bomb."""


def read_hdf5(path: str | os.PathLike[str]) -> CaffeModel:
    """The blobs of a .caffemodel.h5; `spec` is None. Raises CaffeFormatError for whatever is wrong with the file."""
    try:
        with h5py.File(path, "r") as file, Path(path).open("rb") as raw:
            mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
            blobs = dict(_layers(_data_group(file), mapped, ""))
    except CaffeFormatError:
        raise
    except Exception as error:  # h5py lets nearly any exception of its own and of libhdf5 escape on damaged files
        raise WireError(
            f"the HDF5 library cannot read it: {error}", hint="the file is damaged: get it again and compare its size"
        ) from error
    return CaffeModel(spec=None, blobs=MappingProxyType(blobs), path=os.fspath(path))


def _data_group(file: h5py.File) -> h5py.Group:
    group = file["data"] if "data" in file else None
    if not isinstance(group, h5py.Group):
        raise WireError(
            f"there is no group '/data'; found {', '.join(map(repr, list(file)[:8])) or 'nothing'}",
            hint="a .caffemodel.h5 has /data/<layer>/<position>; is this an HDF5 file of another program?",
        )
    return group


def _layers(group: h5py.Group, mapped: mmap.mmap, name: str) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    """The layers at and below `group`; a layer whose name has slashes is a group inside a group."""
    if name.count("/") >= _MAX_SLASHES:
        raise WireError(f"groups nest deeper than {_MAX_SLASHES} levels", where=f"group '/data/{name}'")
    datasets: dict[str, h5py.Dataset] = {}
    for key in group:
        inner = f"{name}/{key}" if name else key
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise WireError("a link to another place; Caffe writes none", where=f"'/data/{inner}'")
        item = group[key]
        if isinstance(item, h5py.Group):
            yield from _layers(item, mapped, inner)
        else:
            datasets[key] = item
    if datasets:
        with place(f"layer '{name}'"):
            yield name, tuple(_blobs(datasets, mapped))


def _blobs(datasets: dict[str, h5py.Dataset], mapped: mmap.mmap) -> Iterator[np.ndarray]:
    expected = [str(i) for i in range(len(datasets))]
    if sorted(datasets) != sorted(expected):
        raise WireError(f"datasets {sorted(datasets)}; expected {expected}, the positions of the blobs")
    for key in expected:
        with place(f"blob {key}"):
            yield _read_dataset(datasets[key], mapped)


def _read_dataset(dataset: Any, mapped: mmap.mmap) -> np.ndarray:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "f":
        raise WireError(f"expected a dataset of floats; found {getattr(dataset, 'dtype', dataset)}")
    dtype = dataset.dtype.newbyteorder("<")
    offset = dataset.id.get_offset()
    if offset is not None and dataset.dtype == dtype:
        if offset + dataset.nbytes > len(mapped):
            raise WireError(f"{dataset.nbytes} bytes at offset {offset} run past the end of the file ({len(mapped)})")
        return np.frombuffer(mapped, dtype, dataset.size, offset).reshape(dataset.shape)
    if dataset.nbytes > _MAX_EXPANSION * len(mapped):
        raise WireError(f"shape {dataset.shape} would need {dataset.nbytes} bytes; the file has {len(mapped)}")
    values = np.asarray(dataset[()], dtype)
    values.flags.writeable = False
    return values


def write_hdf5(model: CaffeModel, path: str | os.PathLike[str]) -> None:
    """Write a .caffemodel.h5 as Caffe 1.0 does; every layer of the net has a group, empty where it has no blobs."""
    names = [layer.name for layer in model.spec.layers] if model.spec else list(model.blobs)
    strangers = set(model.blobs) - set(names)
    if strangers:
        raise MismatchError(f"blobs of layers that the net does not have: {', '.join(sorted(strangers))}")
    with whole_file(path) as out, h5py.File(out, "w", libver="earliest") as file:
        data = file.create_group("data")
        for name in names:
            group = data.require_group(name)
            for i, blob in enumerate(model.blobs.get(name, ())):
                group.create_dataset(str(i), data=np.asarray(blob, np.float32 if blob.dtype != np.float64 else None))
