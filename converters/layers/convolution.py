"""Convolution, Deconvolution and Im2col (base_conv_layer.cpp, conv_layer.cpp, deconv_layer.cpp, im2col_layer.cpp).

The bottom is (n, c, h, w); with `axis` and other ranks, any leading axes, channels, and any number of spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..net.layer import LayerSpec
from ..net.onnx_form import CLASSIC, OPENCV
from ..net.python_form import Form, NoFormError, call, numbers, unless
from ..net.reach import NOTHING, Reach, Transposed, Window
from .base import LARGEST, Layer, OneToOne, canonical_axis, image_axis, refuse, register_layer
from .fork import fork_fields
from .im2col import columns, conv2d
from .opencv_onnx import deconvolved_row, kernel_with_zeros, of_a_row
from .padded import Around, PaddedConvolution, PaddedDeconvolution, Steps, read_around
from .windows import Windows

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import Shape
    from ..net.onnx_form import OnnxLayer, OnnxValue, Operand, Sizes
    from ..net.python_form import Site


MOST_COPIES = 1 << 26
"""Numbers of the constant with which ONNX does an Im2col."""
SPATIAL = (1, 2, 3)
"""Numbers of spatial axes that PyTorch and ONNX's runtimes have convolutions for."""


@register_layer("Convolution", "DepthwiseConvolution")
@dataclass(frozen=True)
class Convolution(Windows, Layer):
    """out[o] = bias[o] + sum over i of weight[o, i] correlated with bottom[i]; blobs (O, I/group, kh, kw), (O,)."""

    num_output: int
    group: int
    bias: bool
    axis: int = 1

    blob_ranks: ClassVar[tuple[int, ...]] = (4, 1)
    onnx_operator: ClassVar[str] = "Conv"
    bottom_count: ClassVar[tuple[int, float]] = (1, inf)
    top_count: ClassVar[tuple[int, float]] = (1, inf)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        message = spec.message.convolution_param
        if not message.num_output:
            hint = "write convolution_param { num_output: N }; a message of another name is not read"
            raise refuse(spec, "num_output is missing or 0", hint=hint)
        if message.group < 1 or message.num_output % message.group:
            raise refuse(spec, f"num_output {message.num_output} is not a multiple of group {message.group}")
        if len(spec.bottoms) != len(spec.tops):
            raise refuse(spec, f"{len(spec.bottoms)} bottoms but {len(spec.tops)} tops; each bottom has its top")
        layer = cls(
            **Windows.read(spec),
            num_output=message.num_output,
            group=message.group,
            bias=message.bias_term,
            axis=message.axis,
        )
        around = read_around(spec, fork_fields(spec, "convolution_param"), plain=max(layer.pad) > 0)
        return layer if around is None else layer._padded_apart(spec, around)

    def _padded_apart(self, spec: LayerSpec, around: Around) -> Layer:
        """This convolution with pads of Synopsys' fork."""
        if len(self.kernel) != 2 or len(spec.bottoms) != 1 or self.axis != 1:
            raise refuse(spec, "pads of their own on each side are for one bottom (n, c, h, w)")
        kernel, stride, _, dilation = self.along(2)
        steps = Steps(*((values[0], values[1]) for values in (kernel, stride, dilation)))
        return PaddedConvolution(replace(self, pad=(0, 0)), steps, around)

    def _parts(self, shape: Shape) -> tuple[Shape, int, Shape]:
        """The leading axes, the channels and the spatial axes of a blob."""
        axis = canonical_axis(self.axis, shape)
        return shape[:axis], shape[axis], shape[axis + 1 :]

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        parts = list(map(self._parts, bottoms))
        if len(parts) > 1 and len({(channels, len(size)) for _, channels, size in parts}) > 1:
            raise ValueError("bottoms with different numbers of channels or axes share one weight")
        return tuple([(*leading, self.num_output, *self._resize(size)) for leading, _, size in parts])

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        _, channels, size = self._parts(bottoms[0])
        if channels % self.group:
            raise ValueError(f"{channels} channels are not a multiple of group {self.group}")
        weight = (*self._weight_shape(channels), *self.along(len(size))[0])
        return (weight, (self.num_output,)) if self.bias else (weight,)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        if image_axis(self.axis) != 1 or len(self.kernel) != 2 or self.given not in (0, 2):
            return None
        return Window(*self.along_axis(axis)) if bottom == top else NOTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (self.num_output,) * len(bottoms) if image_axis(self.axis) == 1 else None

    def _resize(self, size: Shape) -> Shape:
        return self.shrink(size)

    def _weight_shape(self, channels: int) -> tuple[int, int]:
        return self.num_output, channels // self.group

    def filler_fields(self) -> tuple[str, ...]:
        return "convolution_param.weight_filler", "convolution_param.bias_filler"

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return self._macs(bottoms, places=tops)

    def _macs(self, bottoms: Sequence[Shape], *, places: Sequence[Shape]) -> int:
        """The whole weight is used once at each place of `places`."""
        weight = prod(self.blob_shapes(bottoms)[0])
        return sum(weight * prod(leading) * prod(size) for leading, _, size in map(self._parts, places))

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        weight, bias = blobs[0], blobs[1] if self.bias else None
        return tuple(self._convolve(x, weight, bias) for x in bottoms)

    def to_onnx(self, out: OnnxLayer) -> None:
        for index in range(len(out.bottoms)):
            self._onnx_of(out, index)

    def _onnx_of(self, out: OnnxLayer, index: int) -> None:
        x, kind = out.bottoms[index], type(self).onnx_operator
        start = canonical_axis(self.axis, x.shape)
        axes = range(start + 1, len(x.shape))
        if len(axes) not in SPATIAL:
            raise out.refuse(f"a {type(self).__name__} over {len(axes)} axes")
        (kernel, stride), dilation = self.along(len(axes))[:2], self.apart(len(axes))
        pads = _onnx_pads(self, x, axes)
        window: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": pads, "dilations": dilation}
        row = kind == "ConvTranspose" and len(axes) == 1 and out.target in OPENCV
        window = of_a_row(window) if row else window
        weights = self._onnx_weights(out, window)
        if start == 1 and row:
            deconvolved_row(out, [x, *weights], self.num_output, index=index, group=self.group, **window)
            return
        if start == 1:
            out.top(kind, [x, *weights], index=index, group=self.group, **window)
            return
        images = out.reshape(x, [-1, out.size(x, (start,)), *[1] * row, out.size(x, axes)], part="images")
        top = out.node(kind, [images, *weights], part="convolved", group=self.group, **window)
        size = self._onnx_size(out.size(x, axes))
        out.reshape(top, [out.size(x, range(start)), self.num_output, size], index=index)

    def padded_to_onnx(self, out: OnnxLayer, x: Operand = None, **padding: Any) -> None:
        """The form for one image, or for `x` in its place, with ONNX's own settings for the padding."""
        kernel, stride, _, dilation = self.along(2)
        window: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "dilations": dilation, **padding}
        weights = self._onnx_weights(out, window)
        out.top(self.onnx_operator, [out.bottoms[0] if x is None else x, *weights], group=self.group, **window)

    def _onnx_weights(self, out: OnnxLayer, window: dict[str, Any]) -> list[str]:
        """The blobs; where they take the dilation upon them, `window` has none any more."""
        holes = self.onnx_operator == "ConvTranspose" and out.target == CLASSIC and max(window["dilations"]) > 1
        shape = (*out.blob_shape(0)[:2], *window["kernel_shape"])
        kernel = kernel_with_zeros(out, window) if holes else out.blob(0, shape=shape)
        return [kernel, *([out.blob(1)] if self.bias else [])]

    def _onnx_size(self, size: Sizes) -> Sizes:
        return _onnx_places(self, size)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        import torch

        axes = weight.ndim - 2
        _, stride, pad, dilation = self.along(axes)
        x = reached(self, x, axes)
        if axes not in SPATIAL:
            from .functions import convolve_along

            return convolve_along(x, weight, bias, stride, pad, dilation, self.group)
        convolve = (torch.conv1d, conv2d, torch.conv3d)[axes - 1]
        batch = _one_batch_axis(x, axes)
        return _restore(convolve(batch, weight, bias, stride, pad, dilation, self.group), x, axes)

    def to_python(self, site: Site) -> Form:
        channels = (site.blob_shapes[0][1] * self.group, self.num_output)
        return _convolution(self, site, "Conv", "conv", channels=channels)


