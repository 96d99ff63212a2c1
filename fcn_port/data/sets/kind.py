"""The record by which a module of this folder says what it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..records import DataSet


@dataclass(frozen=True)
class DatasetKind:
    """A layout of a published data set: its name, how it is found in a folder and opened.

    `dataset` is the set's name in the catalogue, `marks` the files and folders that it is known by, in words.
    `find` gives the folder in or below one, or None, `open` a split of it. `elsewhere`: the folders of other sets hold
    its images, too, so that those are looked for first.
    """

    name: str
    dataset: str
    title: str
    marks: str
    find: Callable[[Path], Path | None]
    open: Callable[..., DataSet]
    elsewhere: bool = False
