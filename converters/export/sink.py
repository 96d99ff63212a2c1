"""A file as PyTorch's writers may have it: where a write fails they say something else, or end the process."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast


@contextmanager
def sink_for_pytorch(file: BinaryIO) -> Iterator[IO[bytes]]:
    """The file for `torch.save` and `torch.export.save`; the first OSError of a write is raised as the block ends."""
    sink = _Sink(file)
    try:
        yield cast("IO[bytes]", sink)
    finally:
        if sink.error is not None:
            raise sink.error


class _Sink(io.RawIOBase):
    """A file that keeps its first error to itself: where a write fails, PyTorch's writer ends the whole process."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, unless a write has failed."""
        try:
            if self.error is None:
                self._file.write(data)
        except OSError as error:
            self.error = error
        return memoryview(data).nbytes

    def writable(self) -> bool:
        """As PyTorch asks."""
        return True

    def seekable(self) -> bool:
        """As PyTorch asks."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move in the file; called where a program is written as a plain zip (before PyTorch 2.8)."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As `seek`."""
        return self._file.tell()
