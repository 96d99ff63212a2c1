"""Convolution and pooling of volumes (n, c, length, h, w): C3D, 3D-Caffe, video-caffe and Synopsys' fork.

Source: facebook/C3D, C3D-v1.0/src/caffe/layers/convolution3d_layer.cpp, deconvolution3d_layer.cpp, pool3d_layer.cpp
and C3D-v1.1's, whose fields have a message of their own; yulequan/3D-Caffe, pooling_nd_layer.cpp; chuckcho/video-caffe,
cudnn_ndconv_layer.cpp and cudnn_ndpooling_layer.cpp; synopsys-caffe, pooling3d_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..net.layer import UnknownField
from ..net.reach import EVERYTHING, Reach
from .base import LARGEST, Layer, OneToOne, refuse, register_layer
from .convolution import Convolution, Deconvolution
from .fork import ForkMessage, fork_fields, fork_message
from .window_means_onnx import are_long, mean_of_padded

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer

LOWEST = float(np.finfo(np.float32).min)
"""The number with which Caffe's maximum begins (pooling_layer.cpp, Forward_cpu: -FLT_MAX)."""


def _convolve(
    spec: LayerSpec, kind: type[Convolution], window: Mapping[str, tuple[int, ...]], **settings: Any
) -> Layer:
    """A Convolution or Deconvolution along three axes, its settings checked."""
    for name, values in window.items():
        if min(values) < (0 if name == "pad" else 1) or max(values) > LARGEST:
            raise refuse(spec, f"{name} is {values}; expected {0 if name == 'pad' else 1} to {LARGEST}")
    if settings["num_output"] < 1 or settings["num_output"] % settings["group"]:
        raise refuse(spec, f"num_output {settings['num_output']} is 0 or no multiple of group {settings['group']}")
    kernel, stride, pad = window["kernel"], window["stride"], window["pad"]
    return kind(kernel, stride, pad, dilation=(1,) * len(kernel), **settings)


@register_layer("Convolution3D", "Convolution3d", "Deconvolution3D", "Deconvolution3d")
class Convolution3D(Convolution):
    """A Convolution or Deconvolution along length, h and w; the length has kernel_depth, temporal_stride, temporal_pad.

    C3D 1.0 has these fields in convolution_param, 1.1 all fields in convolution3d_param. Its filter_group is no group:
    it only cuts the work in parts.
    """

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        kind: type[Convolution] = Deconvolution if spec.type.startswith("Deconvolution") else Convolution
        if any(field.name == "convolution3d_param" for field in spec.extra):
            own = fork_message(spec, "convolution3d_param")
            along = [own.integer(name, default) for name, default in (("kernel_size", 0), ("stride", 1), ("pad", 0))]
            outputs, bias = own.integer("num_output", 0), own.flag("bias_term", default=True)
        else:
            message, own = spec.message.convolution_param, fork_fields(spec, "convolution_param")
            given = [(message.kernel_size, 0), (message.stride, 1), (message.pad, 0)]
            if any(len(values) > 1 for values, _ in given):
                raise refuse(spec, "kernel_size, stride and pad are given once each: for h and w")
            along = [values[0] if values else default for values, default in given]
            outputs, bias = message.num_output, message.bias_term
        depth = own.integer("kernel_depth", 0), own.integer("temporal_stride", 1), own.integer("temporal_pad", 0)
        names = ("kernel", "stride", "pad")
        window = {name: (first, size, size) for name, first, size in zip(names, depth, along, strict=True)}
        return _convolve(spec, kind, window, num_output=outputs, group=1, bias=bias)


