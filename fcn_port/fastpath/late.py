"""Running the late layers of a net: every layer as it is, each blob only as long as somebody still reads it.

One pair of layers is run together: an upsampling and the crop behind it. Only what is kept is computed, a band of rows
at a time, to where it stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from converters.layers import convolution, crop

from .graph import Step, is_convolution, is_upsampling
from .kernels import Kernel, Upsampling

BAND_BYTES = 32 << 20
"""The most bytes that a band of upsampled scores may fill."""


def run_late(
    steps: tuple[Step, ...], outputs: tuple[str, ...], kernels: Mapping[str, Kernel], blobs: dict[str, Tensor]
) -> Any:
    """The outputs of the net, as it returns them, given the blobs that its late layers read."""
    together = crops_of_upsamplings(steps, outputs)
    for i, step in enumerate(steps):
        bottoms = [blobs[name] for name in step.bottoms]
        if step.top in together:
            blobs[step.top] = bottoms[0]  # the crop takes it from here
        elif step.bottoms[0] in together:
            kernel = kernels[step.bottoms[0]]
            assert isinstance(kernel, Upsampling) and isinstance(step.params, crop.Crop)
            offset = step.params.offset_along(2), step.params.offset_along(3)
            blobs[step.top] = upsample_and_crop(bottoms[0], kernel, offset, bottoms[1].shape[-2:])
        else:
            if is_convolution(step.params):
                bottoms[0] = convolution.reached(step.params, bottoms[0], 2)  # type: ignore[arg-type]
            blobs[step.top] = kernels[step.top](*bottoms)
        del bottoms
        wanted = {*outputs, *(name for later in steps[i + 1 :] for name in later.bottoms)}
        for name in blobs.keys() - wanted:
            del blobs[name]
    if len(outputs) == 1:
        return blobs[outputs[0]].contiguous()
    return {name: blobs[name].contiguous() for name in outputs}


def crops_of_upsamplings(steps: tuple[Step, ...], outputs: tuple[str, ...]) -> frozenset[str]:
    """The tops of the upsamplings whose result only a crop reads."""
    found = set()
    for step in steps:
        readers = [each for each in steps if step.top in each.bottoms]
        only_cropped = len(readers) == 1 and crops(readers[0]) and readers[0].bottoms[0] == step.top
        if is_upsampling(step.params) and only_cropped and step.top not in outputs:
            found.add(step.top)
    return frozenset(found)


def crops(step: Step) -> bool:
    """True where a step crops height and width."""
    return type(step.params) is crop.Crop and step.params.axis % 4 == 2


def upsample_and_crop(x: Tensor, kernel: Upsampling, offset: tuple[int, int], size: Sequence[int]) -> Tensor:
    """Rows and columns of the upsampled `x` from `offset` on, as many as `size` says."""
    (stride_h, stride_w), (_, features, side_h, side_w) = kernel.stride, kernel.weight.shape
    h, w = size
    x = x.to(kernel.weight.dtype)
    out = torch.empty(len(x), features, h, w, dtype=x.dtype, device=x.device)
    cols = _read(offset[1], offset[1] + w, stride_w, side_w, x.shape[3])
    height = max(stride_h, BAND_BYTES // (len(x) * features * w * x.element_size()))
    for lo in range(0, h, height):
        hi = min(lo + height, h)
        rows = _read(offset[0] + lo, offset[0] + hi, stride_h, side_h, x.shape[2])
        band = F.conv_transpose2d(x[:, :, rows, cols], kernel.weight, kernel.bias, kernel.stride)
        top, left = offset[0] + lo - rows.start * stride_h, offset[1] - cols.start * stride_w
        out[:, :, lo:hi] = band[:, :, top : top + hi - lo, left : left + w]
    return out


def _read(lo: int, hi: int, stride: int, side: int, length: int) -> slice:
    """The inputs that reach the outputs lo ... hi - 1 of an upsampling."""
    return slice(max(0, -(-(lo - side + 1) // stride)), min((hi - 1) // stride + 1, length))
