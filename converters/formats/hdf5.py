"""The .caffemodel.h5: /data/<layer>/<position>, and no net; in both directions (net.cpp, ToHDF5).

The HDF5 library parses, and values that lie in one piece in the file are mapped like those of a .caffemodel. A blob
that a layer shares with an earlier one is not in the file, and the group of a layer without blobs is empty.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from types import MappingProxyType
from typing import Any, BinaryIO

import h5py
import numpy as np

from ..errors import MismatchError, WireError, place
from ..net.parameter_sharing import borrowed_blobs
from ..safety.files import whole_or_open
from .hdf5_file import Hdf5File, address, member, names, opened_hdf5, read_values
from .model import LEFT_OUT, CaffeModel, is_left_out, refuse_no_model

_MOST_SLASHES = 16
_MOST_OBJECTS = 1 << 16


def read_hdf5(path: str | os.PathLike[str]) -> CaffeModel:
    """The blobs of a .caffemodel.h5; `spec` is None. Raises CaffeFormatError for whatever is wrong with the file."""
    with opened_hdf5(path) as file:
        # Read one by one: an open dataset takes 20 KB in the library, and may be 300 bytes of the file.
        found = _layers(_data_group(file), "", set(), file)
        layers = {name: _read_layer(name, datasets, file) for name, datasets in found}
    blobs = {name: own for name, own in layers.items() if own}
    notes = tuple(_left_out(name, own) for name, own in blobs.items() if any(map(is_left_out, own)))
    bare = tuple(name for name, own in layers.items() if not own)
    return CaffeModel(spec=None, blobs=MappingProxyType(blobs), path=os.fspath(path), notes=notes, bare=bare)


def _left_out(name: str, own: tuple[np.ndarray, ...]) -> str:
    """A note of a layer that has fewer blobs in the file than it has, short however many they are."""
    which = [str(i) for i, blob in enumerate(own) if is_left_out(blob)]
    said = "blob {} is" if len(which) == 1 else "blobs {} are"
    said = said.format(", ".join(which[:8]) + " ..." * (len(which) > 8))
    return f"layer '{name}': {said} not in the file, as Caffe writes what another layer owns"


def _data_group(file: Hdf5File) -> h5py.Group:
    group = member(file.root, "data", file)
    if not isinstance(group, h5py.Group):
        raise WireError(
            f"there is no group '/data'; found {', '.join(map(repr, list(file.root)[:8])) or 'nothing'}",
            hint="a .caffemodel.h5 has /data/<layer>/<position>; is this an HDF5 file of another program?",
        )
    return group


def _layers(group: h5py.Group, name: str, seen: set[int], file: Hdf5File) -> Iterator[tuple[str, dict[str, Any]]]:
    """The datasets of the layers at and below `group`; a layer whose name has slashes is a group inside a group.

    A group of nothing but groups is taken for a part of their names: a layer of that name has no datasets anyway.
    `seen` are the addresses of all groups and datasets so far: each may be there once, so that no cycle is followed.
    """
    if name.count("/") >= _MOST_SLASHES:
        raise WireError(f"groups nest deeper than {_MOST_SLASHES} levels", where=f"group '/data/{name}'")
    datasets: dict[str, Any] = {}
    for key in names(group):
        inner = f"{name}/{key}" if name else key
        item = member(group, key, file)
        assert item is not None
        header = address(group, key)
        if header in seen:
            raise WireError("the same group or dataset under two names; Caffe writes none", where=f"'/data/{inner}'")
        seen.add(header)
        if len(seen) > _MOST_OBJECTS:
            raise WireError(f"more than {_MOST_OBJECTS} groups and datasets; no net has so many")
        if isinstance(item, h5py.Group):
            yield from _layers(item, inner, seen, file)
        elif re.fullmatch(r"0|[1-9]\d{0,2}", key, re.ASCII):
            datasets[key] = item
        else:
            problem = f"a dataset named {key!r}; expected 0, 1 and so on, the positions of the blobs"
            raise WireError(problem, where=f"layer '{name}'")
    if datasets or (name and not len(group)):
        yield name, datasets


def _read_layer(name: str, datasets: dict[str, Any], file: Hdf5File) -> tuple[np.ndarray, ...]:
    with place(f"layer '{name}'"):
        count = 1 + max(map(int, datasets), default=-1)
        file.take(8 * count)
        blobs = [LEFT_OUT] * count
        for key, dataset in datasets.items():
            with place(f"blob {key}"):
                blobs[int(key)] = read_values(dataset, file)
    return tuple(blobs)


def write_hdf5(model: CaffeModel, path: str | os.PathLike[str] | BinaryIO) -> None:
    """Write a .caffemodel.h5 as Caffe 1.0 does: a group for every layer of the net, and in it the blobs that it owns.

    But conv/relu has none beside conv: Caffe makes it inside conv's, counts it among conv's blobs, and dies when it
    reads its own file. Without a net, as an .h5 is read, the layers are those with blobs and the bare ones that the
    file listed. float64 blobs stay as they are, every other type becomes float32. Raises MismatchError for blobs that
    have no layer, and for names that are no path in HDF5. `path` may be a file that is open for reading and writing.
    """
    refuse_no_model(model)
    listed = (layer.name for layer in model.spec.layers) if model.spec else (*model.blobs, *model.bare)
    names = dict.fromkeys(listed)
    strangers = set(model.blobs) - set(names)
    if strangers:
        raise MismatchError(f"blobs of layers that the net does not have: {', '.join(sorted(strangers))}")
    with whole_or_open(path) as out, _ErrorKept(out) as kept, h5py.File(kept, "w", libver="earliest") as file:
        data = file.create_group("data")
        borrowed = borrowed_blobs(model.spec) if model.spec else {}
        for name in names:
            own = enumerate(model.blobs.get(name, ()))
            blobs = {i: b for i, b in own if (name, i) not in borrowed and not is_left_out(b)}
            if blobs or model.spec is None or not any(outer in names for outer in _outer(name)):
                _write_layer(data, name, blobs)


class _ErrorKept:
    """A file for h5py to write, whose first error is raised behind it, as of a full disk; what follows is not written.

    Raised within h5py's calls it ends in a SystemError of Python 3.13's.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        return partial(self._try, getattr(self.file, name))

    def _try(self, act: Callable[..., Any], *given: Any) -> Any:
        if self.error is None:
            try:
                return act(*given)
            except BaseException as error:
                self.error = error
        return 0

    def __enter__(self) -> _ErrorKept:
        self.file.seek(0, os.SEEK_END)  # as h5py begins; an error of its first calls ends the process, when Python ends
        self.file.tell()
        return self

    def __exit__(self, *_: object) -> None:
        if self.error is not None:
            raise self.error


def _outer(name: str) -> Iterator[str]:
    """The names of the groups in which the group of a layer lies: a and a/b of a/b/c."""
    parts = name.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def _write_layer(data: h5py.Group, name: str, blobs: dict[int, np.ndarray]) -> None:
    if "\0" in name or {"", "."} & set(name.split("/")):
        raise MismatchError(f"HDF5 cannot hold a layer named {name!r}", hint="write a .caffemodel instead")
    try:
        group = data.require_group(name)
        for i, blob in blobs.items():
            group.create_dataset(str(i), data=np.asarray(blob, np.float64 if blob.dtype == np.float64 else np.float32))
    except (TypeError, ValueError) as error:  # one layer's name is the path of another one's blob
        raise MismatchError(f"HDF5 cannot hold layer {name!r} beside the others: {error}") from error
