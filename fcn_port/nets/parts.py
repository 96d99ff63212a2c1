"""The small modules that all FCNs share; each stands for one Caffe layer and carries its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from converters.layers import bilinear_weight, conv2d, lrn_across_channels
from converters.lazy import lazy_attributes


def computes_as(module: nn.Module, kind: type[nn.Module]) -> bool:
    """True for a layer of this kind that has its `forward`: one of a subclass, or put into it, may do otherwise."""
    if not isinstance(module, kind) or vars(module).keys() & _COMPUTING:
        return False
    own = {name: getattr(type(module), name, None) for name in _COMPUTING}
    return any(own == {name: getattr(each, name, None) for name in _COMPUTING} for each in (kind, Conv))


_COMPUTING = frozenset({"forward", "_conv_forward", "_output_padding"})
"""The methods of PyTorch's layers that say what is computed."""


class Conv(nn.Conv2d):
    """nn.Conv2d, whose heavy kernels with few windows are matrix products (`converters.layers.im2col`)."""

    def forward(self, input: Tensor) -> Tensor:
        if torch.jit.is_scripting() or isinstance(self.padding, str) or self.padding_mode != "zeros":
            output: Tensor = self._conv_forward(input, self.weight, self.bias)
            return output
        else:  # noqa: RET505 - or torch.jit.script would read it
            return conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def max_pool(size: int = 2, *, stride: int = 2, padding: int = 0) -> nn.MaxPool2d:
    """The maximum of each window. Caffe rounds sizes up, so that an odd last row has a window of its own."""
    return nn.MaxPool2d(size, stride=stride, padding=padding, ceil_mode=True)


class Part(nn.Module):
    """A module for a layer that PyTorch has none for; it says Caffe's definition of what its `forward` computes."""

    def describe(self, message: Any) -> None:
        """Write the layer's type and settings into a LayerParameter that has its name, bottoms and top."""
        raise NotImplementedError


class ResponseNorm(Part):
    """x / (k + alpha * mean of x^2 over `size` neighbouring channels)^beta; channels that are not there count as 0.

    Local response normalization as AlexNet and GoogLeNet have it. alpha multiplies the mean, not the sum. The sum of
    shifted channels takes half the time of nn.LocalResponseNorm, which pools in three dimensions.
    """

    def __init__(self, size: int = 5, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        return lrn_across_channels(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"

    def describe(self, message: Any) -> None:
        message.type, param = "LRN", message.lrn_param
        param.local_size, param.alpha, param.beta, param.k = self.size, self.alpha, self.beta, self.k


class BilinearUpsample(nn.ConvTranspose2d):
    """A deconvolution `factor` times as dense, each class by itself at first, without bias or padding.

    The kernel, of 2 * factor unless another size is given, is bilinear interpolation to begin with. The release never
    trains it (lr_mult 0), but it is an ordinary weight, (classes, classes, k, k), and a stored one is used as it is.
    """

    def __init__(self, channels: int, *, factor: int, kernel_size: int | None = None) -> None:
        super().__init__(channels, channels, kernel_size or 2 * factor, stride=factor, bias=False)

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            with torch.no_grad():
                self.weight.copy_(torch.from_numpy(bilinear_weight(tuple(self.weight.shape))))


class CropLike(Part):
    """The part of `x` (n, c, h, w) that lies on `reference`: rows and columns from `offset` on, as many as it has.

    Only the spatial axes are cropped (Caffe's Crop with axis 2): the channels of the reference do not matter. Raises
    RuntimeError where the reference reaches past the end.
    """

    def __init__(self, offset: int) -> None:
        super().__init__()
        self.offset = offset

    if TYPE_CHECKING:

        def __call__(self, x: Tensor, reference: Tensor) -> Tensor: ...

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        h, w = reference.shape[-2:]
        return x.narrow(-2, self.offset, h).narrow(-1, self.offset, w)

    def extra_repr(self) -> str:
        return f"offset={self.offset}"

    def describe(self, message: Any) -> None:
        message.type, message.crop_param.axis = "Crop", 2
        message.crop_param.offset.append(self.offset)


class Sum(Part):
    """Eltwise SUM: adds two scores, each times its coefficient if there are any."""

    def __init__(self, *coefficients: float) -> None:
        super().__init__()
        self.coefficients = coefficients

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if not self.coefficients:
            return a + b
        first, second = self.coefficients
        return first * a + second * b

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.coefficients))

    def describe(self, message: Any) -> None:
        message.type, message.eltwise_param.operation = "Eltwise", 1  # SUM
        message.eltwise_param.coeff.extend(self.coefficients)


class ChannelScale(Part):
    """Multiplies every channel of (n, c, h, w) by its weight (c,), which is `value` to begin with.

    The release never trains it (lr_mult 0).
    """

    def __init__(self, channels: int, value: float) -> None:
        super().__init__()
        self.value = value
        self.weight = nn.Parameter(torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None]

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, {self.value}"

    def describe(self, message: Any) -> None:
        message.type, filler = "Scale", message.scale_param.filler
        message.param.add(lr_mult=0)
        filler.type, filler.value = "constant", self.value


class ConcatChannels(Part):
    """Puts the channels of its inputs one after the other."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=1)

    def describe(self, message: Any) -> None:
        message.type = "Concat"


__getattr__, __dir__ = lazy_attributes(
    __name__,
    {},
    renamed={
        "Concat": "ConcatChannels",
        "Convolution": "Conv",
        "Crop": "CropLike",
        "LRN": "ResponseNorm",
        "Scale": "ChannelScale",
        "Upsample": "BilinearUpsample",
    },
)