@register_layer("ConvolutionDepthwise")
@dataclass(frozen=True)
class ConvolutionDepthwise(Convolution):
    """A Convolution with a group for each channel, whether the file says so or not; where it does, it is as said.

    Source: farmingyard/ShuffleNet, conv_dw_layer.cpp, LayerSetUp; synopsys-caffe, base_conv_layer.cpp.
    """

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        message = spec.to_message()
        if message.convolution_param.group == 1:
            message.convolution_param.group = max(message.convolution_param.num_output, 1)
        return Convolution.parse(LayerSpec.from_message(message, extra=spec.extra, line=spec.line))


@register_layer("Deconvolution")
@dataclass(frozen=True)
class Deconvolution(Convolution):
    """A convolution's backward pass: the weight's first axis is the input; blobs (I, O/group, kh, kw), (O,)."""

    onnx_operator: ClassVar[str] = "ConvTranspose"

    def _padded_apart(self, spec: LayerSpec, around: Around) -> Layer:
        padded = super()._padded_apart(spec, around)
        if around.pads is None or not isinstance(padded, PaddedConvolution):
            raise refuse(spec, "pad_type: 1 is for convolutions; a deconvolution takes pad_t, pad_b, pad_l, pad_r")
        return PaddedDeconvolution(padded.inner, padded.steps, around.pads)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        window = super().reach(axis=axis, bottom=bottom, top=top)
        return Transposed(*self.along_axis(axis)) if isinstance(window, Window) else window

    def beyond(self, size: Sequence[int]) -> tuple[int, ...]:
        """None: its kernel reads single places."""
        return (0,) * len(size)

    def _resize(self, size: Shape) -> Shape:
        return self.grow(size)

    def _weight_shape(self, channels: int) -> tuple[int, int]:
        return channels, self.num_output // self.group

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return self._macs(bottoms, places=bottoms)

    def _onnx_size(self, size: Sizes) -> Sizes:
        kernel, stride, pad, dilation = self.along(len(size))
        rest = [d * (k - 1) + 1 - 2 * p - s for k, s, p, d in zip(kernel, stride, pad, dilation, strict=True)]
        return size * stride + rest

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        import torch

        axes = weight.ndim - 2
        _, stride, pad, dilation = self.along(axes)
        if axes not in SPATIAL:
            from .functions import deconvolve_along

            return deconvolve_along(x, weight, bias, stride, pad, dilation, self.group)
        deconvolve = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)[axes - 1]
        batch = _one_batch_axis(x, axes)
        return _restore(deconvolve(batch, weight, bias, stride, pad, 0, self.group, dilation), x, axes)

    def to_python(self, site: Site) -> Form:
        channels = (site.blob_shapes[0][0], self.num_output)
        return _convolution(self, site, "ConvTranspose", "conv_transpose", channels=channels)


