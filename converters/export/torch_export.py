"""torch.export programs (.pt2): a net without its Python, which C++ and AOTInductor take."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from .checking import Run, run_module
from .tracing import traced

if TYPE_CHECKING:
    from torch import Tensor, nn


def write_torch_export(
    net: nn.Module,
    path: str | os.PathLike[str],
    *,
    example: Mapping[str, Tensor],
    any_size: bool,
    metadata: Mapping[str, str],
) -> None:
    """Write a module as a torch.export program; `example` are inputs to trace it with.

    With `any_size`, height and width of 4-D inputs are free, from 32 up, the same for all inputs. `metadata` are extra
    files in the archive. Raises ExportError for nets that torch.export cannot trace.
    """
    import torch

    program = traced(net, example, any_size=any_size)
    with Path(path).open("wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sink = _Sink(file)
        torch.export.save(program, cast("IO[bytes]", sink), extra_files=dict(metadata))
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


def run_torch_export(path: str | os.PathLike[str], *, outputs: Sequence[str]) -> Run:
    """A function that runs the program in a file; `outputs` names the one of a net with a single output."""
    import torch

    with Path(path).open("rb") as file:
        net = torch.export.load(file).module()

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return run_module(net, inputs, outputs)

    return run
