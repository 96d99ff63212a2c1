"""Kernels that compute a step: convolution and ReLU in one pass, weights packed once, pooling to where it is wanted.

On a CPU wide convolutions go by Winograd's filtering, in C where it can be compiled and in plain PyTorch elsewhere; the
others by what torch.compile calls: oneDNN's convolution with a ReLU behind it and weights in the layout that it wants,
in channels-last. Anywhere else, and where this PyTorch has no such operators, the layers' own functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from converters.layers import conv2d, convolution, pooling

from .graph import Step, is_convolution, is_max_pool, is_upsampling
from .native import NativeConvolution, NativePool, NativeUpsampling, is_by_channel, is_native
from .winograd import WinogradConvolution, is_worth_it

Pair = tuple[int, int]
Choice = Literal["native", "torch", "direct"]
"""The way to compute wide convolutions: our C where it can be, Winograd's filtering in PyTorch, or as they are."""
WIDE, FEW = 1 << 20, 64
"""Weights from which on, and positions below which, a 1x1 convolution is a matrix product."""
Precision = Literal["fp32", "bf16"]


class Kernel(Protocol):
    """One step: (n, c, h, w) to (n, c', h', w'), with its own padding or another one in its place."""

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor: ...


def make_kernel(
    step: Step, blobs: Sequence[Tensor], *, choice: Choice = "direct", dtype: torch.dtype | None = None,
    packed: bool = True,
) -> Kernel:  # fmt: skip
    """The fastest kernel for a step whose layer has these learnable blobs, where they are.

    `choice`: see Choice; the first two round a little more. `dtype`: what the convolutions with a ReLU compute in,
    directly; scores stay in the weights' own type. `packed`: weights in another layout, in memory of their own.
    """
    params = step.params
    in_native = choice == "native" and dtype is None and packed
    if is_upsampling(params):
        upsampling = Upsampling(step, blobs)
        by_channel = in_native and is_by_channel(upsampling.weight, upsampling.stride)
        return NativeUpsampling(upsampling.weight, upsampling.bias, upsampling.stride) if by_channel else upsampling
    is_ours = is_convolution(params) and len(step.bottoms) == 1
    if dtype is not None and not (is_ours and step.relu) and not is_max_pool(params):
        return InFull(make_kernel(step, blobs, choice=choice, packed=packed))
    if is_ours:
        module = convolution_module(step, blobs)
        if dtype == torch.bfloat16 and not multiplies_bfloat16(module.weight.device):
            return RoundedConvolution(step, blobs, choice=choice, packed=packed)
        if not packed:
            return DirectConvolution(module, relu=step.relu, dtype=dtype)
        if in_native and is_native(module.weight):
            return NativeConvolution(module, relu=step.relu)
        if dtype is None and choice != "direct" and module.weight.device.type == "cpu" and is_worth_it(module):
            return WinogradConvolution(module, relu=step.relu)
        if _has_onednn(module.weight, dtype or module.weight.dtype):
            packed_kernel = PackedConvolution(module, relu=step.relu, dtype=dtype)
            if dtype is None and module.kernel_size == (1, 1) and module.weight.numel() >= WIDE:
                return Pointwise(module, packed_kernel, relu=step.relu)
            return packed_kernel
        return DirectConvolution(module, relu=step.relu, dtype=dtype)
    if is_max_pool(params):
        assert isinstance(params, pooling.Pooling)
        if in_native:
            return NativePool(params, Pool(params))
        return HalvingPool() if _halves(params) else Pool(params)
    return Plain(step, blobs)


def convolution_module(step: Step, blobs: Sequence[Tensor]) -> nn.Conv2d:
    """A step that `is_convolution` as PyTorch's module, over the very blobs."""
    params = step.params
    assert isinstance(params, convolution.Convolution)
    kernel, stride, pad, _ = params.along(2)
    module = nn.Conv2d(
        step.channels,
        params.num_output,
        kernel,  # type: ignore[arg-type]
        stride,  # type: ignore[arg-type]
        pad,  # type: ignore[arg-type]
        groups=params.group,
        bias=params.bias,
        device="meta",
    )
    module.weight = nn.Parameter(blobs[0], requires_grad=False)
    if params.bias:
        module.bias = nn.Parameter(blobs[1], requires_grad=False)
    return module


class InFull:
    """A kernel behind others that compute in a smaller type."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        return self._kernel(*(x.float() if x.dtype == torch.bfloat16 else x for x in bottoms), padding=padding)


class Plain:
    """Any layer, as it is, and its ReLU."""

    def __init__(self, step: Step, blobs: Sequence[Tensor]) -> None:
        self._params, self._blobs, self._relu = step.params, list(blobs), step.relu

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        y = self._params.forward(bottoms, self._blobs)[0]
        return y.relu() if self._relu else y


class Upsampling:
    """A deconvolution that `is_upsampling`, of which callers may take a part (`weight`, `bias`, `stride`)."""

    def __init__(self, step: Step, blobs: Sequence[Tensor]) -> None:
        assert isinstance(step.params, convolution.Deconvolution)
        self.weight, self.bias = blobs[0], blobs[1] if step.params.bias else None
        self.stride: Pair = step.params.along(2)[1]  # type: ignore[assignment]

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        return F.conv_transpose2d(bottoms[0].to(self.weight.dtype), self.weight, self.bias, self.stride)


class Pool:
    """Maximum of each window, rounded up or down as the layer does."""

    def __init__(self, params: pooling.Pooling) -> None:
        self._params = params

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        params = self._params
        around = params.pad if padding is None else padding
        return F.max_pool2d(bottoms[0], params.kernel, params.stride, around, ceil_mode=params.ceil)


class DirectConvolution:
    """PyTorch's own convolution, with the ReLU in place."""

    def __init__(self, module: nn.Conv2d, *, relu: bool, dtype: torch.dtype | None) -> None:
        self._module, self._relu = module, relu
        weight = module.weight.detach()
        self._weight = weight.to(dtype=dtype, memory_format=torch.channels_last) if dtype else weight
        self._bias = None if module.bias is None else module.bias.detach().to(self._weight.dtype)

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        (x,) = bottoms
        module = self._module
        padding = module.padding if padding is None else padding  # type: ignore[assignment]
        x = x.to(self._weight.dtype)
        if x.numel() < self._weight.numel():
            x = x.contiguous()  # channels-last would make PyTorch copy the weights, 411 MB in fc6
        y = conv2d(x, self._weight, self._bias, module.stride, padding, (1, 1), module.groups)  # type: ignore[arg-type]
        return y.relu_() if self._relu else y


