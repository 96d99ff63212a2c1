"""MergeCrop of the U-Nets of naibaf7's fork of Caffe (src/caffe/layers/mergecrop_layer.cpp and .cu)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..net.reach import EVERYTHING, PIXEL, Reach
from .base import Layer, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand


@register_layer("MergeCrop")
@dataclass(frozen=True)
class MergeCrop(Layer):
    """The first bottom and the middle of the second, as large as the first, stacked as channels (STACK) or added (ADD).

    What goes beyond an even border is cut at the end. A bottom whose `forward` is 0 counts as zeros. Both bottoms must
    have as many channels: for others the source's kernel, CopyForwardStack, takes the channels round and round.
    """

    add: bool
    counts: tuple[bool, bool]

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> MergeCrop:
        message = fork_message(spec, "mergecrop_param")
        kind = message.word("operation", "STACK")
        if kind not in ("STACK", "ADD", "0", "1"):
            raise refuse(spec, f"operation is {kind}; expected STACK or ADD")
        forward = message.integers("forward")
        if len(forward) > 2:
            raise refuse(spec, f"forward is given {len(forward)} times for two bottoms")
        counts = tuple(bool(each) for each in (*forward, *(1, 1)[len(forward) :]))
        return cls(kind in ("ADD", "1"), (counts[0], counts[1]))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        small, large = bottoms
        if len(small) < 3 or len(small) != len(large) or small[:2] != large[:2]:
            raise ValueError("expected two bottoms (n, c, ...) with as many items and channels")
        if any(a > b for a, b in zip(small[2:], large[2:], strict=True)):
            raise ValueError("the first bottom must not be larger than the second")
        return (small if self.add else (small[0], 2 * small[1], *small[2:]),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING if bottom else PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0] if self.add else sum(bottoms),)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        small, middle = bottoms
        for axis in range(2, small.ndim):
            middle = middle.narrow(axis, (middle.shape[axis] - small.shape[axis]) // 2, small.shape[axis])
        parts = [x if counts else torch.zeros_like(x) for x, counts in zip((small, middle), self.counts, strict=True)]
        return (parts[0] + parts[1] if self.add else torch.cat(parts, 1),)

    def to_onnx(self, out: OnnxLayer) -> None:
        small, large = out.bottoms
        axes = range(2, len(small.shape))
        size, room = out.size(small, axes), out.size(large, axes)
        start = (room - size) // 2
        parts: list[Operand] = [small, out.slice(large, axes, start, start + size, part="middle")]
        for place, counts in enumerate(self.counts):
            if not counts:
                parts[place] = out.node("Mul", [parts[place], out.constant("zero", np.float32(0))], part=f"none{place}")
        if self.add:
            out.top("Add", parts)
        else:
            out.top("Concat", parts, axis=1)
