"""The small modules that all FCNs share; each stands for one Caffe layer and carries its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from converters.bilinear import bilinear_weight
from converters.net import Shape


class FCN(nn.Module):
    """What every net has, so that `load` can recognise it: its inputs, and how it is made from the shapes in a file."""

    inputs: ClassVar[Mapping[str, int]] = {"data": 3}
    """Channels of each input blob, in the order of `forward`."""

    @classmethod
    def of_shapes(cls, shapes: Mapping[str, Shape]) -> Self:
        """The net whose weights have these shapes, by state dict key; KeyError where a layer is not there."""
        return cls(**cls.settings_of(shapes))

    @classmethod
    def settings_of(cls, shapes: Mapping[str, Shape]) -> dict[str, Any]:
        """The keyword arguments of `__init__` that give weights of these shapes."""
        raise NotImplementedError


def max_pool() -> nn.MaxPool2d:
    """2x2 maximum with stride 2. Caffe rounds sizes up, so that an odd last row has a window of its own."""
    return nn.MaxPool2d(2, stride=2, ceil_mode=True)


class Upsample(nn.ConvTranspose2d):
    """A deconvolution `factor` times as dense, each class by itself at first, without bias or padding.

    The kernel of 2 * factor is bilinear interpolation to begin with. The release never trains it (lr_mult 0), but it
    is an ordinary weight, (classes, classes, k, k), and a stored one is used as it is.
    """

    def __init__(self, channels: int, *, factor: int) -> None:
        super().__init__(channels, channels, kernel_size=2 * factor, stride=factor, bias=False)

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            with torch.no_grad():
                self.weight.copy_(torch.from_numpy(bilinear_weight(tuple(self.weight.shape))))


class Crop(nn.Module):
    """The part of `x` (n, c, h, w) that lies on `reference`: rows and columns from `offset` on, as many as it has.

    Only the spatial axes are cropped (Caffe's Crop with axis 2): the channels of the reference do not matter. Raises
    RuntimeError where the reference reaches past the end.
    """

    def __init__(self, offset: int) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        h, w = reference.shape[-2:]
        return x.narrow(-2, self.offset, h).narrow(-1, self.offset, w)

    def extra_repr(self) -> str:
        return f"offset={self.offset}"


class Sum(nn.Module):
    """Eltwise SUM: adds two scores."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b
