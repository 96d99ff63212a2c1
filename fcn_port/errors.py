"""Errors of this package that are about what somebody gave it; errors about Caffe files are in converters.errors."""

from __future__ import annotations


class EngineError(RuntimeError):
    """An engine that is not installed, cannot run this net, or does not give its numbers."""


class ImageError(ValueError):
    """An image that cannot be read or does not fit the net; names the file."""


class ImageMemoryError(ImageError, MemoryError):
    """An image, or what is made of it, for which there is not enough memory; says how large it is."""
