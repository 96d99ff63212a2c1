"""NativeTask: one step of the C code as a plan has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..native.memory import address
from ..native.steps import KINDS, NativeBlob, NativeStep
from .places import BlobPlace
from .weights import Packed

NUMBER_OF = {kind: number for number, kind in enumerate(KINDS)}
"""Of a step's kind, as the C code has it."""


@dataclass(frozen=True)
class NativeTask:
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

    def native(self, offsets: Sequence[int], scratch: int) -> NativeStep:
        """The step as C has it."""
        n, c, h, w = self.y.size
        _, in_c, in_h, in_w = self.x.size
        step = NativeStep(
            kind=NUMBER_OF[self.kind], x=_blob(self.x, offsets), y=_blob(self.y, offsets),
            images=n, in_h=in_h, in_w=in_w, in_channels=in_c, h=h, w=w, channels=c,
            common=scratch, scratch=scratch + self.common, scratch_apart=self.scratch, **self.settings,
        )  # fmt: skip
        if self.z is not None:
            step.z = _blob(self.z, offsets)
        if self.weights.kernels is not None:
            step.kernels = address(self.weights.kernels)
        if self.weights.bias is not None:
            step.bias = address(self.weights.bias)
        if self.weights.slopes is not None:
            step.slopes = address(self.weights.slopes)
        if self.parameters:
            step.parameters[: len(self.parameters)] = self.parameters
        return step


def _blob(place: BlobPlace, offsets: Sequence[int]) -> NativeBlob:
    return NativeBlob(offsets[place.buffer] + place.offset, *place.steps)
