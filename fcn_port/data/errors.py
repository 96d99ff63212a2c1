"""Errors about data sets."""

from __future__ import annotations

from converters.errors import CaffeFormatError, ChoiceError


class DataError(CaffeFormatError):
    """An image, label map, list or archive of a data set that is missing, damaged or not what it should be."""


class GivenFieldError(DataError, ChoiceError):
    """A field of a description that somebody gave (`describing`), and that is wrong: no file is to blame."""
