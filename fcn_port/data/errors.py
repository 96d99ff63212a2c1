"""Errors about data sets."""

from __future__ import annotations

from converters.errors import CaffeFormatError


class DataError(CaffeFormatError):
    """An image, label map, list or archive of a data set that is missing, damaged or not what it should be."""