@register_layer("NdConvolution")
class NdConvolution(Convolution):
    """A Convolution along as many axes as kernel_shape has; also stride_shape and pad_shape (video-caffe)."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        message, fork = spec.message.convolution_param, fork_fields(spec, "convolution_param")
        window = _shapes(spec, fork)
        settings = {"num_output": message.num_output, "group": max(message.group, 1), "bias": message.bias_term}
        return _convolve(spec, Convolution, window, **settings)


def _shapes(spec: LayerSpec, fork: ForkMessage) -> dict[str, tuple[int, ...]]:
    """kernel_shape, stride_shape and pad_shape, one number for each axis."""
    found: dict[str, tuple[int, ...]] = {}
    for name, default in (("kernel", 0), ("stride", 1), ("pad", 0)):
        dims = [
            dim.value
            for part in fork.fields.get(f"{name}_shape", [])
            for dim in (part if isinstance(part, tuple) else ())
            if isinstance(dim, UnknownField)
        ]
        found[name] = tuple(dim for dim in dims if isinstance(dim, int)) or (default,) * len(found.get("kernel", ()))
    if len(set(map(len, found.values()))) > 1 or not 1 <= len(found["kernel"]) <= 3:
        raise refuse(
            spec, f"kernel_shape, stride_shape, pad_shape are {found}; expected 1 to 3 numbers, as many in each"
        )
    return found


@dataclass(frozen=True)
class VolumePooling(OneToOne):
    """MAX or AVE along the last axes of a blob (n, c, ...), with windows, padding and counts as in Pooling.

    AVE_EXC_PAD divides by what of a window lies in the blob. `kernel` is () with global pooling; `pad` is
    (before, after) for each axis.
    """

    method: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[tuple[int, int], ...]
    ceil: bool = True

    def _check(self, spec: LayerSpec) -> VolumePooling:
        if self.method not in ("MAX", "AVE", "AVE_EXC_PAD"):
            raise refuse(spec, f"pool is {self.method}; expected MAX or AVE")
        sides = [side for pads in self.pad for side in pads]
        if self.kernel and (min(*self.kernel, *self.stride) < 1 or min(sides) < 0):
            raise refuse(spec, f"kernel {self.kernel}, stride {self.stride}: all must be at least 1")
        if max((*self.kernel, *self.stride, *sides), default=0) > LARGEST:
            raise refuse(spec, f"kernel {self.kernel}, stride {self.stride}, pad {sides}: at most {LARGEST}")
        if any(max(pads) >= kernel for kernel, pads in zip(self.kernel, self.pad, strict=True) if any(pads)):
            raise refuse(spec, f"pad {self.pad} is not smaller than kernel {self.kernel}")
        return self

    def _along(self, shape: Sequence[int]) -> list[tuple[int, int, int, int, int]]:
        """For each axis: its size, its windows, kernel, stride, and the pad before."""
        found, padded = [], any(map(any, self.pad))
        for size, kernel, stride, (before, after) in zip(shape[2:], self.kernel, self.stride, self.pad, strict=True):
            beyond = after + (stride - 1) * self.ceil
            beyond = min(beyond, kernel - 1) if padded else beyond  # the last window starts inside
            found.append((size, (size + before + beyond - kernel) // stride + 1, kernel, stride, before))
        return found

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        shape = bottoms[0]
        if not self.kernel:
            return ((*shape[:2], *[1] * (len(shape) - 2)),)
        if len(shape) != len(self.kernel) + 2:
            raise ValueError(f"a bottom of shape {shape}; expected n, c and {len(self.kernel)} axes more")
        return ((*shape[:2], *(windows for _, windows, *_ in self._along(shape))),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch
        from torch.nn import functional

        x = bottoms[0]
        axes = tuple(range(2, x.ndim))
        if not self.kernel:
            if self.method == "MAX":  # not amax, which divides the gradient of equal values
                return (x.flatten(2).max(2).values.reshape(*x.shape[:2], *[1] * len(axes)),)
            return (x.mean(axes, keepdim=True),)
        along = self._along(x.shape)
        pads = [(pad, (windows - 1) * s + k - size - pad) for size, windows, k, s, pad in along]
        flat = [side for pair in pads[::-1] for side in pair]
        places = len(self.kernel) - 1
        if self.method == "MAX":
            pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[places]
            return (pool(functional.pad(x, flat, value=torch.finfo(x.dtype).min), self.kernel, self.stride),)
        average = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[places]
        top: Tensor = average(functional.pad(x, flat), self.kernel, self.stride) * prod(self.kernel)
        for axis, (size, windows, k, s, before) in enumerate(along):
            start = torch.arange(windows, device=x.device) * s - before
            inside = self.method == "AVE_EXC_PAD"
            end = (start + k).clamp(max=size if inside else size + self.pad[axis][1])
            count = (end - (start.clamp(min=0) if inside else start)).to(x.dtype)
            top = top / count.reshape(-1, *[1] * (len(along) - axis - 1))
        return (top,)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        if not self.kernel:
            out.top("GlobalMaxPool" if self.method == "MAX" else "GlobalAveragePool", [x])
            return
        size = out.size(x, range(2, len(x.shape))).known
        if size is None:
            raise out.refuse(f"{self.method} pooling of a volume of free sizes")
        along = self._along((1, 1, *size))
        before = [pad for *_, pad in along]
        after = [(windows - 1) * s + k - length - pad for length, windows, k, s, pad in along]
        pads = [0, 0, *before, 0, 0, *(max(end, 0) for end in after)]
        padded = out.pad(x, pads, constant=LOWEST if self.method == "MAX" else 0.0, part="padded")
        kernel, stride = list(self.kernel), list(self.stride)
        if self.method == "MAX":
            out.top("MaxPool", [padded], kernel_shape=kernel, strides=stride)
            return
        is_long = are_long((*before, *after), kernel)
        means = mean_of_padded(out, padded, part="means", is_long=is_long, kernel_shape=kernel, strides=stride)
        share = np.ones([1] * len(x.shape))
        for axis, (length, windows, k, s, pad) in enumerate(along):
            start = np.arange(windows) * s - pad
            end = np.minimum(start + k, length + (0 if self.method == "AVE_EXC_PAD" else self.pad[axis][1]))
            start = np.maximum(start, 0) if self.method == "AVE_EXC_PAD" else start
            share = share * (k / (end - start)).reshape([-1 if i == axis + 2 else 1 for i in range(len(x.shape))])
        out.top("Mul", [means, out.constant("share", share.astype(np.float32))])


@register_layer("Pooling3D", "Pooling3d")
class Pooling3D(VolumePooling):
    """Pooling along length, h and w; told apart by kernel_depth, which C3D's needs and Synopsys' does not have.

    C3D rounds sizes up, and pads h and w alone; Synopsys' has the depth under _d, pads on six sides, and rounds down
    unless ceil_mode is true.
    """

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        if any(field.name == "pooling3d_param" for field in spec.extra):
            own = fork_message(spec, "pooling3d_param")
            method = own.word("pool", "MAX")
            size, stride, pad = own.integer("kernel_size", 0), own.integer("stride", 1), own.integer("pad", 0)
        else:
            message, own = spec.message.pooling_param, fork_fields(spec, "pooling_param")
            method = message.PoolMethod.Name(message.pool)
            size, stride, pad = message.kernel_size, message.stride, message.pad
        if "kernel_depth" not in own:
            return _synopsys(spec, own, method)
        depth, step = own.integer("kernel_depth", 0), own.integer("temporal_stride", 1)
        if pad and method != "AVE":
            raise refuse(spec, "pad is for AVE only (pool3d_layer.cpp)")
        edges = ((0, 0), (pad, pad), (pad, pad))
        return VolumePooling(method, (depth, size, size), (step, stride, stride), edges)._check(spec)


def _synopsys(spec: LayerSpec, own: ForkMessage, method: str) -> Layer:
    size, stride, pad = own.integer("kernel_size", 0), own.integer("stride", 1), own.integer("pad", 0)
    if own.flag("global_pooling", default=False):
        return VolumePooling(method, (), (), ())._check(spec)
    kernel = tuple(own.integer(f"kernel_{axis}", size) for axis in "dhw")
    steps = tuple(own.integer(f"stride_{axis}", stride) for axis in "dhw")
    edges = tuple((own.integer(f"pad_{axis}0", pad), own.integer(f"pad_{axis}1", pad)) for axis in "dhw")
    return VolumePooling(method, kernel, steps, edges, own.flag("ceil_mode", default=False))._check(spec)


@register_layer("NdPooling")
class NdPooling(VolumePooling):
    """Pooling along as many axes as kernel_shape has; also stride_shape and pad_shape (video-caffe)."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        message = spec.message.pooling_param
        method = message.PoolMethod.Name(message.pool)
        if message.global_pooling:
            return VolumePooling(method, (), (), ())._check(spec)
        window = _shapes(spec, fork_fields(spec, "pooling_param"))
        edges = tuple((pad, pad) for pad in window["pad"])
        return VolumePooling(method, window["kernel"], window["stride"], edges)._check(spec)


