"""Images and label maps that lie in Caffe's own stores: LMDB and LevelDB of Datum, and the files of HDF5Data.

A data layer of Caffe's reads images and labels from two stores in step, record by record; here, too, the label map of
an image is the record of its key or, where the keys are others, the one at its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from converters.errors import CaffeFormatError, LimitError
from converters.escaping import file_name
from converters.formats import (
    Datum,
    LevelDbFolder,
    LmdbFile,
    count_rows,
    is_leveldb,
    is_lmdb,
    read_datum,
    read_leveldb,
    read_lmdb,
    read_row,
)
from converters.safety import check_memory

from ..errors import ImageError
from ..predict.greys import beside, grey_of_picture
from ..predict.image_lists import is_there
from ..predict.pictures import bands_of_picture, color_of_picture, opened_picture
from .errors import DataError
from .lists import read_lines
from .masks import MaskReader, checked_mask, mask_of_picture
from .records import Files

HDF5_ENDINGS = (".h5", ".hdf5", ".hdf")
_LONGEST_NAME = 1024
"""Characters of a file's name, which a line may hold many more of, that are told."""
_ROW_BYTES = 256
"""Bytes that the list of an HDF5 file's rows takes for each (190 seen)."""
_EXPANSION = 8
"""Bytes of that list for each byte of the files: rows that were never written take none in them."""


class Store(Protocol):
    """Records in order, each with a key; `file` is where one lies."""

    @property
    def keys(self) -> tuple[str, ...]: ...

    def file(self, number: int) -> Path:
        """The file of a record."""
        ...

    def record(self, number: int) -> Datum:
        """A record; CaffeFormatError for one that is damaged."""
        ...


@dataclass(frozen=True)
class StoredFiles(Files):
    """Images or label maps in a store, by the ids of its records; `made` makes one of a record."""

    store: Store = field(kw_only=True, repr=False)
    numbers: Mapping[str, int] = field(kw_only=True, repr=False)
    made: Callable[[Datum, Path], np.ndarray] = field(kw_only=True)

    def path(self, id_: str) -> Path:
        """The file that the record lies in."""
        return self.store.file(self.numbers[id_])

    def shown(self, id_: str) -> Path:
        """The store, and the key of the record in brackets."""
        return self.folder.with_name(f"{self.folder.name}[{file_name(self.store.keys[self.numbers[id_]])}]")

    @property
    def source(self) -> str:
        """The store, and of HDF5 files the dataset in them."""
        return f"{self.folder}[{getattr(self.store, 'top', '')}]"

    def of(self, id_: str) -> np.ndarray:
        """The image or label map; DataError names the record."""
        place = self.shown(id_)
        try:
            return self.made(self.store.record(self.numbers[id_]), place)
        except DataError:
            raise
        except CaffeFormatError as error:
            raise DataError(error.problem, path=place, hint=error.hint) from None
        except ImageError as error:
            raise DataError(str(error).removeprefix(f"{place}: "), path=place) from None


# Stores


@dataclass(frozen=True)
class DatumStore:
    """A database of Datum: LMDB or LevelDB."""

    database: LmdbFile | LevelDbFolder
    keys: tuple[str, ...]

    def file(self, number: int) -> Path:
        """The file of an LMDB; of a LevelDB the file that changes with every change."""
        path = self.database.path
        return path / "CURRENT" if path.is_dir() else path

    def record(self, number: int) -> Datum:
        """A record, unpacked."""
        content = self.database.value(number)
        return read_datum(content, path=self.database.path, where=self.keys[number])


