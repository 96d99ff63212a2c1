"""Running the tail of a net: every layer as it is, each blob only as long as somebody still reads it.

One pair of layers is run together: an upsampling and the crop behind it. Only what is kept is computed, a band of rows
at a time, to where it stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nets.parts import CropLike, computes_as
from .graph import Step, is_upsampling
from .kernels import Kernel

BAND_BYTES = 32 << 20
"""The most bytes that a band of upsampled scores may fill."""


def run_tail(
    steps: tuple[Step, ...], outputs: tuple[str, ...], kernels: Mapping[str, Kernel], blobs: dict[str, Tensor]
) -> Any:
    """The outputs of the net, as it returns them, given the blobs that its tail reads."""
    together = _crops_of_upsamplings(steps, outputs)
    for i, step in enumerate(steps):
        bottoms = [blobs[name] for name in step.bottoms]
        if step.top in together:
            blobs[step.top] = bottoms[0]  # the crop takes it from here
        elif step.bottoms[0] in together:
            assert isinstance(step.module, CropLike)
            blobs[step.top] = upsample_and_crop(bottoms[0], together[step.bottoms[0]], step.module.offset, bottoms[1])
        elif step.name in kernels:
            blobs[step.top] = kernels[step.name](*bottoms)
        else:
            blobs[step.top] = step.module(*bottoms)
        del bottoms
        wanted = {*outputs, *(name for later in steps[i + 1 :] for name in later.bottoms)}
        for name in blobs.keys() - wanted:
            del blobs[name]
    if len(outputs) == 1:
        return blobs[outputs[0]].contiguous()
    return {name: blobs[name].contiguous() for name in outputs}


def _crops_of_upsamplings(steps: tuple[Step, ...], outputs: tuple[str, ...]) -> dict[str, nn.ConvTranspose2d]:
    """The upsamplings whose result only a crop reads, by top."""
    found = {}
    for step in steps:
        readers = [each for each in steps if step.top in each.bottoms]
        only_cropped = (
            len(readers) == 1 and computes_as(readers[0].module, CropLike) and readers[0].bottoms[0] == step.top
        )
        if is_upsampling(step.module) and only_cropped and step.top not in outputs:
            found[step.top] = step.module
    return found


def upsample_and_crop(x: Tensor, module: nn.ConvTranspose2d, offset: int, reference: Tensor) -> Tensor:
    """Rows and columns of the upsampled `x` from `offset` on, as many as `reference` has."""
    stride, side = module.stride[0], module.kernel_size[0]
    h, w = reference.shape[-2:]
    has_h, has_w = ((length - 1) * stride + side for length in x.shape[-2:])
    if has_h < offset + h or has_w < offset + w:
        upsampled: Tensor = module(x)
        return upsampled.narrow(-2, offset, h).narrow(-1, offset, w)  # says itself what is wrong
    out = torch.empty(len(x), module.out_channels, h, w, dtype=x.dtype, device=x.device)
    cols = _read(offset, offset + w, stride, side, x.shape[3])
    height = max(stride, BAND_BYTES // (len(x) * module.out_channels * w * x.element_size()))
    for lo in range(0, h, height):
        hi = min(lo + height, h)
        rows = _read(offset + lo, offset + hi, stride, side, x.shape[2])
        band = F.conv_transpose2d(x[:, :, rows, cols], module.weight, module.bias, module.stride)
        top, left = offset + lo - rows.start * stride, offset - cols.start * stride
        out[:, :, lo:hi] = band[:, :, top : top + hi - lo, left : left + w]
    return out


def _read(lo: int, hi: int, stride: int, side: int, length: int) -> slice:
    """The inputs that reach the outputs lo ... hi - 1 of an upsampling."""
    return slice(max(0, -(-(lo - side + 1) // stride)), min((hi - 1) // stride + 1, length))
