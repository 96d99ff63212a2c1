"""CaffeModel: what a file of weights holds, whichever format it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..given import refuse_other_than
from ..net.parameter_sharing import borrowed_blobs
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


def with_lent(blobs: Mapping[str, Sequence[np.ndarray]], spec: NetSpec) -> Blobs:
    """The blobs, and each that a file leaves to another layer of the net as the one that this layer owns.

    One of another shape (share_mode: PERMISSIVE) stays left out, for its shape is not known here.
    """
    borrowed, found = borrowed_blobs(spec), {name: tuple(own) for name, own in blobs.items()}
    layers = {layer.name: layer for layer in spec.layers} if borrowed else {}
    for (name, position), (owner, place) in borrowed.items():
        lent, own = found.get(owner, ())[place : place + 1], found.get(name, ())
        own += (LEFT_OUT,) * (position + 1 - len(own))
        if lent and is_left_out(own[position]) and not layers[name].message.param[position].share_mode:
            found[name] = (*own[:position], *lent, *own[position + 1 :])
    return found


def refuse_no_model(given: object) -> None:
    """TypeError where `given` is no CaffeModel."""
    refuse_other_than(CaffeModel, given, "a CaffeModel, as read_caffemodel gives it")
