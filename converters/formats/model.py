"""CaffeModel: what a file of weights holds, whichever format it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..net.spec import NetSpec
from .blob import FLOAT32

Blobs = Mapping[str, tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class CaffeModel:
    """A net and its learned blobs.

    `spec` is None for a .caffemodel.h5, which holds no net. `blobs` are read-only arrays by layer name, in the file's
    own shapes and types; layers without blobs are not in it. An .h5 leaves out a blob that another layer owns:
    LEFT_OUT keeps its position; `bare` are the layers that it lists without any. `notes` say what a reader should know
    of the file.
    """

    spec: NetSpec | None
    blobs: Blobs
    path: str | None = None
    notes: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()


LEFT_OUT = np.empty(0, FLOAT32)
"""Stands for a blob that the file leaves to another layer; no blob of a net has no values."""
LEFT_OUT.flags.writeable = False


def is_left_out(blob: np.ndarray) -> bool:
    """True for what only keeps the place of a blob that is not in the file."""
    return bool(blob.shape == LEFT_OUT.shape)
