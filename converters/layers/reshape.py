"""Flatten, Reshape, Tile (flatten_layer.cpp, reshape_layer.cpp, tile_layer.cpp), and the Permute of SSD's fork."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ..net.python_form import Form, call
from ..net.reach import EVERYTHING, PIXEL, Reach
from .base import Layer, OneToOne, canonical_axis, image_axis, in_order, kept, refuse, register_layer
from .blocks import DepthToSpace
from .fork import fork_fields, fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@register_layer("Flatten")
@dataclass(frozen=True)
class Flatten(OneToOne):
    """The axes from `axis` to `end_axis` as one, which is 1 where `end_axis` is the axis before `axis`."""

    axis: int
    end_axis: int

    @classmethod
    def parse(cls, spec: LayerSpec) -> Flatten:
        message = spec.message.flatten_param
        return cls(message.axis, message.end_axis)

    def shares_memory(self, *, bottoms: int, tops: int) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        shape = bottoms[0]
        start, end = canonical_axis(self.axis, shape), canonical_axis(self.end_axis, shape)
        if start > end + 1:  # blob.hpp, count: axes from `axis` to the one after end_axis
            raise ValueError(f"axis {start} comes after end_axis {end}")
        return ((*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        start, end = (axis % bottoms[0].ndim for axis in (self.axis, self.end_axis))
        return (bottoms[0].unsqueeze(start) if start > end else bottoms[0].flatten(start, end),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        start, end = canonical_axis(self.axis, x.shape), canonical_axis(self.end_axis, x.shape)
        out.reshape(x, [*kept(x, start), -1, out.size(x, range(end + 1, len(x.shape)))])

    def to_python(self, site: Site) -> Form:
        start, end = self.axis % site.rank, self.end_axis % site.rank
        if start > end:
            return Form((call(f"{site.x}.unsqueeze", start),))
        return Form((call(f"{site.x}.flatten", start, *([end] if end != site.rank - 1 else [])),))


@register_layer("Reshape")
@dataclass(frozen=True)
class Reshape(OneToOne):
    """`num_axes` axes from `axis` on (-1: all) replaced by `dims`: 0 copies the bottom's, one -1 takes what is left.

    With Synopsys' `pixelshuffler: r` r x r channels become r x r places (synopsys-caffe, reshape_layer.cpp).
    """

    dims: tuple[int, ...]
    axis: int
    num_axes: int

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        message = spec.message.reshape_param
        shuffle = fork_fields(spec, "reshape_param").integer("pixelshuffler", 1)
        if shuffle > 1:
            return DepthToSpace(shuffle, "CRD", to_space=True)
        dims = tuple(message.shape.dim)
        if any(dim < -1 for dim in dims) or dims.count(-1) > 1:
            raise refuse(spec, f"dims {dims}: each is 0 or more, and one at most is -1")
        if message.num_axes < -1:
            raise refuse(spec, f"num_axes is {message.num_axes}; expected -1 or more")
        return cls(dims, message.axis, message.num_axes)

    def shares_memory(self, *, bottoms: int, tops: int) -> bool:
        return True

    def _plan(self, axes: int) -> list[int | tuple[int]]:
        """The top's axes for a bottom of so many: an axis of the bottom that is kept, or (its size,), -1 as given."""
        start = self.axis if self.axis >= 0 else axes + self.axis + 1
        end = axes if self.num_axes == -1 else start + self.num_axes
        if not 0 <= start <= end <= axes:
            raise ValueError(f"axis {self.axis} and num_axes {self.num_axes} of a blob with {axes} axes")
        copied = [start + i for i, dim in enumerate(self.dims) if dim == 0]
        if any(axis >= axes for axis in copied):
            raise ValueError(f"dim 0 copies axis {copied[-1]}; the bottom has {axes} axes")
        dims = [(dim,) if dim else start + i for i, dim in enumerate(self.dims)]
        return [*range(start), *dims, *range(end, axes)]

    def _top(self, shape: Sequence[int]) -> list[int]:
        """The top's shape, with -1 as given."""
        return [shape[dim] if isinstance(dim, int) else dim[0] for dim in self._plan(len(shape))]

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        count, top = prod(bottoms[0]), self._top(bottoms[0])
        known = prod(dim for dim in top if dim != -1)
        if not known and -1 in top:  # where Caffe divides by 0, and ends
            raise ValueError(f"of a blob without elements nothing says what -1 is in dims {self.dims}")
        shape = tuple(count // known if dim == -1 and known else dim for dim in top)
        if prod(shape) != count:
            raise ValueError(f"{count} elements do not fit dims {self.dims}")
        return (shape,)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0].reshape(self._top(bottoms[0].shape)),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        plan = self._plan(len(x.shape))
        # ONNX, too, has 0 for an axis that stays in its place; OpenCV's classic engine has no Shape for the others.
        stays = [dim == i and x.shape[i] is None for i, dim in enumerate(plan)]
        dims = [
            0 if same else out.size(x, [dim]) if isinstance(dim, int) else dim[0]
            for dim, same in zip(plan, stays, strict=True)
        ]
        out.reshape(x, dims)

    def to_python(self, site: Site) -> Form:
        start = self.axis if self.axis >= 0 else site.rank + self.axis + 1
        end = site.rank if self.num_axes == -1 else start + self.num_axes
        sizes = [f"{site.x}.shape[{i}]" for i in range(site.rank)]
        dims = [str(dim) if dim else sizes[start + i] for i, dim in enumerate(self.dims)]
        top = [*sizes[:start], *dims, *sizes[end:]]
        return Form((call(f"{site.x}.reshape", *(top or ["()"])),))


