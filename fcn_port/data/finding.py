"""Files of people's own data sets as they lie: any ending in any case, and lists with endings, folders and pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from ..predict.image_lists import ENDINGS, is_there, row_of
from .errors import DataError
from .images import photographs, read_bands
from .lists import read_lines
from .records import Files

_DEEPEST = 64
"""Folders of a path that is another machine's of which some are looked for here: each costs a look at the disk."""


@dataclass(frozen=True)
class FoundFiles(Files):
    """Files in a folder, called `name` with any of ENDINGS in any case; `usual` is the ending that is tried first."""

    usual: str = ".jpg"

    def path(self, id_: str) -> Path:
        """The file of an image; the usual one where there is none. DataError where two could be meant."""
        usual = self.folder / (self.name.format(id_) + self.usual)
        if is_there(usual):
            return usual
        found = files_by_stem(self.folder).get(self.name.format(id_), ())
        if len(found) > 1:
            raise DataError(f"which is the one of {id_}: {', '.join(path.name for path in found)}?", path=self.folder)
        return found[0] if found else usual

    def ids(self) -> dict[str, None]:
        """The ids of the images whose files are there, in the order of their names."""
        before, _, after = self.name.partition("{}")
        ends = len(before), len(after)
        stems = files_by_stem(self.folder)
        return {
            stem[ends[0] : len(stem) - ends[1]]: None
            for stem in stems
            if len(stem) > sum(ends) and stem.startswith(before) and stem.endswith(after)
        }


@dataclass(frozen=True)
class ListedFiles(Files):
    """Files that a list names one by one."""

    paths: Mapping[str, Path] = field(default_factory=dict)

    def path(self, id_: str) -> Path:
        """The file of an image."""
        return self.paths[id_]


@dataclass(frozen=True)
class ListedPair:
    """A line of a list: an image and, where the line has two, its label map."""

    image: Path
    label: Path | None


def own_images(color: Files) -> dict[str, Files]:
    """The kinds of input that people's own images give: their colours, and every channel that they hold."""
    return {**photographs(color), "bands": replace(color, read=read_bands)}


def files_by_stem(folder: Path) -> Mapping[str, tuple[Path, ...]]:
    """The images of a folder by their names without endings; read again when something in the folder changes."""
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        return {}
    return _files_by_stem(folder, changed)


@lru_cache(maxsize=32)
def _files_by_stem(folder: Path, changed: int) -> Mapping[str, tuple[Path, ...]]:
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in ENDINGS and not path.name.startswith("."):
            found[path.stem] = (*found.get(path.stem, ()), path)
    return found


def read_pairs(path: Path, *, roots: tuple[Path, ...]) -> dict[str, ListedPair]:
    """The pairs of a list of files by id: an image a line, or an image and its label map.

    Columns are parted by a tab, a comma, a semicolon or, where there is none, by spaces, unless the whole line names a
    file that is there. A path is seen from one of `roots` or from the list's folder; one that is another machine's
    (`/SegNet/CamVid/train/0001.png`) loses its first folders until it is found here. The id is the image's name without
    its ending or, where two share it, with folders.
    """
    rows = [_row(line, path, roots) for line in read_lines(path)]
    pairs = []
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        if "\0" in "".join(row):
            raise DataError("a name with a zero byte", path=path, where=f"line {number}")
        label = _located(row[1], path, roots) if len(row) > 1 and _is_file_name(row[1]) else None
        pairs.append(ListedPair(_located(row[0], path, roots), label))
    if not pairs:
        raise DataError("the list is empty", path=path)
    return dict(zip(_ids([pair.image for pair in pairs], path), pairs, strict=True))


def ids_of_files(path: Path, *, roots: tuple[Path, ...]) -> tuple[str, ...]:
    """The ids in a list of files or pairs whose folders are known: the first file's name, without folder and ending."""
    rows = [row for line in read_lines(path) if (row := _row(line, path, roots))]
    ids = tuple(PurePosixPath(row[0].replace("\\", "/")).stem for row in rows)
    twice = next((id_ for id_, count in Counter(ids).items() if count > 1), None)
    if twice is not None or any(not id_ or id_.startswith(".") or "\0" in id_ for id_ in ids):
        raise DataError(f"{twice} stands there twice" if twice else "a line is no file of an image", path=path)
    return ids


def names_files(path: Path, *, roots: tuple[Path, ...]) -> bool:
    """True for a list whose first line names a file, by its ending or folder, and not an id."""
    first = next((row for line in read_lines(path) if (row := _row(line, path, roots))), ())
    return bool(first) and _is_file_name(first[0])


def _row(line: str, listed_in: Path, roots: tuple[Path, ...]) -> tuple[str, ...]:
    """The columns of a line; a file's name is one, whatever is in it."""
    row, whole = row_of(line), line.strip()
    if len(row) > 1 and _is_file_name(whole) and any(is_there(base / whole) for base in (*roots, listed_in.parent)):
        return (whole,)
    return row


def _is_file_name(text: str) -> bool:
    return PurePosixPath(text.replace("\\", "/")).suffix.lower() in ENDINGS


def _located(name: str, listed_in: Path, roots: tuple[Path, ...]) -> Path:
    """The file that a list means: below a root or the list's folder, with as many of its folders as are here.

    That is all of them, or fewer than _DEEPEST: a line may be a megabyte of slashes.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if Path(name).is_absolute() and is_there(Path(name)):
        return Path(name)
    parts = tuple(part for part in parts if part not in ("/", "."))
    for first in sorted({0, *range(max(0, len(parts) - _DEEPEST), len(parts))}):
        for base in (*roots, listed_in.parent):
            if is_there(place := base.joinpath(*parts[first:])):
                return place
    return roots[0].joinpath(*parts)


def _ids(paths: Iterable[Path], listed_in: Path) -> list[str]:
    given = list(paths)
    for depth in range(1, 8):
        ids = ["-".join((*path.parts[-depth:-1], path.stem)) for path in given]
        if len(set(ids)) == len(ids):
            return ids
    seen: set[Path] = set()
    for number, path in enumerate(given, start=1):
        if path in seen:
            raise DataError(f"{path.name} stands there twice", path=listed_in, where=f"image {number}")
        seen.add(path)
    raise DataError("images cannot be told apart by their names", path=listed_in)
