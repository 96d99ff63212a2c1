"""A net's or a solver's prototxt where weights are meant, the commonest mistake of all: told with what to do."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import MismatchError, PrototxtError
from .formats import read_prototxt, sniff
from .formats.prototxt import SolverError


def refuse_definition(path: str | os.PathLike[str]) -> None:
    """MismatchError for a net's definition or a solver, CaffeFormatError for other text of Caffe's; all else passes."""
    if sniff.sniff_file(path) != sniff.TEXT:
        return
    try:
        read_prototxt(path)
    except SolverError as error:
        hint = f"give the weights, a .caffemodel, and --prototxt {error.nets[0] if error.nets else 'NET.prototxt'}"
        raise MismatchError("this is a solver, not weights", path=path, hint=hint) from None
    except PrototxtError:  # not Caffe's, which the reader of weights says
        return
    hint = f"give the weights, and --prototxt {Path(path).name}"
    raise MismatchError("this is a net without weights", path=path, hint=hint)