@dataclass(frozen=True)
class Hdf5Store:
    """The rows of one top in the files that an HDF5Data layer reads one after the other."""

    top: str
    rows: tuple[tuple[Path, int], ...]
    keys: tuple[str, ...]

    def file(self, number: int) -> Path:
        """The file of a row."""
        return self.rows[number][0]

    def record(self, number: int) -> Datum:
        """A row as Datum: (c, h, w), of (h, w) with one channel."""
        path, row = self.rows[number]
        count = count_rows(path, self.top)
        if row >= count:
            raise DataError(f"dataset '{self.top}' has {count} rows now", path=path)
        found = np.asarray(read_row(path, self.top, row))
        found = found[None] if found.ndim == 2 else found
        if found.ndim != 3 or not found.size:
            what = "labels of images as a whole, and not of pixels" if found.size == 1 else "no images"
            problem = (
                f"dataset '{self.top}' of {(count, *found.shape)}: {what}; expected (n, channels, h, w) or (n, h, w)"
            )
            raise DataError(problem, path=path)
        return Datum(found, None, 0)


def is_store(place: Path) -> bool:
    """True for a database of Caffe's, for a file of HDF5Data's, and for a list of such files."""
    return is_lmdb(place) or is_leveldb(place) or is_hdf5(place)


def is_hdf5(place: Path) -> bool:
    """True for an HDF5 file, and for a text whose first line names one."""
    if place.suffix.lower() in HDF5_ENDINGS and not place.is_dir():
        return True
    if place.suffix.lower() != ".txt" or not place.is_file():
        return False
    first = next((line.strip() for line in read_lines(place) if line.strip()), "")
    return Path(first).suffix.lower() in HDF5_ENDINGS


def open_store(place: Path, *, top: str) -> Store:
    """The records of a store; `top` names the dataset in HDF5 files. DataError for what is damaged or missing."""
    try:
        if is_hdf5(place):
            return _hdf5(place, top)
        database: LmdbFile | LevelDbFolder = read_lmdb(place) if is_lmdb(place) else read_leveldb(place)
    except DataError:
        raise
    except CaffeFormatError as error:
        raise DataError(error.problem, path=error.path or place, where=error.where, hint=error.hint) from None
    return DatumStore(database, tuple(key.decode(errors="backslashreplace") for key in database.keys))


def _hdf5(place: Path, top: str) -> Hdf5Store:
    """The rows of a file, or of those that a list names: seen from the list, or as Caffe does, from here."""
    files = [place]
    if place.suffix.lower() not in HDF5_ENDINGS:
        names = [line.strip() for line in read_lines(place) if line.strip()]
        files = [place.parent / name if is_there(place.parent / name) else Path(name) for name in names]
    rows: list[tuple[Path, int]] = []
    keys: list[str] = []
    size = 0
    stems = Counter(path.stem for path in files)
    for number, path in enumerate(files):
        if not is_there(path) or not path.is_file():
            named = f"; {place} names it" if path != place else ""
            raise FileNotFoundError(f"{path!s:.{_LONGEST_NAME}}: there is no such file{named}")
        stem = path.stem if stems[path.stem] == 1 else f"{number:04d}-{path.stem}"
        count, size = count_rows(path, top), size + path.stat().st_size
        _check_rows(len(rows) + count, size, path)
        rows += [(path, row) for row in range(count)]
        keys += [f"{stem}-{row:06d}" for row in range(count)]
    return Hdf5Store(top, tuple(rows), tuple(keys))


def _check_rows(count: int, size: int, path: Path) -> None:
    """LimitError for more rows than files of `size` bytes, the last of which is `path`, may have listed."""
    try:
        check_memory(count * _ROW_BYTES, file_size=size, expansion=_EXPANSION, what="a list of its rows would take")
    except LimitError as error:
        raise error.in_file(path) from None


# Images and label maps of records


def stored_images(store: Store, place: Path) -> tuple[tuple[str, ...], dict[str, Files]]:
    """The ids of the images of a store, in its order, and the kinds of input that they give."""
    ids = [file_name(key) for key in store.keys]
    if len(set(ids)) != len(ids):
        ids = [f"{number:08d}" for number in range(len(ids))]
    numbers = {id_: number for number, id_ in enumerate(ids)}
    color = StoredFiles(place, "{}", _unread, store=store, numbers=numbers, made=stored_color)
    made = {"color": stored_color, "grey": stored_grey, "bands": stored_bands}
    return tuple(ids), {kind: replace(color, made=each) for kind, each in made.items()}


