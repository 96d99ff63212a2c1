"""The ONNX forms of poolings with a pad of their own on each side; SAME is ONNX's auto_pad SAME_UPPER."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..net.onnx_form import CLASSIC, OPENCV
from .base import Pair
from .shifted_pooling_onnx import LOWEST
from .window_means_onnx import are_long, mean_of_padded

if TYPE_CHECKING:
    from ..net.onnx_form import OnnxLayer, Operand, Sizes


class PaddedWindows(Protocol):
    """The settings of a PaddedPooling (padded.py) that its form reads."""

    @property
    def method(self) -> str: ...
    @property
    def kernel(self) -> Pair: ...
    @property
    def stride(self) -> Pair: ...
    @property
    def before(self) -> Pair: ...
    @property
    def after(self) -> Pair: ...
    @property
    def beyond(self) -> Pair: ...
    @property
    def same(self) -> bool: ...


def padded_pooling_to_onnx(layer: PaddedWindows, out: OnnxLayer) -> None:
    """Put down a pooling whose windows end, rounding down, `beyond` the blob; `before` and `after` are its pads."""
    x = out.bottoms[0]
    op = "MaxPool" if layer.method == "MAX" else "AveragePool"
    counted = {} if layer.method == "MAX" else {"count_include_pad": int(layer.method == "AVE")}
    window: dict[str, Any] = {"kernel_shape": layer.kernel, "strides": layer.stride}
    if layer.same:
        _same_pooling_to_onnx(layer, out, op, window, counted)
        return
    pads = (*layer.before, *layer.beyond)
    is_long = are_long(pads, layer.kernel)
    within = all(beyond <= after for beyond, after in zip(layer.beyond, layer.after, strict=True))
    if not is_long and (layer.method != "AVE" or within):
        if out.target in OPENCV and layer.method != "MAX":
            _in_opencv(layer, out, pads)
            return
        out.top(op, [x], pads=pads, **window, **counted)
        return
    around = [0, 0, *layer.before, 0, 0, *layer.beyond]
    if layer.method == "MAX":
        out.top(op, [out.pad(x, around, constant=LOWEST, part="padded")], **window)
        return
    before, after = (layer.before, layer.after) if layer.method == "AVE" else ((0, 0), (0, 0))
    left = [whole - own for whole, own in zip(layer.before, before, strict=True)]
    right = [whole - own for whole, own in zip(layer.beyond, after, strict=True)]
    mean = mean_of_padded(out, out.pad(x, around, part="padded"), part="mean", is_long=is_long, **window)
    share = _share(out, out.size(x, (2, 3)) + before + after, [0, 0, *left, 0, 0, *right], window, is_long=is_long)
    out.top("Div", [mean, share])


def _same_pooling_to_onnx(
    layer: PaddedWindows, out: OnnxLayer, op: str, window: dict[str, Any], counted: dict[str, int]
) -> None:
    x = out.bottoms[0]
    in_opencv = out.target in OPENCV and not (out.target == CLASSIC and layer.method != "AVE")
    if in_opencv or pads_are_known(out, layer.kernel, layer.stride):
        pads = known_same_pads(out, layer.kernel, layer.stride)
        if out.target in OPENCV and layer.method != "MAX":
            _in_opencv(layer, out, pads)
        else:
            out.top(op, [x], pads=pads, **window, **counted)
        return
    if out.target == CLASSIC or not have_gaps(layer.kernel, layer.stride):
        out.top(op, [x], auto_pad="SAME_UPPER", **window, **counted)
        return
    size = out.size(x, (2, 3))
    around = same_pads(out, size, layer.kernel, layer.stride, layer.kernel)
    padded = out.pad(x, around, constant=LOWEST if layer.method == "MAX" else 0.0, part="padded")
    if layer.method != "AVE_EXC_PAD":
        out.top(op, [padded], **window)
        return
    mean = out.node(op, [padded], part="mean", **window)
    out.top("Div", [mean, _share(out, size, around, window)])


def have_gaps(kernel: Sequence[int], stride: Sequence[int]) -> bool:
    """True for windows that are shorter than their stride: ONNX Runtime's SAME_UPPER is wrong there, or refused."""
    return any(k < s for k, s in zip(kernel, stride, strict=True))


def _in_opencv(layer: PaddedWindows, out: OnnxLayer, pads: Sequence[int]) -> None:
    """OpenCV's Pooling: its classic engine leaves the padding out of an AveragePool that counts it."""
    names = ("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_t", "pad_l", "pad_b", "pad_r")
    settings: dict[str, Any] = dict(zip(names, (*layer.kernel, *layer.stride, *pads), strict=True))
    counted = int(layer.method == "AVE")
    out.top("Pooling", [out.bottoms[0]], pool="ave", ceil_mode=0, ave_pool_padded_area=counted, **settings)


def pads_are_known(out: OnnxLayer, kernel: Sequence[int], stride: Sequence[int]) -> bool:
    """True where the pads of SAME do not depend on a size that is free."""
    sizes = out.bottoms[0].shape[2:]
    return all(size is not None or 1 in each for size, *each in zip(sizes, kernel, stride, strict=True))


def known_same_pads(out: OnnxLayer, kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """The pads of SAME without holes; refused where they depend on a size that is free.

    OpenCV 5's new engine pads as needed at the size that the file says, and is off by one with a stride of 2.
    """
    if not pads_are_known(out, kernel, stride):
        raise out.refuse(
            "SAME with a stride, at free sizes: OpenCV pads as it would at the size that the file says",
            hint="fix the size with --size HxW",
        )
    sizes = [size or 1 for size in out.bottoms[0].shape[2:]]
    whole = [max((size - 1) // s * s + k - size, 0) for size, k, s in zip(sizes, kernel, stride, strict=True)]
    return (*(pad // 2 for pad in whole), *(pad - pad // 2 for pad in whole))


def _share(out: OnnxLayer, inside: Sizes, around: Any, window: dict[str, Any], *, is_long: bool = False) -> Operand:
    """The part of the kernel's places by which each window is divided: those `inside`, where `around` is beyond it."""
    ones = out.node(
        "Expand", [out.constant("one", np.ones((1, 1, 1, 1), np.float32)), _image(out, inside)], part="ones"
    )
    return mean_of_padded(out, out.pad(ones, around, part="counted"), part="share", is_long=is_long, **window)


def _image(out: OnnxLayer, size: Sizes) -> Sizes:
    return out.sizes([1, 1, size])


def same_pads(
    out: OnnxLayer, size: Sizes, kernel: Sequence[int], stride: Sequence[int], extent: Sequence[int]
) -> Sizes:
    """The pads of an image (n, c, h, w) for SAME with holes: they count the kernel without them (im2col.cpp)."""
    windows = (size + [s - 1 for s in stride]) // stride
    rest = size - (windows - 1) * stride
    before = ((rest * -1) + kernel).at_least(0) // 2
    after = (windows - 1) * stride + extent - size - before
    return out.sizes([0, 0, before, 0, 0, after])