@register_layer("Im2col")
@dataclass(frozen=True)
class Im2col(Windows, OneToOne):
    """Each kernel window of the bottom as a column: (n, c, h, w) -> (n, c kh kw, out h, out w).

    With `axis` and other ranks any leading axes, channels, and one or more spatial axes.
    """

    axis: int = 1

    @classmethod
    def parse(cls, spec: LayerSpec) -> Im2col:
        return cls(**Windows.read(spec), axis=spec.message.convolution_param.axis)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        axis = canonical_axis(self.axis, bottoms[0])
        leading, channels, size = bottoms[0][:axis], bottoms[0][axis], bottoms[0][axis + 1 :]
        if not size:
            raise ValueError(f"a bottom of shape {bottoms[0]} without an axis after the channels'")
        return ((*leading, channels * prod(self.along(len(size))[0]), *self.shrink(size)),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Window(*self.along_axis(axis)) if image_axis(self.axis) == 1 and self.given in (0, 2) else None

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        usual = image_axis(self.axis) == 1 and self.given in (0, 2)
        return (bottoms[0] * prod(self.along(2)[0]),) if usual else None

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        axes = bottoms[0].ndim - self.axis % bottoms[0].ndim - 1
        return (columns(reached(self, bottoms[0], axes), *self.along(axes)),)

    def to_onnx(self, out: OnnxLayer) -> None:
        """A convolution of each channel with kernels of a single 1, which copy."""
        x = out.bottoms[0]
        start = canonical_axis(self.axis, x.shape)
        axes = range(start + 1, len(x.shape))
        channels, (kernel, stride, _, dilation) = x.shape[start], self.along(len(axes))
        if channels is None:
            raise out.refuse("Im2col of a free number of channels")
        if len(axes) not in SPATIAL:
            raise out.refuse(f"Im2col over {len(axes)} axes")
        places = prod(kernel)
        if channels * places**2 > MOST_COPIES:
            raise out.refuse(
                f"Im2col of {channels} channels by {kernel} would take a constant of {channels * places**2:,} numbers"
            )
        copies = np.eye(places, dtype=np.float32).reshape(places, 1, *kernel)
        weight = out.constant("places", np.tile(copies, (channels, *[1] * (len(axes) + 1))))
        pads = _onnx_pads(self, x, axes)
        window: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": pads, "dilations": dilation}
        if start == 1:
            out.top("Conv", [x, weight], group=channels, **window)
            return
        images = out.reshape(x, [-1, out.size(x, (start, *axes))], part="images")
        top = out.node("Conv", [images, weight], part="columns", group=channels, **window)
        size = _onnx_places(self, out.size(x, axes))
        out.reshape(top, [out.size(x, range(start)), channels * places, size])

    def to_python(self, site: Site) -> Form:
        axes = site.rank - self.axis % site.rank - 1
        _refuse_beyond(self, site, axes)
        return Form((call("im2col", site.x, *self.along(axes)),))


def _onnx_places(windows: Windows, size: Sizes) -> Sizes:
    """The spatial size after a convolution, of axes that may be free."""
    kernel, stride, pad, dilation = windows.along(len(size))
    beyond = windows.beyond(size.known or [LARGEST] * len(size))
    rest = [2 * p - d * (k - 1) - 1 + b for k, p, d, b in zip(kernel, pad, dilation, beyond, strict=True)]
    return (size + rest) // stride + 1


def _onnx_pads(windows: Windows, x: OnnxValue, axes: Sequence[int]) -> tuple[int, ...]:
    """The zeros before and behind a blob; along an axis of a free size those for kernels that are no longer than it."""
    _, _, pad, _ = windows.along(len(axes))
    beyond = windows.beyond([LARGEST if (n := x.shape[axis]) is None else n for axis in axes])
    return (*pad, *map(sum, zip(pad, beyond, strict=True)))


def reached(windows: Windows, x: Tensor, axes: int) -> Tensor:
    """x with the zeros behind it that a kernel longer than the padded blob reads; as it is where sizes are free."""
    from torch.nn.functional import pad

    size = x.shape[x.ndim - axes :]
    beyond = windows.beyond(size) if all(type(n) is int for n in size) else ()
    return pad(x, [each for n in reversed(beyond) for each in (0, n)]) if any(beyond) else x


def _one_batch_axis(x: Tensor, axes: int) -> Tensor:
    return x if x.ndim == axes + 2 else x.reshape(-1, *x.shape[-axes - 1 :])


def _restore(top: Tensor, x: Tensor, axes: int) -> Tensor:
    return top if x.ndim == axes + 2 else top.reshape(*x.shape[: -axes - 1], *top.shape[1:])


def _convolution(params: Convolution, site: Site, module: str, function: str, *, channels: tuple[int, int]) -> Form:
    axes = len(site.blob_shapes[0]) - 2
    _refuse_beyond(params, site, axes)
    kernel, stride, pad, dilation = params.along(axes)
    if axes not in SPATIAL:
        name = "deconvolve_along" if module == "ConvTranspose" else "convolve_along"
        weight, bias = site.blobs[0], site.blobs[1] if params.bias else "None"
        calls = tuple(call(name, x, weight, bias, stride, pad, dilation, params.group) for x in site.bottoms)
        return Form(calls, shared=calls)
    window = {
        "stride": unless((1,) * axes, stride, numbers(stride)),
        "padding": unless((0,) * axes, pad, numbers(pad)),
        "dilation": unless((1,) * axes, dilation, numbers(dilation)),
        "groups": unless(1, params.group),
    }
    made = call(f"nn.{module}{axes}d", *channels, numbers(kernel), **window, bias=unless(True, params.bias))
    plain = call(f"F.{function}{axes}d", "{x}", *site.blobs, **window)
    leading = [len(shape) - axes - 1 for shape in site.shapes]
    tops, shared = (
        tuple(_batched(text, x, count) for x, count in zip(site.bottoms, leading, strict=True))
        for text in (f"{site.module}({{x}})", plain)
    )
    return Form(tops, made, shared)


def _refuse_beyond(windows: Windows, site: Site, axes: int) -> None:
    """Raise NoFormError where the net's own blobs are shorter than the kernel, which PyTorch's functions refuse."""
    if any(any(windows.beyond(shape[len(shape) - axes :])) for shape in site.shapes):
        raise NoFormError("a kernel that is longer than its padded blob")


def _batched(text: str, x: str, leading: int) -> str:
    """`text` applied to x with its leading axes as one; PyTorch takes one of them or none."""
    if leading < 2:
        return text.format(x=x)
    return f"{text.format(x=f'{x}.flatten(0, {leading - 1})')}.unflatten(0, {x}.shape[:{leading}])"