def stored_labels(store: Store, place: Path, images: Store, ids: tuple[str, ...], reader: MaskReader) -> Files:
    """The label maps of a store for the images of another one: of equal keys, else of equal places.

    DataError where the stores are not of as many records, or only some keys are in both.
    """
    at = {key: number for number, key in enumerate(store.keys)}
    both = sum(key in at for key in images.keys)
    if len(store.keys) != len(images.keys) or both not in (0, len(images.keys)):
        missing = next((key for key in images.keys if key not in at), "")
        problem = f"{len(store.keys)} label maps for {len(images.keys)} images, {both} of equal keys"
        raise DataError(problem, path=place, hint=f"there is none for {missing[:80]!r}" if both else None)
    numbers = {id_: at[key] if both else number for number, (id_, key) in enumerate(zip(ids, images.keys, strict=True))}
    return StoredFiles(place, "{}", reader, store=store, numbers=numbers, made=_LabelsOf(reader))


@dataclass(frozen=True)
class _LabelsOf:
    """The labels of a record, by the settings of a MaskReader."""

    reader: MaskReader

    def __call__(self, record: Datum, place: Path) -> np.ndarray:
        colours = bool(self.reader.colours)
        if record.encoded is not None:
            with opened_picture(record.encoded) as image:
                stored = mask_of_picture(image, place, colours=colours)
        else:
            stored = _mask(record, place, colours=colours)
        return self.reader.labels_of(stored, place)


def _mask(record: Datum, place: Path, *, colours: bool) -> np.ndarray:
    """A label map of values: one channel, or three of colours, BGR."""
    assert record.values is not None
    channels = len(record.values)
    if channels == 3 and colours:
        return checked_mask(np.ascontiguousarray(record.values[::-1].transpose(1, 2, 0)), place)
    if channels != 1:
        raise DataError(f"{channels} channels; expected one, of labels", path=place)
    if record.values.size == 1:
        hint = "labels = ... names the store of label maps"
        raise DataError("one value; expected the labels of an image's pixels", path=place, hint=hint)
    return checked_mask(record.values[0], place)


def stored_color(record: Datum, place: Path) -> np.ndarray:
    """A record's colours (h, w, 3), RGB: a picture decoded, values as stored, BGR turned, one channel three times."""
    if record.encoded is not None:
        with opened_picture(record.encoded) as image:
            return color_of_picture(image)
    assert record.values is not None
    if len(record.values) not in (1, 3):
        hint = 'channels = "all" in dataset.toml takes them all'
        raise DataError(f"{len(record.values)} channels; expected 1 or 3", path=place, hint=hint)
    planes = np.broadcast_to(record.values[::-1], (3, *record.values.shape[1:]))
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def stored_grey(record: Datum, place: Path) -> np.ndarray:
    """A record's colours, of a picture with the grey that OpenCV decodes (DecodeDatumToCVMat of Caffe's io.cpp)."""
    colours = stored_color(record, place)
    if record.encoded is None:
        return colours
    with opened_picture(record.encoded, grey=True) as image:
        return beside(colours, grey_of_picture(image))


def stored_bands(record: Datum, place: Path) -> np.ndarray:
    """A record's channels (h, w, c) as they are stored; those of a picture are RGB."""
    if record.encoded is not None:
        with opened_picture(record.encoded) as image:
            return bands_of_picture(image)
    assert record.values is not None
    return np.ascontiguousarray(record.values.transpose(1, 2, 0))


def _unread(path: Path) -> np.ndarray:
    raise NotImplementedError("records are read by `StoredFiles.of`")
