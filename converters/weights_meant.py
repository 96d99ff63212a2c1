"""A prototxt where weights are meant, the commonest mistake of all: told with what to do."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import MismatchError, PrototxtError
from .formats import read_prototxt, sniff


def refuse_definition(path: str | os.PathLike[str]) -> None:
    """MismatchError for a net's definition, CaffeFormatError for other text of Caffe's; anything else passes."""
    if sniff.sniff_file(path) != sniff.TEXT:
        return
    try:
        read_prototxt(path)
    except PrototxtError:  # not Caffe's, which the reader of weights says
        return
    hint = f"give the weights, and --prototxt {Path(path).name}"
    raise MismatchError("this is a net without weights", path=path, hint=hint)
