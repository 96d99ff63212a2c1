"""Convolution, Deconvolution and Im2col (base_conv_layer.cpp, conv_layer.cpp, deconv_layer.cpp, im2col_layer.cpp).

The bottom is (n, c, h, w); with `axis` and other ranks, any leading axes, channels, and one to three spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..net.layer import LayerSpec
from ..net.onnx_form import CLASSIC
from ..net.python_form import Form, call, numbers, unless
from ..net.reach import NOTHING, Reach, Transposed, Window
from .base import LARGEST, Layer, OneToOne, as_image, canonical_axis, image_axis, pair, refuse, register_layer
from .fork import fork_fields
from .im2col import conv2d
from .opencv_onnx import kernel_with_zeros
from .padded import Around, PaddedConvolution, PaddedDeconvolution, Steps, read_around

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import Shape
    from ..net.onnx_form import OnnxLayer, Operand, Sizes
    from ..net.python_form import Site


MOST_COPIES = 1 << 26
"""Numbers of the constant with which ONNX does an Im2col."""
HOLES = ("convolution_param.hole", "convolution_param.hole_h", "convolution_param.hole_w")
"""DeepLab's fields for the dilation."""


@dataclass(frozen=True)
class Windows:
    """The places where a kernel lands: one value for each spatial axis, (h, w) unless the net gives more."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    @staticmethod
    def read(spec: LayerSpec) -> dict[str, tuple[int, ...]]:
        """kernel, stride, pad and dilation of a layer's convolution_param."""
        message = spec.message.convolution_param
        window: dict[str, Any] = {
            "kernel": _spatial(spec, message, "kernel_size"),
            "stride": _spatial(spec, message, "stride", default=1),
            "pad": _spatial(spec, message, "pad", default=0),
            "dilation": _dilation(spec, message),
        }
        for name, sizes in window.items():
            if max(sizes) > LARGEST:
                raise refuse(spec, f"{name} is {sizes}; it can be at most {LARGEST}")
        for name in ("kernel", "stride", "dilation"):
            if min(window[name]) < 1:
                raise refuse(spec, f"{name} is {window[name]}; it must be at least 1")
        return window

    def along(self, axes: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """kernel, stride, pad, dilation for this many spatial axes: one value serves them all."""
        if axes == len(self.kernel) == len(self.stride) == len(self.pad) == len(self.dilation):
            return self.kernel, self.stride, self.pad, self.dilation
        return tuple(_repeat(values, axes) for values in (self.kernel, self.stride, self.pad, self.dilation))  # type: ignore[return-value]

    def along_axis(self, axis: int) -> tuple[int, int, int, int]:
        """kernel, stride, pad, dilation along h (axis 2) or w (axis 3) of a blob (n, c, h, w)."""
        kernel, stride, pad, dilation = (values[axis - 2] for values in self.along(2))
        return kernel, stride, pad, dilation

    def shrink(self, size: Sequence[int]) -> tuple[int, ...]:
        """The spatial size after a convolution."""
        return tuple(
            (x + 2 * p - (d * (k - 1) + 1)) // s + 1 for x, k, s, p, d in zip(size, *self.along(len(size)), strict=True)
        )

    def grow(self, size: Sequence[int]) -> tuple[int, ...]:
        """The spatial size after a deconvolution."""
        return tuple(
            s * (x - 1) + d * (k - 1) + 1 - 2 * p for x, k, s, p, d in zip(size, *self.along(len(size)), strict=True)
        )


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
        if not 1 <= len(shape) - axis - 1 <= 3:
            raise ValueError(f"a bottom of shape {shape}; expected (n, c, h, w), or 1 or 3 axes in place of h and w")
        return shape[:axis], shape[axis], shape[axis + 1 :]

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        parts = [self._parts(bottom) for bottom in bottoms]
        if len({channels for _, channels, _ in parts}) > 1:
            raise ValueError("bottoms with different numbers of channels share one weight")
        return tuple((*leading, self.num_output, *self._resize(size)) for leading, _, size in parts)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        _, channels, size = self._parts(bottoms[0])
        if channels % self.group:
            raise ValueError(f"{channels} channels are not a multiple of group {self.group}")
        weight = (*self._weight_shape(channels), *self.along(len(size))[0])
        return (weight, (self.num_output,)) if self.bias else (weight,)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        if image_axis(self.axis) != 1 or len(self.kernel) != 2:
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
        kernel, stride, pad, dilation = self.along(len(axes))
        window: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": pad * 2, "dilations": dilation}
        weights = self._onnx_weights(out, window)
        if start == 1:
            out.top(kind, [x, *weights], index=index, group=self.group, **window)
            return
        images = out.reshape(x, [-1, out.size(x, (start, *axes))], part="images")
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
        return [kernel_with_zeros(out, window) if holes else out.blob(0), *([out.blob(1)] if self.bias else [])]

    def _onnx_size(self, size: Sizes) -> Sizes:
        kernel, stride, pad, dilation = self.along(len(size))
        rest = [2 * p - d * (k - 1) - 1 for k, p, d in zip(kernel, pad, dilation, strict=True)]
        return (size + rest) // stride + 1

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        import torch

        axes = weight.ndim - 2
        convolve = (torch.conv1d, conv2d, torch.conv3d)[axes - 1]
        _, stride, pad, dilation = self.along(axes)
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
        deconvolve = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)[axes - 1]
        _, stride, pad, dilation = self.along(axes)
        batch = _one_batch_axis(x, axes)
        return _restore(deconvolve(batch, weight, bias, stride, pad, 0, self.group, dilation), x, axes)

    def to_python(self, site: Site) -> Form:
        channels = (site.blob_shapes[0][0], self.num_output)
        return _convolution(self, site, "ConvTranspose", "conv_transpose", channels=channels)


