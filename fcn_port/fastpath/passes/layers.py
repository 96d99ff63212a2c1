"""A layer on a tape, by its native kernel or by its own function; and what is known of blobs without the image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor

from ..background import Background
from ..geometry import Rect
from ..kernels import Kernel
from ..native.division import SPARE
from ..native.memory import Floats
from ..native.tape import NativeKernel, Tape
from ..program.places import BlobPlace


def record(
    tape: Tape, kernel: Kernel, bottoms: Sequence[BlobPlace], top: BlobPlace, *, pad: tuple[int, int] | None = None,
    threads: int,
) -> None:  # fmt: skip
    """Add a layer that writes `top`; its first window begins `pad` rows and columns before the bottom."""
    if isinstance(kernel, NativeKernel):
        tape.add(*kernel.tasks(bottoms[0], top, pad=pad, threads=threads))
    else:
        tape.call(kernel if pad is None else partial(kernel, padding=(0, 0)), bottoms, top)


class Fills:
    """The response to an empty image, of which parts are written to blobs."""

    def __init__(self, background: Background, *, images: int) -> None:
        self._images = images
        self._constants = {name: _with_room(values) for name, values in background.constants.items()}
        self._channels = {name: values.shape[1] for name, values in background.constants.items()}
        self._whole = {name: (values.shape, _with_room(values)) for name, values in background.cut.items()}

    def channels(self, name: str) -> int:
        """The channels of a blob."""
        return self._channels[name]

    def write(self, tape: Tape, name: str, part: Rect, to: BlobPlace) -> None:
        """Add a step that writes a part of a blob: of one at the cut as its edges are, of others the constants."""
        if name not in self._whole:
            tape.copy(tape.outside(to.shape, (0, 1, 0, 0), self._constants[name]), to)
            return
        (_, c, h, w), memory = self._whole[name]
        whole = tape.outside((self._images, c, h, w), (0, 1, w * c, c), memory)
        tape.copy(whole.narrow(2, part.rows.lo, part.rows.size).narrow(3, part.cols.lo, part.cols.size), to)


def _with_room(blob: Tensor) -> Floats:
    """One image's pixels with channels side by side, and room behind the last for a vector that is read."""
    pixels = blob[0].permute(1, 2, 0).numpy()
    found = np.zeros(pixels.size + SPARE, np.float32)
    found[: pixels.size] = pixels.ravel()
    return found
