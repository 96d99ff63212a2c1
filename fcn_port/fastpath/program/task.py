"""NativeTask: one step of the C code as a plan has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..native.steps import KINDS, NO_BLOB, native_step
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

    def native(self, offsets: Sequence[int], scratch: int) -> bytes:
        """The step as C has it."""
        n, c, h, w = self.y.size
        _, in_c, in_h, in_w = self.x.size
        settings = {
            "images": n, "in_h": in_h, "in_w": in_w, "in_channels": in_c, "h": h, "w": w, "channels": c,
            "common": scratch, "scratch": scratch + self.common, "scratch_apart": self.scratch, **self.settings,
        }  # fmt: skip
        blobs = [NO_BLOB if each is None else _blob(each, offsets) for each in (self.x, self.y, self.z)]
        return native_step(NUMBER_OF[self.kind], blobs, self.weights.addresses, settings, self.parameters)


def _blob(place: BlobPlace, offsets: Sequence[int]) -> tuple[int, int, int, int]:
    return offsets[place.buffer] + place.offset, *place.steps