@register_layer("Im2col")
@dataclass(frozen=True)
class Im2col(Windows, OneToOne):
    """Each kernel window of the bottom as a column: (n, c, h, w) -> (n, c kh kw, out h, out w)."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> Im2col:
        if spec.message.convolution_param.axis != 1:
            raise refuse(spec, "axis is not 1; Im2col is supported for (n, c, h, w) only")
        return cls(**Windows.read(spec))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        return ((n, c * prod(self.along(2)[0]), *self.shrink((h, w))),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Window(*self.along_axis(axis))

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0] * prod(self.along(2)[0]),)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from .functions import im2col

        return (im2col(bottoms[0], *self.along(2)),)

    def to_onnx(self, out: OnnxLayer) -> None:
        """A convolution of each channel with kernels of a single 1, which copy."""
        channels, (kernel, stride, pad, dilation) = out.bottoms[0].shape[1], self.along(2)
        if channels is None:
            raise out.refuse("Im2col of a free number of channels")
        places = prod(kernel)
        if channels * places**2 > MOST_COPIES:
            raise out.refuse(
                f"Im2col of {channels} channels by {kernel} would take a constant of {channels * places**2:,} numbers"
            )
        copies = np.eye(places, dtype=np.float32).reshape(places, 1, *kernel)
        weight = out.constant("places", np.tile(copies, (channels, 1, 1, 1)))
        window: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": pad * 2, "dilations": dilation}
        out.top("Conv", [out.bottoms[0], weight], group=channels, **window)

    def to_python(self, site: Site) -> Form:
        return Form((call("im2col", site.x, *self.along(2)),))


def _spatial(spec: LayerSpec, message: Any, name: str, *, default: int | None = None) -> tuple[int, ...]:
    given = tuple(getattr(message, name))
    return given if len(given) > 2 else pair(spec, message, name, default=default)


def _dilation(spec: LayerSpec, message: Any) -> tuple[int, ...]:
    """`dilation`, or DeepLab's name for it: hole, or hole_h and hole_w."""
    given = tuple(message.dilation) or (1,)
    holes = fork_fields(spec, "convolution_param")
    if any(field.name in HOLES for field in spec.extra):
        if len(message.dilation):
            raise refuse(spec, "both dilation and hole are given", hint="keep one of them")
        hole = holes.integer("hole", 1)
        given = holes.integer("hole_h", hole), holes.integer("hole_w", hole)
    return given if len(given) > 2 else (given[0], given[-1])


def _repeat(values: tuple[int, ...], axes: int) -> tuple[int, ...]:
    if len(values) == axes:
        return values
    if len(set(values)) > 1 or len(values) > 2:  # two are one value for (h, w), which serves all axes
        raise ValueError(f"{values}, {len(values)} values for {axes} spatial axes")
    return values[:1] * axes


def _one_batch_axis(x: Tensor, axes: int) -> Tensor:
    return x if x.ndim == axes + 2 else x.reshape(-1, *x.shape[-axes - 1 :])


def _restore(top: Tensor, x: Tensor, axes: int) -> Tensor:
    return top if x.ndim == axes + 2 else top.reshape(*x.shape[: -axes - 1], *top.shape[1:])


def _convolution(params: Convolution, site: Site, module: str, function: str, *, channels: tuple[int, int]) -> Form:
    axes = len(site.blob_shapes[0]) - 2
    kernel, stride, pad, dilation = params.along(axes)
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


def _batched(text: str, x: str, leading: int) -> str:
    """`text` applied to x with its leading axes as one; PyTorch takes one of them or none."""
    if leading < 2:
        return text.format(x=x)
    return f"{text.format(x=f'{x}.flatten(0, {leading - 1})')}.unflatten(0, {x}.shape[:{leading}])"
