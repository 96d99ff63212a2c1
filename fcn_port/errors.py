"""Errors of this package that are about what somebody gave it; errors about Caffe files are in converters.errors."""

from __future__ import annotations

import os

from converters.escaping import terminal


class EngineError(RuntimeError):
    """An engine that is not installed, cannot run this net, or does not give its numbers."""


class ImageError(ValueError):
    """An image that cannot be read or does not fit the net; names the file."""


class ImageMemoryError(ImageError, MemoryError):
    """An image, or what is made of it, for which there is not enough memory; says how large it is."""


class DeviceError(ValueError, RuntimeError, TypeError):
    """A device that is not here; also what PyTorch raises there, for programs that catch its errors."""


def one_line(error: Exception, path: str | os.PathLike[str]) -> str:
    """The first line of an error about a file: it names the file once, whatever is in its name."""
    shown = terminal(os.fspath(path))
    said = str(error).removeprefix(f"{os.fspath(path)}: ") or type(error).__name__
    first = said.splitlines()[0]
    return first if first.startswith(f"{shown}: ") else f"{shown}: {first}"
