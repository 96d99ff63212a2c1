"""Weights in the order in which the C code reads them."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ..winograd import FORMS
from . import build
from .division import up
from .memory import Slabs


class NativeWeights(ctypes.Structure):
    """`struct unpacked` of packing.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "factors")),
        *((name, ctypes.c_int64) for name in ("features", "length")),
        ("room", ctypes.c_void_p),
    )


def pack(weight: Tensor, kernel: str, slabs: Slabs, *, factors: Tensor | None = None) -> Tensor:
    """(features, channels, h, w) as a kernel of the C code wants them, in memory of `slabs`.

    `factors`: one for each feature, in double precision; what they make of the weights is rounded once.
    """
    library, threads = build.library(), torch.get_num_threads()
    (features, channels), length = weight.shape[:2], weight[0].numel()
    levels = int(kernel[-1]) if kernel.startswith("strassen") else 0
    wide = 2**levels * library.panel()
    if kernel in FORMS:
        floats = build.POINTS_OF[kernel] ** 2 * up(features, wide) * channels
    else:
        floats = 7**levels * up(features, wide) * length // 4**levels
    packed, room = slabs.take(floats), torch.empty(threads * wide * length)
    weight, factors = weight.contiguous(), None if factors is None else factors.contiguous()
    numbers = None if factors is None else factors.data_ptr()
    unpacked = NativeWeights(weight.data_ptr(), numbers, features, length, room.data_ptr())
    getattr(library, f"pack_{kernel}")(ctypes.byref(unpacked), channels, threads, packed.data_ptr())
    return packed
