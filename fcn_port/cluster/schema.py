"""The Parquet table of results: a row for each image, with what was found in it as a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ImageError
from .rows import BOX

FOUND = pa.struct(
    [
        ("output", pa.string()),
        ("label", pa.int32()),
        ("class", pa.string()),
        ("share", pa.float64()),
        ("score", pa.float64()),
        *((side, pa.float64()) for side in BOX),
        ("least", pa.float64()),
        ("largest", pa.float64()),
    ]
)
ROWS = pa.schema(
    [
        ("image", pa.string()),
        ("name", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("problem", pa.string()),
        ("found", pa.list_(FOUND)),
    ]
)


def as_table(rows: Sequence[dict[str, Any]]) -> Any:
    """Rows as a table of Arrow; what a row does not have is null. ImageError for what are no rows of results."""
    try:
        return pa.Table.from_pylist(list(rows), schema=ROWS)
    except (pa.ArrowException, AttributeError) as error:
        raise ImageError(f"no rows of results: {str(error).splitlines()[0]}") from error


@contextmanager
def writer(file: BinaryIO) -> Iterator[Any]:
    """A writer of tables into a file that is open."""
    with pq.ParquetWriter(file, ROWS, compression="zstd") as out:
        yield out


def read_rows(path: Path, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """The rows of a table that was written here; ImageError for another, which may be somebody's own."""
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(ROWS):
                raise ImageError(f"{path}: not a table of results of --ray; give another folder, or take it away")
            for batch in file.iter_batches(batch_size=10_000, columns=None if columns is None else list(columns)):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ImageError(f"{path}: not a table of results that can be read: {str(error).splitlines()[0]}") from error
