"""The places where a kernel lands: kernel, stride, pad and dilation of a convolution_param, for any number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..net.layer import LayerSpec
from .base import LARGEST, pair, refuse
from .fork import fork_fields

HOLES = ("convolution_param.hole", "convolution_param.hole_h", "convolution_param.hole_w")
"""DeepLab's fields for the dilation."""


@dataclass(frozen=True)
class Windows:
    """The places where a kernel lands: one value for each spatial axis, (h, w) unless the net gives more.

    `given` is the number of axes that the net gives a value for each of; 0 where one value is for all of them.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    given: int = field(default=0, kw_only=True)

    @staticmethod
    def read(spec: LayerSpec) -> dict[str, Any]:
        """kernel, stride, pad and dilation of a layer's convolution_param, and for how many axes they are given."""
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
        return {**window, "given": _given(spec, message)}

    def along(self, axes: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """kernel, stride, pad, dilation for this many spatial axes: one value serves them all.

        ValueError where the net gives values for another number of axes (base_conv_layer.cpp, LayerSetUp).
        """
        if self.given not in (0, axes):
            raise ValueError(
                f"kernel_size, stride, pad or dilation for {self.given} axes; there are {axes} spatial axes"
            )
        if axes == len(self.kernel) == len(self.stride) == len(self.pad) == len(self.dilation):
            return self.kernel, self.stride, self.pad, self.dilation
        return tuple(_repeat(values, axes) for values in (self.kernel, self.stride, self.pad, self.dilation))  # type: ignore[return-value]

    def apart(self, axes: int) -> tuple[int, ...]:
        """The dilation along each axis, 1 where the kernel is 1: OpenVINO 2026.4 may end the process by another."""
        kernel, _, _, dilation = self.along(axes)
        return tuple(d if k > 1 else 1 for k, d in zip(kernel, dilation, strict=True))

    def along_axis(self, axis: int) -> tuple[int, int, int, int]:
        """kernel, stride, pad, dilation along h (axis 2) or w (axis 3) of a blob (n, c, h, w)."""
        kernel, stride, pad, dilation = (values[axis - 2] for values in self.along(2))
        return kernel, stride, pad, dilation

    def shrink(self, size: Sequence[int]) -> tuple[int, ...]:
        """The spatial size after a convolution."""
        return tuple(map(_places, size, *self.along(len(size))))

    def beyond(self, size: Sequence[int]) -> tuple[int, ...]:
        """The zeros behind the padded blob that the kernel reads along each axis where it is longer than that."""
        window = zip(size, *self.along(len(size)), strict=True)
        return tuple(max(0, -_room(x, k, p, d)) for x, k, _, p, d in window)

    def grow(self, size: Sequence[int]) -> tuple[int, ...]:
        """The spatial size after a deconvolution."""
        return tuple(
            s * (x - 1) + d * (k - 1) + 1 - 2 * p for x, k, s, p, d in zip(size, *self.along(len(size)), strict=True)
        )


def _room(size: int, kernel: int, pad: int, dilation: int) -> int:
    """The places that a kernel can move by along an axis of a padded blob; below 0 where it is longer."""
    return size + 2 * pad - (dilation * (kernel - 1) + 1)


def _places(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """The places where a kernel lands along an axis.

    One that is longer than the padded blob by less than a stride lands once, as C++ divides towards 0
    (conv_layer.cpp, compute_output_shape).
    """
    room = _room(size, kernel, pad, dilation)
    return room // stride + 1 if room >= 0 else 1 - -room // stride


def _given(spec: LayerSpec, message: Any) -> int:
    """The number of axes for which there is a value each; 0 for one value each. NetError for several numbers."""
    counts = {len(getattr(message, name)) for name in ("kernel_size", "stride", "pad", "dilation")} - {0, 1}
    if any(message.HasField(f"{name}_{side}") for name in ("kernel", "stride", "pad") for side in "hw"):
        counts.add(2)
    if any(field.name in HOLES[1:] for field in spec.extra):
        counts.add(2)
    if len(counts) > 1:
        raise refuse(spec, f"values for {' and for '.join(map(str, sorted(counts)))} spatial axes")
    return max(counts, default=0)


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
    if len(set(values)) > 1:  # two are one value for (h, w), which serves all axes
        raise ValueError(f"{values}, {len(values)} values for {axes} spatial axes")
    return values[:1] * axes
