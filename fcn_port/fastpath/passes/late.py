"""Recording the late layers of a net: every layer as it is, each blob only as long as somebody still reads it.

One pair of layers is run together: an upsampling and the crop behind it, of which only what is kept is computed.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from converters.layers import crop, eltwise
from converters.net import Shape

from ..graph import Step
from ..kernels import Kernel, Upsampling
from ..late import crops, crops_of_upsamplings, upsample_and_crop
from ..native.tape import Tape
from ..program.places import BlobPlace
from .layers import record


class LateTape:
    """Steps on a tape that make the outputs from blobs at these places."""

    def __init__(
        self, tape: Tape, steps: tuple[Step, ...], outputs: tuple[str, ...], kernels: Mapping[str, Kernel],
        shapes: Mapping[str, Shape], blobs: Mapping[str, BlobPlace], *, threads: int,
    ) -> None:  # fmt: skip
        self._tape, self._steps, self._kernels, self._shapes, self._threads = tape, steps, kernels, shapes, threads
        self._blobs = dict(blobs)
        self._outputs = {name: tape.outside(shapes[name], _contiguous(shapes[name])) for name in outputs}
        self._read = {name for step in steps for name in step.bottoms}

    def record(self) -> dict[str, BlobPlace]:
        """Add all steps; the outputs, which lie outside of the arena."""
        together = crops_of_upsamplings(self._steps, tuple(self._outputs))
        for step in self._steps:
            if step.top in together:
                self._blobs[step.top] = self._blobs[step.bottoms[0]]  # the crop takes it from here
            elif step.bottoms[0] in together:
                self._enlarge(step, self._kernels[step.bottoms[0]])
            else:
                self._blobs[step.top] = self._plain(step)
        for name, place in self._outputs.items():
            if self._blobs[name] != place:
                self._tape.call(_as_it_is, [self._blobs[name]], place)
        return self._outputs

    def _plain(self, step: Step) -> BlobPlace:
        """The top of a step: a part of its bottom, or a blob of its own."""
        shape = self._shapes[step.top]
        if crops(step):
            assert isinstance(step.params, crop.Crop)
            rows, cols = (step.params.offset_along(axis) for axis in (2, 3))
            return self._blobs[step.bottoms[0]].narrow(2, rows, shape[2]).narrow(3, cols, shape[3])
        bottoms, top, params = [self._blobs[name] for name in step.bottoms], self._tape.new(shape), step.params
        if type(params) is eltwise.Eltwise and params.operation == "SUM" and params.coefficients == (1, 1):
            self._tape.copy(bottoms[0], top, added=bottoms[1])
        else:
            record(self._tape, self._kernels[step.top], bottoms, top, threads=self._threads)
        return top

    def _enlarge(self, step: Step, kernel: Kernel) -> None:
        """The part of an upsampling that a crop keeps, straight to where an output lies."""
        assert isinstance(step.params, crop.Crop)
        offset = step.params.offset_along(2), step.params.offset_along(3)
        bottom, shape = self._blobs[step.bottoms[0]], self._shapes[step.top]
        is_output = step.top in self._outputs and step.top not in self._read
        top = self._outputs[step.top] if is_output else self._tape.new(shape)
        if isinstance(kernel, Upsampling):
            size = shape[2], shape[3]
            self._tape.call(lambda x: upsample_and_crop(x, kernel, offset, size), [bottom], top)
        else:
            record(self._tape, kernel, [bottom], top, pad=offset, threads=self._threads)
        self._blobs[step.top] = top


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _contiguous(shape: Shape) -> Shape:
    _, c, h, w = shape
    return c * h * w, h * w, w, 1
