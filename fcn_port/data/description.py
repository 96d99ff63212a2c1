"""A data set as its `dataset.toml` describes it, for people's own images and labels.

    title = "Cells"
    images = "images"                     # folders beside the file; {split} stands for the split
    labels = "masks"
    classes = ["background", "cell"]
    ids = { 0 = 0, 255 = 1 }              # from what the masks hold to classes

`train`, `evaluate`, `predict`, `report`, `data --check` and `open_dataset` take the file, or the folder that it is in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from converters.errors import CaffeFormatError
from converters.formats import read_mean
from converters.safety import open_file, to_record
from weights.records import IGNORE_LABEL

from .errors import DataError, GivenFieldError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DESCRIPTION = "dataset.toml"
GIVEN = "--describe"
"""The place of fields that no file says, in messages."""
MOST_BYTES = 1 << 20
"""The longest description that is read."""


@dataclass(frozen=True)
class SplitDescription:
    """A split where it does not lie as the others do."""

    images: str = ""
    labels: str = ""
    list: str = ""
    annotations: str = ""


@dataclass(frozen=True)
class Description:
    """The fields of a `dataset.toml`; every path is seen from its folder, and `{split}` in one is the split's name.

    `images` and `labels` are folders; `image_name` and `label_name` what a file in them is called, without its ending,
    `{}` being the image's id. `list` is a text of ids, of files, or of pairs of files; without one every image that has
    a label map belongs to every split. `classes` in the order of the net's outputs, or `label_map`, a file of them.
    `like` takes classes, colours and means from a data set of the catalogue.

    `annotations` in place of `labels` is COCO's .json, CVAT's .xml or a folder of labelme's .json files (drawings.py);
    classes are then, unless they are said, "background" and those that the file names.

    `void` are stored ids that do not count, `ids` maps the others to classes, or `first_id` is the one of class 0.
    `colours` ("#rrggbb", as many as classes) or `palette` make labels of maps in colours, with `void_colours`. `others`
    says whether what is none of these is an error or void.

    `images` and `labels` may both be stores of Caffe's: folders of an LMDB or LevelDB of Datum, or HDF5Data's files or
    list of files, whose datasets are called `image_top` and `label_top` (stored.py).

    `channels` "all" takes every channel that is stored, in its order, for a net of as many. `mean` is in the order of
    `channels`, or `mean_file` a .binaryproto whose mean of each channel is taken.
    """

    title: str = ""
    like: str = ""
    images: str = "images"
    labels: str = "labels"
    image_name: str = "{}"
    label_name: str = "{}"
    list: str = ""
    annotations: str = ""
    image_top: str = "data"
    label_top: str = "label"
    split: str = "val"
    splits: Mapping[str, SplitDescription] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    label_map: str = ""
    void: tuple[int, ...] = (IGNORE_LABEL,)
    ids: Mapping[str, int] = field(default_factory=dict)
    first_id: int = 0
    colours: tuple[str, ...] = ()
    palette: str = ""
    void_colours: tuple[str, ...] = ()
    others: Literal["error", "void"] = "error"
    mean: tuple[float, ...] = ()
    mean_file: str = ""
    scale: float = 1.0
    channels: Literal["bgr", "rgb", "grey", "all"] = "bgr"


_more: ContextVar[Mapping[str, Any]] = ContextVar("more", default={})  # noqa: B039 - never changed


@contextmanager
def describing(*fields: str) -> Iterator[None]:
    """Take these fields of a description, lines of TOML, in place of what a file says, for the time of the block.

    A folder needs no `dataset.toml` then. GivenFieldError, a DataError, for a line that is no TOML; who opens the data
    set in the block has one for fields that are wrong.
    """
    found: dict[str, Any] = {**_more.get()}
    for text in fields:
        try:
            found |= tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            problem = f"{text[:80]!r} is no line of TOML: {error!s:.120}"
            raise GivenFieldError(problem, path=GIVEN) from None
    with _taking(found):
        yield


@contextmanager
def _taking(fields: Mapping[str, Any]) -> Iterator[None]:
    token = _more.set(fields)
    try:
        yield
    finally:
        _more.reset(token)


@contextmanager
def blaming(path: Path, alone: Callable[[], object]) -> Iterator[None]:
    """Errors about the description at `path`, as GivenFieldError where the given fields are at fault and no file.

    They are where there is no file, and where the file `alone`, opened without them, has no such error.
    """
    try:
        yield
    except DataError as error:
        if error.path != os.fspath(path) or not _more.get() or _has_it(path, alone, error):
            raise
        raise GivenFieldError(error.problem, path=GIVEN, where=error.where, hint=error.hint) from None


def _has_it(path: Path, alone: Callable[[], object], error: DataError) -> bool:
    """True if the file has the same error without the given fields."""
    if not path.exists():
        return False
    with _taking({}), suppress(OSError):
        try:
            alone()
        except CaffeFormatError as own:
            return (own.problem, own.where) == (error.problem, error.where)
    return False


def given(field: str) -> bool:
    """True for a field that was given, and stands in no file."""
    return field in _more.get()


def description_in(place: Path) -> Path | None:
    """The description that a path means: the file itself, or `dataset.toml` in a folder; None where there is none."""
    if place.suffix.lower() == ".toml" or (_more.get() and place.is_dir()):
        return place if place.suffix.lower() == ".toml" else place / DESCRIPTION
    return place / DESCRIPTION if (place / DESCRIPTION).is_file() else None


def read_description(path: Path) -> Description:
    """The description in a file, with the fields of `describing`; DataError names what is missing, unknown or wrong."""
    more = _more.get()
    try:
        data = b""
        if path.exists() or not more:
            with open_file(path) as file:
                data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise DataError(f"more than {MOST_BYTES >> 10} KiB, the limit of a description", path=path)
        return to_record({**tomllib.loads(data.decode("utf-8-sig")), **more}, Description)
    except (DataError, FileNotFoundError):
        raise
    except RecursionError:
        raise DataError("not a description: too many lists within lists", path=path) from None
    except CaffeFormatError as error:
        raise DataError(error.problem, path=path, where=error.where, hint=error.hint) from None
    except ValueError as error:
        raise DataError(f"not TOML: {error!s:.200}", path=path) from None


def mean_of_file(path: Path) -> tuple[float, ...]:
    """The mean of each channel of a .binaryproto, in its order, which is BGR as Caffe makes it."""
    found = read_mean(path)
    return tuple(float(value) for value in np.asarray(found, np.float64).reshape(-1, *found.shape[-2:]).mean((1, 2)))
