"""Steps as run.c takes them, and a call that runs several."""

from __future__ import annotations

import copy
import ctypes
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .build import library

KINDS = (
    "product", "strassen_1", "strassen_2", "winograd_3", "winograd_3_small", "winograd_5", "winograd_7",
    "winograd_7_pieces", "depthwise", "pool_max", "pool_average", "normalize", "softmax", "pointwise",
    "pool_places", "unpool", "upsample", "pixels", "winograd_3_lean", "move",
    "normalize_within", "unit", "standardize", "resample", "recurrent", "largest",
    "sparse",
    "amx",
)  # fmt: skip
NONE, RELU, LEAKY, PRELU, CLIP, ELU, SIGMOID, TANH, SWISH, HARD_SIGMOID, HARD_SWISH, ABSOLUTE, MISH = range(13)


COUNTERS = 4
"""Ints of `struct phase`."""
COLOURS = 3
"""Channels of an image, for which there is a quick way from planes to pixels."""


def interleave(planes: int, apart: int, count: int, pixels: int) -> None:
    """Write `count` floats of each of three planes at an address, so far apart, as pixels at another one."""
    library().interleave(planes, apart, count, pixels)


class NativeBlob(ctypes.Structure):
    """`struct blob` of step.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("at", "image", "row", "col"))


SIZES = "images", "in_h", "in_w", "in_channels", "h", "w", "channels"
SCRATCH = "common", "scratch", "scratch_apart"
"""Whole numbers that each step has, in the order of the C code: before its settings, and behind them."""
NO_BLOB = (0, 0, 0, 0)
"""For what a step does not read."""
_MORE = [(0.0,) * (4 - given) for given in range(5)]
"""The parameters that there are not, by how many there are."""


class StepSettings(NamedTuple):
    """The window, the activation and the division of a step in the order of the C code; 0 where a kind has none."""

    kernel_h: int = 0
    kernel_w: int = 0
    stride_h: int = 0
    stride_w: int = 0
    top: int = 0
    left: int = 0
    dilation_h: int = 0
    dilation_w: int = 0
    activation: int = NONE
    block: int = 0
    group: int = 0
    shared: int = 0
    stretch: int = 0


class NativeStep(ctypes.Structure):
    """`struct step` of step.h."""

    _fields_ = (
        ("kind", ctypes.c_int64),
        *((name, NativeBlob) for name in ("x", "y", "z")),
        *((name, ctypes.c_void_p) for name in ("kernels", "bias", "slopes")),
        *((name, ctypes.c_int64) for name in (*SIZES, *StepSettings._fields, *SCRATCH)),
        ("parameters", ctypes.c_double * 4),
    )


_STEP = struct.Struct(f"=q{3 * len(NO_BLOB)}q3q{len(SIZES) + len(StepSettings._fields) + len(SCRATCH)}q4d")
assert _STEP.size == ctypes.sizeof(NativeStep)


def native_step(
    kind: int, blobs: Sequence[int], pointers: Sequence[int], sizes: Sequence[int],
    settings: StepSettings, scratch: Sequence[int], parameters: Sequence[float],
) -> bytes:  # fmt: skip
    """A NativeStep's bytes: places of x, y and z, kernels, bias and slopes, SIZES, settings, SCRATCH, and parameters.

    A plan of a small net has a tenth of its time in making steps, twice as much field by field.
    """
    return _STEP.pack(kind, *blobs, *pointers, *sizes, *settings, *scratch, *parameters, *_MORE[len(parameters)])


class NativeSteps:
    """Several steps; `run` may be called by many threads at a time, each with an arena of its own."""

    def __init__(self, steps: Sequence[bytes], *, phases: int) -> None:
        """`phases`: of all steps together."""
        numbers = b"".join(steps)
        self._steps, self._phases = (NativeStep * (len(numbers) // _STEP.size)).from_buffer_copy(numbers), phases
        self._run = library().run

    def then(self, others: NativeSteps | None) -> NativeSteps:
        """These steps and others behind them, handed over together."""
        if others is None:
            return self
        return NativeSteps([bytes(self._steps), bytes(others._steps)], phases=self._phases + others._phases)

    def moved(self, blobs: Iterable[tuple[int, str, int]]) -> NativeSteps:
        """The same steps, some of whose blobs, (step, name, floats), lie so much further on."""
        found = copy.copy(self)
        found._steps = type(self._steps).from_buffer_copy(self._steps)
        for number, name, floats in blobs:
            getattr(found._steps[number], name).at += floats
        return found

    def put(self, number: int, name: str, floats: int) -> None:
        """Have a blob of a step lie so far behind the beginning of the arena: of steps that nobody shares."""
        getattr(self._steps[number], name).at = floats

    def run(self, arena: int, counters: int, threads: int) -> None:
        """Run them over the arena at an address; there are COUNTERS ints at `counters` for each phase."""
        self._run(self._steps, len(self._steps), arena, counters, self._phases, threads)

    def work(self, arena: int, counters: int, number: int) -> None:
        """Go through the steps as the thread of this number; one that comes when all is done writes nothing."""
        library().work(self._steps, len(self._steps), arena, counters, number)
