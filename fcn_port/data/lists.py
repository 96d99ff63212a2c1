"""Lists of images, one id a line, as data sets name their splits."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable
from pathlib import Path

from converters.safety import read_lines as _read_lines

from .errors import DataError

_NO_LISTS = ("classes.txt", "classes-400.txt", "labels.txt", "59_labels.txt", "readme.txt")

_LONGEST = 1024
"""Characters of a line that are tried as an id with spaces in it; no file system has names as long."""


def read_lines(path: Path) -> list[str]:
    """The lines of a text in UTF-8, with or without a byte order mark; DataError where it is none."""
    try:
        return _read_lines(path)
    except UnicodeDecodeError as error:
        raise DataError(f"not a text in UTF-8 from byte {error.start} on", path=path) from None


def read_list(path: Path, *, there: Container[str] = ()) -> tuple[str, ...]:
    """The ids in a list, in its order; DataError names the line of one that cannot be, or that comes twice.

    A line's id is its first word, as more columns may follow (VOC's lists of a class have 1 or -1 there), or as many of
    its words as make one of `there`, the ids of the images at hand: they may have spaces in them.
    """
    lines = read_lines(path)
    ids: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        id_ = _id_of(line, there)
        if "/" in id_ or "\\" in id_ or id_.startswith(".") or "\0" in id_:
            raise DataError(f"{id_!r:.80} is not the id of an image", path=path, where=f"line {number}")
        if id_ in ids:
            raise DataError(
                f"{id_:.80} stands there twice, first in line {ids[id_]}", path=path, where=f"line {number}"
            )
        ids[id_] = number
    if not ids:
        raise DataError("the list is empty", path=path)
    return tuple(ids)


def _id_of(line: str, there: Container[str]) -> str:
    found = line.strip()
    if len(found) > _LONGEST:
        found = max(found.split(maxsplit=1)[0], found[:_LONGEST].rsplit(maxsplit=1)[0], key=len)
    while found not in there and len(parts := found.rsplit(maxsplit=1)) > 1:
        found = parts[0]
    return found


def split_name(split: str) -> str:
    """The name of a split: the one that was given, or that of the list whose path was given."""
    return Path(split).stem if Path(split).suffix else split


def lists_in(folder: Path) -> list[Path]:
    """The lists of images in a folder: text files that do not hold something else."""
    return sorted(path for path in folder.glob("*.txt") if path.name not in _NO_LISTS)


def digest(ids: Iterable[str]) -> str:
    """The SHA-256 of a set of ids: sorted, one a line."""
    return hashlib.sha256("".join(f"{id_}\n" for id_ in sorted(ids)).encode()).hexdigest()


def split_file(split: str, folders: Iterable[Path], *, published: str = "") -> Path:
    """The list of a split: the path of a file, or `<split>.txt` in one of `folders`.

    FileNotFoundError says which splits there are, and `published`, where the missing one is to be had.
    """
    as_path = Path(split).expanduser()
    if as_path.suffix and as_path.is_file():
        return as_path
    tried = list(folders)
    for folder in tried:
        if (folder / f"{split}.txt").is_file():
            return folder / f"{split}.txt"
    there = sorted({path.stem for folder in tried for path in lists_in(folder)})
    found = f"there are {', '.join(there[:12])}" if there else "there is no list at all"
    raise FileNotFoundError(
        f"no list of the split '{split}': {tried[0] / (split + '.txt')} is missing, {found}"
        + (f"\n  {published}" if published else "")
    )
