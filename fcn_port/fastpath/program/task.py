"""NativeTask: one step of the C code as a plan has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..native.steps import KINDS, NO_BLOB, native_step
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
    settings: Mapping[str, int]
    scratch: int = 0
    """Floats of scratch for each thread."""
    common: int = 0
    """Floats of scratch before those, for all threads."""
    parameters: tuple[float, ...] = ()
    phases: int = 1

    def native(self, offsets: Sequence[int], scratch: int) -> bytes:
        """The step as C has it."""
        n, c, h, w = self.y.size
        _, in_c, in_h, in_w = self.x.size
        blobs = [
            NO_BLOB if each is None else (offsets[each.buffer] + each.offset, *each.steps)
            for each in (self.x, self.y, self.z)
        ]
        return native_step(
            NUMBER_OF[self.kind], blobs, self.weights.addresses, (n, in_h, in_w, in_c, h, w, c), self.settings,
            (scratch, scratch + self.common, self.scratch), self.parameters,
        )  # fmt: skip