class PackedConvolution:
    """oneDNN's convolution on channels-last tensors, weights packed once, ReLU applied as results leave registers."""

    def __init__(self, module: nn.Conv2d, *, relu: bool, dtype: torch.dtype | None) -> None:
        self._stride, self._groups, self._padding = list(module.stride), module.groups, module.padding
        self._activation = "relu" if relu else "none"
        weight = module.weight.detach()
        weight = weight.to(dtype=dtype or weight.dtype, memory_format=torch.channels_last)
        self._bias = None if module.bias is None else module.bias.detach().to(weight.dtype)
        likely = [1, module.in_channels, 64, 64]
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight, [0, 0], self._stride, [1, 1], self._groups, likely
        )

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        (x,) = bottoms
        pad = list(self._padding if padding is None else padding)
        x = x.to(self._weight.dtype).contiguous(memory_format=torch.channels_last)
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, pad, self._stride, [1, 1], self._groups, self._activation, [], ""
        )
        return result


class RoundedConvolution:
    """A convolution of blobs and weights rounded to bfloat16, computed in float32, for CPUs without such products.

    There oneDNN refuses bfloat16, and PyTorch's own loops take two hundred times as long as float32 (docs/log.md). A
    product of two bfloat16 numbers is exact in float32, so the rounding is what other processors have.
    """

    def __init__(self, step: Step, blobs: Sequence[Tensor], *, choice: Choice, packed: bool) -> None:
        self._blobs = [blob.detach().bfloat16() for blob in blobs]
        self._make = partial(make_kernel, step, choice=choice, packed=packed)
        self._kept = self._make([blob.float() for blob in self._blobs]) if packed else None
        if packed:
            self._blobs = []

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        kernel = self._kept or self._make([blob.float() for blob in self._blobs])
        return kernel(*(x.bfloat16().float() for x in bottoms), padding=padding).bfloat16()


class Pointwise:
    """A wide 1x1 convolution: a matrix product where there are few positions, as in fc7 of small images.

    oneDNN takes 10 ms for fc7 at 64 positions and 400 at 36 (docs/log.md). `converters.layers.im2col` draws its line
    at 400 positions: there the weights are not packed beforehand, and oneDNN would do it at every call.
    """

    def __init__(self, module: nn.Conv2d, many: Kernel, *, relu: bool) -> None:
        self._many, self._relu = many, relu
        self._stride, self._padding = module.stride, module.padding
        self._weight = module.weight.detach().flatten(1)
        self._bias = None if module.bias is None else module.bias.detach()

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        (x,) = bottoms
        n, _, h, w = x.shape
        padding = self._padding if padding is None else padding  # type: ignore[assignment]
        if n * h * w >= FEW or padding != (0, 0) or self._stride != (1, 1):
            return self._many(x, padding=padding)
        y = F.linear(x.permute(0, 2, 3, 1), self._weight, self._bias).permute(0, 3, 1, 2)
        return y.relu_() if self._relu else y


class HalvingPool:
    """2x2 maximum with stride 2, in two passes that vectorise over channels; an odd last row or column is its own."""

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        (x,) = bottoms
        h, w = x.shape[-2:]
        if x.is_cuda or h < 2 or w < 2:
            return F.max_pool2d(x, 2, stride=2, ceil_mode=True)
        channels_last = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else None
        shape = (*x.shape[:2], -(-h // 2), -(-w // 2))
        layout = channels_last or torch.contiguous_format
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        return self.into(x, out)

    def into(self, x: Tensor, out: Tensor) -> Tensor:
        """Write the result where it is wanted; `out` may be part of a larger buffer."""
        w = x.shape[-1]
        rows = _halve(x, 2)
        torch.maximum(rows[..., 0 : w // 2 * 2 : 2], rows[..., 1::2], out=out[..., : w // 2])
        if w % 2:
            out[..., -1] = rows[..., -1]
        return out


def _halve(x: Tensor, axis: int) -> Tensor:
    """The larger of every two rows; an odd last row stays as it is."""
    h = x.shape[axis]
    pairs = torch.maximum(x[:, :, 0 : h // 2 * 2 : 2], x[:, :, 1::2])
    return torch.cat([pairs, x[:, :, -1:]], dim=axis) if h % 2 else pairs


def _halves(params: pooling.Pooling) -> bool:
    return params.kernel == params.stride == (2, 2) and params.pad == (0, 0) and params.ceil


def multiplies_bfloat16(device: torch.device) -> bool:
    """True for a device where bfloat16 is quick: of CPUs, one for which oneDNN takes it (AVX-512, AVX-NE-CONVERT)."""
    if device.type != "cpu":
        return True
    asked = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(_takes_onednn() and asked is not None and asked())


def _has_onednn(weight: Tensor, dtype: torch.dtype) -> bool:
    return bool(
        weight.device.type == "cpu"
        and dtype in (torch.float32, torch.bfloat16)
        and _takes_onednn()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
    )


def _takes_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled)
