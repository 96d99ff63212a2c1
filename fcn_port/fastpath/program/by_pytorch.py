"""A layer for which there is no native kernel, by its own function."""

from __future__ import annotations

from collections.abc import Sequence

from converters.execution import check_fit, indices_within
from converters.layers import lent
from converters.lazy import import_or_say

from ..flow import FlowLayer
from ..native.lent import LENT
from ..native.memory import Floats

MOST_AXES = 4
"""Of images."""


def by_pytorch(part: FlowLayer, bottoms: Sequence[Floats], blobs: Sequence[Floats]) -> list[Floats]:
    """The tops of a layer by its own function; PyTorch is imported for it, where nobody has done so yet."""
    torch = import_or_say("torch", f"{part.place}, for which there is no native kernel,")
    check_fit(part.place, part.params, *([each.shape for each in arrays] for arrays in (bottoms, blobs)))
    in_full = torch.autocast("cpu", enabled=False)  # the kernels before and after have float32
    with torch.no_grad(), in_full, indices_within(part.place), lent.computed_by(LENT):
        tensors = [torch.from_numpy(in_order(each)) for each in (*bottoms, *blobs)]
        tops = part.params.forward(tensors[: len(bottoms)], tensors[len(bottoms) :])
    return [top.numpy() for top in tops]


def in_order(array: Floats) -> Floats:
    """An array that may be written to, and whose strides say so where its numbers lie in order.

    Those of an axis of length 1 may be any: one channel's look to PyTorch like channels side by side, whose maxima
    it takes twelve times as long for. Volumes with channels side by side are copied: a convolution over volumes of
    one row and one column, padded and dilated, crashed in PyTorch 2.13.
    """
    array = array if array.flags.writeable else array.copy()
    if array.flags.c_contiguous or array.ndim > MOST_AXES:
        return array.ravel().reshape(array.shape)
    return array
