"""The images that are meant, in files, tars and tables: where each lies, and in which order they are done.

What a worker gets of an image is the place where its bytes are, some hundred bytes; it reads them itself from storage
that all machines see. So a plan of a million images fits into memory, and says the same wherever it is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from converters.escaping import file_name

from ..data.tars import tar_members
from ..errors import ImageError
from ..predict.image_lists import ImageSource, gather

MOST_IN_BLOCK = 256
"""The most images of a block, which is done by one worker and begun again where the worker dies."""
BLOCKS_PER_WORKER = 16
"""Blocks that each worker gets, about: with fewer, some workers wait for the last one."""
TABLE, TAR = ".parquet", ".tar"
_PACKED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass(frozen=True)
class ImageRef:
    """An image: `name`, under which its results go, without an ending, and the place of its bytes.

    Of a file `place` is empty. Of a tar it is the member's name, and `first` and `second` are its offset and length;
    of a table the column, with the row group and the row in it.
    """

    name: str
    path: str
    kind: Literal["file", "tar", "table"] = "file"
    place: str = ""
    first: int = 0
    second: int = 0

    @property
    def image(self) -> str:
        """The image in words: the path, with the member or the row."""
        if self.kind == "tar":
            return f"{self.path}/{self.place}"
        return f"{self.path}#{self.first}.{self.second}" if self.kind == "table" else self.path


def as_columns(items: Sequence[ImageRef]) -> dict[str, list[Any]]:
    """The fields of items as columns, for a table; paths as bytes, since they need not be text."""
    columns: dict[str, list[Any]] = {
        name: [getattr(item, name) for item in items] for name in ("name", "kind", "first", "second")
    }
    return columns | {name: [os.fsencode(getattr(item, name)) for item in items] for name in ("path", "place")}


def blocks_of(items: Sequence[ImageRef], *, workers: int) -> tuple[tuple[ImageRef, ...], ...]:
    """Blocks of images for so many workers, in order: small enough to end together, no larger than is good to lose."""
    size = max(1, min(MOST_IN_BLOCK, len(items) // max(1, workers * BLOCKS_PER_WORKER)))
    return tuple(tuple(items[i : i + size]) for i in range(0, len(items), size))


def plan(given: Sequence[Path]) -> tuple[ImageRef, ...]:
    """The images of files, folders, lists, WebDataset tars and Parquet tables, in order, each under a name of its own.

    A folder without images stands for the tars and tables in it. An image in a tar is called by its member, one in a
    table by the table and its number; a table has a column of images (bytes, or `{bytes, path}` as Hugging Face's
    have it) or of paths. FileNotFoundError where nothing is; ValueError where no image is, where two would have one
    name, or for what is damaged or compressed.
    """
    parts = [part for each in given for part in _opened(each)]
    packed = [part for part in parts if part.suffix in (TABLE, TAR)]
    loose = [part for part in parts if part.suffix not in (TABLE, TAR)]
    items = [_of_file(source) for source in gather(loose)] if loose else []
    for part in packed:
        root = file_name(part.stem) if len(parts) > 1 else ""
        items += _in_tar(part, root) if part.suffix == TAR else _in_table(part, root)
    if not items:
        raise ValueError(f"no image in {', '.join(map(str, given))}")
    _refuse_equal(items)
    return tuple(items)


def _opened(given: Path) -> list[Path]:
    """A folder of tars and tables as what is in it; anything else as it is."""
    if given.name.endswith(_PACKED_TARS):
        raise ValueError(f"{given}: a compressed tar can be read from its beginning only; unpack it to {TAR} first")
    if given.is_dir():
        found = sorted(
            path for path in given.iterdir() if path.suffix in (TABLE, TAR) and not path.name.startswith(".")
        )
        return found or [given]
    if given.suffix in (TABLE, TAR):
        given.stat()
    return [given]


def _of_file(source: ImageSource) -> ImageRef:
    return ImageRef(_as_text(source), str(source.path))


def _as_text(source: ImageSource) -> str:
    """The name of an image's results, as it is unless it is no text."""
    name = source.name.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        return "/".join(file_name(part) for part in source.name.parts)
    return name


def _in_tar(path: Path, root: str) -> Iterator[ImageRef]:
    """The images of a WebDataset: members with an ending of an image, called as they are without it."""
    endings = frozenset(Image.registered_extensions())
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            for member in tar_members(stream, within=lambda end: None):
                info, named = member.info, Path(member.info.name)
                if info.offset_data + info.size > size:
                    raise ImageError(f"{path}: it is cut off in {info.name}")
                if info.isreg() and named.suffix.lower() in endings and not named.name.startswith("."):
                    parts = [file_name(part) for part in named.with_suffix("").parts if part not in ("/", ".")]
                    name = "/".join([root, *parts] if root else parts)
                    yield ImageRef(name, str(path.absolute()), "tar", info.name, info.offset_data, info.size)
    except ImageError:
        raise
    except ValueError as error:
        raise ImageError(f"{path}: {error}") from error


def _in_table(path: Path, root: str) -> Iterator[ImageRef]:
    """The rows of a Parquet table: their numbers as names where it holds images, and the images of its paths."""
    from .tables import column_of, paths_of, row_groups

    column = column_of(path)
    if column.holds_paths:
        for source in gather([path.parent / each for each in paths_of(path, column)]):
            name = _as_text(source)
            yield ImageRef(f"{root}/{name}" if root else name, str(source.path))
        return
    sizes = row_groups(path)
    digits = len(str(max(sum(sizes) - 1, 0)))
    number = 0
    for group, rows in enumerate(sizes):
        for row in range(rows):
            name = f"{file_name(path.stem)}-{number:0{digits}d}"
            yield ImageRef(f"{root}/{name}" if root else name, str(path.absolute()), "table", column.name, group, row)
            number += 1


def _refuse_equal(items: Sequence[ImageRef]) -> None:
    seen: dict[str, ImageRef] = {}
    for item in items:
        if item.name in seen:
            raise ValueError(
                f"{seen[item.name].image} and {item.image} would both write {item.name}; give one at a time"
            )
        seen[item.name] = item
