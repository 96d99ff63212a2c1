"""A file that is opened for reading: a regular one, so that no reader waits for a pipe or takes a folder for a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from ..errors import CaffeFormatError
from ..given import path_of


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; FileNotFoundError where there is none, CaffeFormatError for a folder or pipe."""
    place = path_of(path)
    try:
        mode = place.stat().st_mode
        if not stat.S_ISREG(mode):
            what, inside = "a folder" if stat.S_ISDIR(mode) else "not a regular file", Path(place, "model.safetensors")
            hint = f"the weights in it are {inside}" if inside.is_file() else None
            raise CaffeFormatError(f"this is {what}; expected a file", path=path, hint=hint)
        return place.open("rb")
    except PermissionError as error:
        raise CaffeFormatError("the file may not be read", path=path, hint="check its permissions") from error
