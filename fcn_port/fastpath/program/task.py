"""NativeTask: one step of the C code as a plan has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..native.steps import KINDS, NO_BLOB, StepSettings, native_step
from .places import BlobPlace
from .weights import Packed

NUMBER_OF = {kind: number for number, kind in enumerate(KINDS)}
"""Of a step's kind, as the C code has it."""


class NativeTask(NamedTuple):
    """A step whose places are not known to their last number yet: where buffers lie is decided when all are there."""

    kind: str
    x: BlobPlace
    y: BlobPlace
    z: BlobPlace | None
    weights: Packed
    settings: StepSettings
    scratch: int = 0
    """Floats of scratch for each thread."""
    common: int = 0
    """Floats of scratch before those, for all threads."""
    parameters: tuple[float, ...] = ()
    phases: int = 1

    def native(self, offsets: Sequence[int], scratch: int) -> bytes:
        """The step as C has it."""
        x, y, z = self.x, self.y, self.z
        n, c, h, w = y.size
        _, in_c, in_h, in_w = x.size
        added = NO_BLOB if z is None else (offsets[z.buffer] + z.offset, *z.steps)
        blobs = offsets[x.buffer] + x.offset, *x.steps, offsets[y.buffer] + y.offset, *y.steps, *added
        return native_step(
            NUMBER_OF[self.kind], blobs, self.weights.addresses, (n, in_h, in_w, in_c, h, w, c), self.settings,
            (scratch, scratch + self.common, self.scratch), self.parameters,
        )  # fmt: skip
