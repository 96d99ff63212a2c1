"""Concat, Slice, Split and Silence: wiring (concat_layer.cpp, slice_layer.cpp, split_layer.cpp, silence_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

from ..net.onnx_form import OPENCV, Sizes
from ..net.python_form import Form, call
from ..net.reach import EVERYTHING, NOTHING, PIXEL, Reach
from .base import Layer, canonical_axis, image_axis, kept, refuse, register_layer
from .opencv_onnx import TO_THE_END

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@register_layer("Concat", "Route")
@dataclass(frozen=True)
class Concat(Layer):
    """The bottoms one after the other along `axis`; their other axes are equal.

    Route is darknet's name for it along the channels (pjreddie/darknet, src/route_layer.c, forward_route_layer).
    """

    axis: int

    bottom_count: ClassVar[tuple[int, float]] = (1, inf)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Concat:
        return cls(_axis(spec, spec.message.concat_param, "concat_dim"))

    def shares_memory(self, *, bottoms: int, tops: int) -> bool:
        return bottoms == 1

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        axis = canonical_axis(self.axis, bottoms[0])
        if len({(*shape[:axis], *shape[axis + 1 :]) for shape in bottoms}) > 1 or len(set(map(len, bottoms))) > 1:
            raise ValueError(f"the bottoms must be equal but for axis {axis}")
        return ((*bottoms[0][:axis], sum(shape[axis] for shape in bottoms), *bottoms[0][axis + 1 :]),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING if image_axis(self.axis) == axis else PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (sum(bottoms) if image_axis(self.axis) == 1 else bottoms[0],)

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        return (torch.cat(tuple(bottoms), self.axis),)

    def to_onnx(self, out: OnnxLayer) -> None:
        if len(out.bottoms) == 1:  # of an input OpenCV's classic engine would give memory that nobody wrote
            out.top("Identity", out.bottoms)
            return
        out.top("Concat", out.bottoms, axis=self.axis)

    def to_python(self, site: Site) -> Form:
        return Form((call("torch.cat", f"[{', '.join(site.bottoms)}]", dim=self.axis % site.rank),))


_KNOWN_SPLIT = (None, "onnxruntime")
"""The targets that are known to take a Split of a free size."""


@register_layer("Slice")
@dataclass(frozen=True)
class Slice(Layer):
    """The bottom cut along `axis` at `points`, or in equal parts where no points are given."""

    axis: int
    points: tuple[int, ...]
    parts: int

    bottom_count: ClassVar[tuple[int, float]] = (1, 1)
    top_count: ClassVar[tuple[int, float]] = (1, inf)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Slice:
        message = spec.message.slice_param
        points, parts = tuple(message.slice_point), len(spec.tops)
        if points and len(points) != parts - 1:
            raise refuse(spec, f"{len(points)} slice points for {parts} tops; expected {parts - 1}")
        if any(b <= a for a, b in zip((0, *points), points, strict=False)):
            raise refuse(spec, f"slice points {points} must rise from above 0")
        return cls(_axis(spec, message, "slice_dim"), points, parts)

    def shares_memory(self, *, bottoms: int, tops: int) -> bool:
        return tops == 1

    def _sizes(self, total: int) -> list[int]:
        if not self.points:
            return [total // self.parts] * self.parts if self.parts else []
        ends = (*self.points, total)
        return [end - start for start, end in zip((0, *self.points), ends, strict=True)]

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        axis = canonical_axis(self.axis, bottoms[0])
        total = bottoms[0][axis]
        if not self.points and total % self.parts:
            raise ValueError(f"axis {axis} of {total} cannot be cut in {self.parts} equal parts")
        if self.points and self.points[-1] >= total:
            raise ValueError(f"slice point {self.points[-1]} is not inside axis {axis} of {total}")
        return tuple((*bottoms[0][:axis], size, *bottoms[0][axis + 1 :]) for size in self._sizes(total))

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING if image_axis(self.axis) == axis else PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return tuple(self._sizes(bottoms[0])) if image_axis(self.axis) == 1 else (bottoms[0],) * self.parts

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return tuple(bottoms[0].split(self._sizes(bottoms[0].shape[self.axis]), self.axis))

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        axis = canonical_axis(self.axis, x.shape)
        free = x.shape[axis] is None
        if not self.points and free and (out.target in OPENCV or out.target in _KNOWN_SPLIT):
            self._split_to_onnx(out, axis)
            return
        starts: list[Sizes | int] = [0, *self.points]
        if not self.points:
            part = out.size(x, [axis]) // self.parts
            starts = [part * i for i in range(self.parts)]
        for i, (start, end) in enumerate(zip(starts, [*starts[1:], TO_THE_END], strict=True)):
            ends = out.sizes([start]), out.sizes([end])
            if not (free and self.points[i:]) or out.target in OPENCV:
                out.slice(x, [axis], *ends, index=i)
                continue
            # A slice takes what is there; what does not fit ends Caffe (slice_layer.cpp, Reshape), and a Reshape.
            cut = out.slice(x, [axis], *ends, part=f"part{i}")
            length = self.points[i] - (0, *self.points)[i]
            out.reshape(cut, [*kept(x, axis), length, *kept(x)[axis + 1 :]], index=i)

    def _split_to_onnx(self, out: OnnxLayer, axis: int) -> None:
        """Equal parts of a free size: onnxruntime refuses a size that is no multiple, as Caffe does."""
        x, lengths, count = out.bottoms[0], [], {}
        if out.target in OPENCV:  # its classic engine has no Shape
            count = {"num_outputs": self.parts} if out.opset >= 18 else {}
        elif out.opset >= 18:  # where the last part of an operator that counts parts may be shorter
            lengths = [out.sizes([out.size(x, [axis]) // self.parts] * self.parts)]
        out.node_of_several("Split", [x, *lengths], range(self.parts), axis=axis, **count)

    def to_python(self, site: Site) -> Form:
        if site.tops == 1:
            return Form((site.x,))
        where = f"[{', '.join(map(str, self.points))}]" if self.points else self.parts
        return Form((call("torch.tensor_split", site.x, where, dim=self.axis % site.rank),))


def _axis(spec: LayerSpec, message: Any, old_name: str) -> int:
    """`axis`, or its older name, which cannot be negative."""
    if message.HasField("axis") and message.HasField(old_name):
        raise refuse(spec, f"both axis and {old_name} are given", hint="keep axis")
    return int(getattr(message, old_name) if message.HasField(old_name) else message.axis)


@register_layer("Split")
@dataclass(frozen=True)
class Split(Layer):
    """The bottom under several names; Caffe writes it where a blob has several consumers."""

    tops: int

    bottom_count: ClassVar[tuple[int, float]] = (1, 1)
    top_count: ClassVar[tuple[int, float]] = (1, inf)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Split:
        return cls(len(spec.tops))

    def shares_memory(self, *, bottoms: int, tops: int) -> bool:
        return True

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (bottoms[0],) * self.tops

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],) * self.tops

    @property
    def idle(self) -> bool:
        return True

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0],) * self.tops

    def to_onnx(self, out: OnnxLayer) -> None:
        for index in range(self.tops):
            out.top("Identity", out.bottoms, index=index)

    def to_python(self, site: Site) -> Form:
        return Form((site.x,) * site.tops)


@register_layer("Gather", "Scatter")
@dataclass(frozen=True)
class Gather(Layer):
    """Each bottom under another name: what several processes have of a batch, put together, where one has all of it.

    Source: yjxiong/caffe, src/caffe/layers/gather_layer.cpp and scatter_layer.cpp, without MPI.
    """

    bottom_count: ClassVar[tuple[int, float]] = (1, inf)
    top_count: ClassVar[tuple[int, float]] = (1, inf)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Gather:
        if len(spec.bottoms) != len(spec.tops):
            raise refuse(spec, f"{len(spec.bottoms)} bottoms but {len(spec.tops)} tops; each bottom has its top")
        return cls()

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return tuple(bottoms)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL if bottom == top else NOTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return tuple(bottoms)

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return tuple(bottoms)

    def to_onnx(self, out: OnnxLayer) -> None:
        for index, x in enumerate(out.bottoms):
            out.top("Identity", [x], index=index)

    def to_python(self, site: Site) -> Form:
        return Form(site.bottoms)


@register_layer("Silence")
@dataclass(frozen=True)
class Silence(Layer):
    """Consumes blobs that would otherwise be outputs of the net."""

    bottom_count: ClassVar[tuple[int, float]] = (1, inf)
    top_count: ClassVar[tuple[int, float]] = (0, 0)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ()

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return ()

    @property
    def idle(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return ()

    def to_onnx(self, out: OnnxLayer) -> None:
        """Nothing: it has no tops."""

    def to_python(self, site: Site) -> Form:
        return Form(())