@dataclass(frozen=True)
class PerAxis:
    """kernel_size, stride or pad of 3D-Caffe: given once for all axes, or once for each."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]


@register_layer("PoolingND")
@dataclass(frozen=True)
class PoolingND(OneToOne):
    """Pooling along all axes behind the channels; kernel_size, stride and pad once, or once for each (3D-Caffe)."""

    method: str
    windows: PerAxis | None

    @classmethod
    def parse(cls, spec: LayerSpec) -> PoolingND:
        own = fork_message(spec, "pooling_nd_param")
        if own.integer("axis", 1) != 1:
            raise refuse(spec, "axis is not 1; PoolingND is supported for (n, c, ...) only")
        whole = own.flag("global_pooling", default=False)
        kernel = own.integers("kernel_size") or (own.integer("kernel_h", 0), own.integer("kernel_w", 0))
        stride = own.integers("stride") or (own.integer("stride_h", 1), own.integer("stride_w", 1))
        pad = own.integers("pad") or (own.integer("pad_h", 0), own.integer("pad_w", 0))
        layer = cls(own.word("pool", "MAX"), None if whole else PerAxis(kernel, stride, pad))
        layer.along(max(map(len, (kernel, stride, pad))) + 2)._check(spec)
        return layer

    def along(self, axes: int) -> VolumePooling:
        """This pooling for a blob with so many axes."""
        if self.windows is None:
            return VolumePooling(self.method, (), (), ())
        kernel, stride, pad = (
            _repeat(values, axes - 2) for values in (self.windows.kernel, self.windows.stride, self.windows.pad)
        )
        return VolumePooling(self.method, kernel, stride, tuple((side, side) for side in pad))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if not 3 <= len(bottoms[0]) <= 5:
            raise ValueError(f"a bottom of shape {bottoms[0]}; expected n, c and one to three axes more")
        return self.along(len(bottoms[0])).top_shapes(bottoms)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return self.along(bottoms[0].ndim).forward(bottoms, blobs)

    def to_onnx(self, out: OnnxLayer) -> None:
        self.along(len(out.bottoms[0].shape)).to_onnx(out)


def _repeat(values: tuple[int, ...], axes: int) -> tuple[int, ...]:
    if len(values) == axes:
        return values
    if len(set(values)) > 1:
        raise ValueError(f"{values} for {axes} axes")
    return values[:1] * axes


@register_layer("VoxelSoftmax")
@dataclass(frozen=True)
class VoxelSoftmax(OneToOne):
    """Softmax over the channels (C3D-v1.0, voxel_wise_softmax_layer.cpp)."""

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) < 2:
            raise ValueError(f"a bottom of shape {bottoms[0]}; expected (n, c, ...)")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0].softmax(1),)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Softmax", [out.bottoms[0]], axis=1)
