"""One tree of errors about files and nets, caught once, in the command line.

CaffeFormatError            every error about a file or a net
├── PrototxtError           text that is not a prototxt, with line and column
├── WireError               bytes that are not the protobuf message they should be, with their offset
├── NetError                a net that Caffe would refuse: a missing bottom, a bad parameter, a shape below 1
│   ├── UnknownLayerError   a layer type that is not supported
│   ├── ChoiceError         an output, an input or a size that was asked for, and is not this net's
│   └── InputError          what a pass was given, and the net does not take; a RuntimeError and a TypeError as well
├── MismatchError           a net and weights that do not belong together
├── LimitError              a file that asks for more memory or time than one of its size may have
└── NotEnoughMemoryError    a net that needs more memory than the machine gives; a MemoryError as well
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from .escaping import terminal, terminal_lines


class CaffeFormatError(ValueError):
    """A file is not what it should be; says which file, where in it, what is wrong and what to do.

    `path` is the file (readers that see only bytes leave it out and `in_file` adds it later), `where` a place in
    it ("line 12, column 3", "layer 'fc6' blob 0"), `problem` what was expected and found, `hint` what to do.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | os.PathLike[str] | None = None,
        where: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = None if path is None else os.fspath(path)
        self.where = where
        self.hint = hint

    def in_file(self, path: str | os.PathLike[str]) -> CaffeFormatError:
        """The same error, naming `path` unless it names a file already."""
        if self.path is None:
            self.path = os.fspath(path)
        return self

    def inside(self, where: str) -> CaffeFormatError:
        """The same error, with `where` put before the place that it names."""
        self.where = f"{where}, {self.where}" if self.where else where
        return self

    def __str__(self) -> str:
        place = [terminal(part) for part in (self.path, self.where) if part]
        text = ": ".join([*place, terminal_lines(self.problem)])
        return f"{text}\n  {terminal_lines(self.hint)}" if self.hint else text


@contextmanager
def place(where: str) -> Iterator[None]:
    """Errors from inside the block say that they happened in `where`."""
    try:
        yield
    except CaffeFormatError as error:
        error.inside(where)
        raise


class PrototxtError(CaffeFormatError):
    """Text that does not parse as a prototxt."""


class WireError(CaffeFormatError):
    """Bytes that do not parse as the protobuf message they should be."""


class NetError(CaffeFormatError):
    """A net definition that Caffe itself would refuse."""


class UnknownLayerError(NetError):
    """A layer type that is neither Caffe's nor registered with `register_layer`."""


class ChoiceError(NetError):
    """An output, an input or a size that somebody asked for, and that the net does not have or take."""


class InputError(NetError, RuntimeError, TypeError):
    """Inputs of a pass that are of other names or of another kind than the net takes.

    Also what PyTorch and Python raise there, a RuntimeError and a TypeError, for programs that catch these.
    """


@contextmanager
def choice() -> Iterator[None]:
    """Have errors about the net from inside the block as ChoiceError: they are about what somebody asked for."""
    try:
        yield
    except UnknownLayerError:
        raise
    except NetError as error:
        raise ChoiceError(error.problem, path=error.path, where=error.where, hint=error.hint) from error


class MismatchError(CaffeFormatError):
    """A net and weights that do not belong together."""


class LimitError(CaffeFormatError):
    """A file that asks for more memory or time than one of its size may have; says the limit and how to raise it."""


class NotEnoughMemoryError(CaffeFormatError, MemoryError):
    """A net whose weights or blobs need more memory than the machine gives; names the layer and what it asked for."""
