"""Images in Parquet tables: which column has them, and the bytes of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import ImageError

IMAGE_COLUMNS = ("image", "img", "bytes", "jpg", "png", "jpeg", "content")
"""Names of columns of images, the likeliest first; where none is there, the only one of its type is taken."""
PATH_COLUMNS = ("path", "image", "image_path", "file", "file_name", "filename", "uri")
"""Names of columns of paths, the same way."""


@dataclass(frozen=True)
class ImageColumn:
    """A column of images, or of paths to them."""

    name: str
    holds_paths: bool


def column_of(path: Path) -> ImageColumn:
    """The column with a table's images; ImageError where there is none, or several that could be meant."""
    import pyarrow as pa

    with _opened(path) as file:
        schema = file.schema_arrow

    def of_bytes(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0 and of_bytes(kind.field("bytes").type))
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    def of_text(kind: Any) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    for fits, known, paths in ((of_bytes, IMAGE_COLUMNS, False), (of_text, PATH_COLUMNS, True)):
        fitting = [field.name for field in schema if fits(field.type)]
        named = [name for name in known if name in fitting]
        if named or len(fitting) == 1:
            return ImageColumn(named[0] if named else fitting[0], paths)
    said = ", ".join(f"{field.name} ({field.type})" for field in schema) or "none"
    raise ImageError(f"{path}: no column of images or of paths called {', '.join(PATH_COLUMNS)}; its columns: {said}")


def row_groups(path: Path) -> tuple[int, ...]:
    """The number of rows of each row group."""
    with _opened(path) as file:
        return tuple(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))


def paths_of(path: Path, column: ImageColumn) -> list[str]:
    """The paths in a column; ImageError where one is missing."""
    with _opened(path) as file:
        found: list[str | None] = file.read(columns=[column.name]).column(0).to_pylist()
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        raise ImageError(f"{path}: row {found.index(None)} has no path in column '{column.name}'")
    return known


def image_in(path: str, *, column: str, group: int, row: int) -> bytes:
    """The bytes of an image in a table; ImageError where there are none."""
    cell = _group(path, column, group)[row].as_py()
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(found, bytes):
        raise ImageError("no image in this row")
    return found


@lru_cache(maxsize=1)  # rows of a group follow each other
def _group(path: str, column: str, group: int) -> Any:
    with _opened(Path(path)) as file:
        return file.read_row_group(group, columns=[column]).column(0)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A Parquet file; whatever its reader raises inside the block is an ImageError that names it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ImageError(f"{path}: not a Parquet table that can be read: {str(error).splitlines()[0]}") from error
