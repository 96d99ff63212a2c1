"""The meaning of an error to who runs the program: the words for it, and the exit status."""

from __future__ import annotations

import errno

import click

from converters.errors import CaffeFormatError, ChoiceError, NotEnoughMemoryError
from converters.export import DestinationError, ExportError
from converters.extras import package_of, which_are_missing
from converters.safety import refused_memory
from weights.errors import UnknownReleaseError, WeightsError
from weights.store import in_words

from ..errors import EngineError, ImageError, ImageMemoryError
from .streams import STANDARD_OUTPUT

DONE, CHECK_FAILED, WRONG_USE, BAD_FILE, INTERRUPTED = 0, 1, 2, 3, 130

_NO_SUCH_PATH = (FileNotFoundError, FileExistsError, NotADirectoryError)  # also: a file where a folder is meant
_NO_PATH_THAT_CAN_BE = (errno.ENAMETOOLONG, errno.ELOOP)
_WRONG = (UnknownReleaseError, *_NO_SUCH_PATH, ChoiceError, DestinationError)
_FAILED = (WeightsError, ExportError, EngineError, NotEnoughMemoryError, ImageMemoryError)
_BAD = (CaffeFormatError, ImageError)


def failure(error: BaseException) -> tuple[str, int] | None:
    """The message and the exit status of an error; None for one that is a fault of the program."""
    if isinstance(error, click.ClickException):
        return error.format_message(), WRONG_USE
    for kinds, status in ((_WRONG, WRONG_USE), (_FAILED, CHECK_FAILED), (_BAD, BAD_FILE)):
        if isinstance(error, kinds):
            return _described(error), status
    if isinstance(error, OSError):
        return _described(error), WRONG_USE if error.errno in _NO_PATH_THAT_CAN_BE else CHECK_FAILED
    if isinstance(error, ModuleNotFoundError):
        missing = package_of(error)
        return None if missing is None else (f"this {which_are_missing(missing)}", CHECK_FAILED)
    asked = refused_memory(error)
    return None if asked is None else (f"not enough memory: {asked} asked for", CHECK_FAILED)


def _described(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}".lower() if error.filename == STANDARD_OUTPUT else in_words(error)
    return str(error) or type(error).__name__
