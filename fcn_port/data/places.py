"""The folders in which data sets are looked for: the one that was given, and beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from weights.cache import cache_folder

DATA_VARIABLE = "FCN_PORT_DATA"


def data_dir() -> Path:
    """The folder for data sets, absolute: `$FCN_PORT_DATA`, else the user's cache folder; it need not exist yet."""
    named = os.environ.get(DATA_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    return cache_folder("data")


def find_inside(root: Path, places: Iterable[str], *, markers: Iterable[str]) -> Path | None:
    """The first of `root` and the folders named in `places` below it that holds every one of `markers`."""
    marks = tuple(markers)
    for place in ("", *places):
        if all((root / place / mark).exists() for mark in marks):
            return root / place
    return None


def find_beside(root: Path, places: Iterable[str], *, markers: Iterable[str]) -> Path | None:
    """`find_inside` for `root` and the three folders around it: people keep data sets side by side."""
    wanted, marks = tuple(places), tuple(markers)
    for base in (root, *list(root.absolute().parents)[:3]):
        found = find_inside(base, wanted, markers=marks)
        if found is not None:
            return found
    return None