@register_layer("Tile")
@dataclass(frozen=True)
class Tile(OneToOne):
    """The bottom repeated `tiles` times along `axis`."""

    axis: int
    tiles: int

    @classmethod
    def parse(cls, spec: LayerSpec) -> Tile:
        message = spec.message.tile_param
        if message.tiles < 1:
            raise refuse(spec, f"tiles is {message.tiles}; it must be at least 1")
        return cls(message.axis, message.tiles)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        shape, axis = bottoms[0], canonical_axis(self.axis, bottoms[0])
        return ((*shape[:axis], shape[axis] * self.tiles, *shape[axis + 1 :]),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING if image_axis(self.axis) == axis and self.tiles > 1 else PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0] * (self.tiles if image_axis(self.axis) == 1 else 1),)

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        times = [1] * bottoms[0].ndim
        times[self.axis] = self.tiles
        return (bottoms[0].repeat(times),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        times = [1] * len(x.shape)
        times[self.axis] = self.tiles
        out.top("Tile", [x, out.constant("times", times)])

    def to_python(self, site: Site) -> Form:
        times = [1] * site.rank
        times[self.axis] = self.tiles
        return Form((call(f"{site.x}.repeat", *times),))


@register_layer("Permute")
@dataclass(frozen=True)
class Permute(OneToOne):
    """The axes in another order: those of `order` first, then the others as they were."""

    order: tuple[int, ...]

    @classmethod
    def parse(cls, spec: LayerSpec) -> Permute:
        order = fork_message(spec, "permute_param").integers("order")
        if len(set(order)) != len(order) or min(order, default=0) < 0:
            raise refuse(spec, f"order {order} names an axis twice or below 0")
        return cls(order)

    def shares_memory(self, *, bottoms: int, tops: int) -> bool:
        return self.order == tuple(range(len(self.order)))

    def order_of(self, axes: int) -> list[int]:
        """The bottom's axis that each axis of the top is, for a bottom of so many."""
        return [*self.order, *(axis for axis in range(axes) if axis not in self.order)]

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if max(self.order, default=0) >= len(bottoms[0]):
            raise ValueError(f"order {self.order} of a blob with {len(bottoms[0])} axes")
        return (tuple(bottoms[0][axis] for axis in self.order_of(len(bottoms[0]))),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL if self.order_of(4)[2:] == [2, 3] else EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],) if self.order_of(4)[1] == 1 else None

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (in_order(bottoms[0].permute(self.order_of(bottoms[0].ndim))),)

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Transpose", out.bottoms, perm=self.order_of(len(out.bottoms[0].shape)))

    def to_python(self, site: Site) -> Form:
        return Form((call(f"{site.x}.permute", *self.order_of(site.rank)),))
