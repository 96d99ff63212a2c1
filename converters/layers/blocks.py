"""Places moved between axes: TensorFlow's blocks as in Synopsys' fork of Caffe, and ShuffleNet's channels.

Source: synopsys-caffe (github.com/foss-for-synopsys-dwc-arc-processors), src/caffe/layers/space_to_batch_nd_layer.cpp,
batch_to_space_nd_layer.cpp, space_to_depth_layer.cpp, depth_to_space_layer.cpp; farmingyard/ShuffleNet,
shuffle_channel_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from ..net.onnx_form import OPENCV
from ..net.python_form import Form, call, unless
from ..net.reach import EVERYTHING, PIXEL, Reach
from .base import Neuron, OneToOne, as_image, in_order, kept, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer, Operand
    from ..net.python_form import Site


@dataclass(frozen=True)
class Blocks(OneToOne):
    """`block` along the axes from 1 on, with (before, after) that are padded or cropped along each of them."""

    block: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, spec: LayerSpec, message_name: str, edges_name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """block_shape and the edges of a layer, checked."""
        message = fork_message(spec, message_name)
        block, edges = message.integers("block_shape"), message.integers(edges_name)
        if min(block, default=1) < 1 or min(edges, default=0) < 0 or len(edges) != 2 * len(block):
            raise refuse(spec, f"block_shape {block} and {edges_name} {edges}; expected two edges for each block")
        return block, edges

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    @property
    def moves(self) -> bool:
        return not any(map(any, self.edges))

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],) if self.block[:1] == (1,) and not any(self.edges[0]) else None


@register_layer("SpaceToBatchND")
@dataclass(frozen=True)
class SpaceToBatchND(Blocks):
    """Each place in a block of the padded bottom becomes an item of the batch (tf.space_to_batch_nd)."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> SpaceToBatchND:
        block, edges = cls.read(spec, "space_to_batch_nd_param", "paddings")
        return cls(block, tuple(zip(edges[::2], edges[1::2], strict=True)))

    def _padded(self, shape: Shape) -> list[int]:
        if len(self.block) >= len(shape):
            raise ValueError(f"a block of {self.block} in a blob with {len(shape)} axes")
        return [size + sum(edge) for size, edge in zip(shape[1:], self.edges, strict=False)]

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        shape, padded = bottoms[0], self._padded(bottoms[0])
        if any(size % block for size, block in zip(padded, self.block, strict=True)):
            raise ValueError(f"the padded sizes {padded} are no multiples of the block {self.block}")
        inner = (size // block for size, block in zip(padded, self.block, strict=True))
        return ((shape[0] * prod(self.block), *inner, *shape[len(self.block) + 1 :]),)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from torch.nn.functional import pad

        x, axes = bottoms[0], len(self.block)
        rest = list(x.shape[axes + 1 :])
        x = pad(x, [side for pads in (*[(0, 0)] * len(rest), *self.edges[::-1]) for side in pads])
        sizes = [part for size, b in zip(x.shape[1:], self.block, strict=False) for part in (size // b, b)]
        split = x.reshape(x.shape[0], *sizes, *rest)
        order = [2 + 2 * i for i in range(axes)] + [0] + [1 + 2 * i for i in range(axes)]
        moved = split.permute(*order, *range(2 * axes + 1, split.ndim))
        return (moved.reshape(-1, *sizes[::2], *rest),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x, axes = out.bottoms[0], len(self.block)
        rest = range(axes + 1, len(x.shape))
        sides = [(0, 0), *self.edges, *[(0, 0) for _ in rest]]
        before, after = zip(*sides, strict=True)
        padded = out.pad(x, [*before, *after], part="padded")
        inner = (out.size(x, range(1, axes + 1)) + [sum(edge) for edge in self.edges]) // self.block
        split = [part for i, b in enumerate(self.block) for part in (inner[i], b)]
        order = [2 + 2 * i for i in range(axes)] + [0] + [1 + 2 * i for i in range(axes)]
        blocks = out.reshape(padded, [*kept(x, 1), *split, out.size(x, rest)], part="blocks")
        perm = [*order, *range(2 * axes + 1, 2 * axes + 1 + len(rest))]
        moved = out.node("Transpose", [blocks], part="moved", perm=perm)
        out.reshape(moved, [-1, inner, out.size(x, rest)])


@register_layer("BatchToSpaceND")
@dataclass(frozen=True)
class BatchToSpaceND(Blocks):
    """Items of the batch become the places of blocks, which are cropped then (tf.batch_to_space_nd)."""

    @classmethod
    def parse(cls, spec: LayerSpec) -> BatchToSpaceND:
        block, edges = cls.read(spec, "batch_to_space_nd_param", "crops")
        return cls(block, tuple(zip(edges[::2], edges[1::2], strict=True)))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        shape = bottoms[0]
        if len(self.block) >= len(shape) or shape[0] % prod(self.block):
            raise ValueError(f"a batch of {shape[0]} and {len(shape)} axes do not hold blocks of {self.block}")
        inner = [size * block - sum(edge) for size, block, edge in zip(shape[1:], self.block, self.edges, strict=False)]
        return ((shape[0] // prod(self.block), *inner, *shape[len(self.block) + 1 :]),)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x, axes = bottoms[0], len(self.block)
        split = x.reshape(*self.block, -1, *x.shape[1:])
        order = [axes] + [i for pair in zip(range(axes + 1, 2 * axes + 1), range(axes), strict=True) for i in pair]
        moved = split.permute(*order, *range(2 * axes + 1, split.ndim))
        sizes = [size * block for size, block in zip(x.shape[1:], self.block, strict=False)]
        whole = moved.reshape(-1, *sizes, *x.shape[axes + 1 :])
        inside = (slice(before, size - after) for size, (before, after) in zip(sizes, self.edges, strict=True))
        cut = (slice(None), *inside)
        return (whole[cut],)

    def to_onnx(self, out: OnnxLayer) -> None:
        x, axes = out.bottoms[0], len(self.block)
        size, rest = out.size(x, range(1, axes + 1)), range(axes + 1, len(x.shape))
        blocks = out.reshape(x, [*self.block, -1, size, out.size(x, rest)], part="blocks")
        order = [axes] + [i for pair in zip(range(axes + 1, 2 * axes + 1), range(axes), strict=True) for i in pair]
        moved = out.node(
            "Transpose", [blocks], part="moved", perm=[*order, *range(2 * axes + 1, 2 * axes + 1 + len(rest))]
        )
        whole = out.reshape(moved, [-1, size * self.block, out.size(x, rest)], part="whole")
        before, after = zip(*self.edges, strict=True)
        out.slice(whole, range(1, axes + 1), before, size * self.block - after)


@register_layer("SpaceToDepth", "DepthToSpace")
@dataclass(frozen=True)
class DepthToSpace(OneToOne):
    """Blocks of h and w into channels, or channels into blocks; as in TensorFlow the channels of a block come last.

    `layout` is NHWC (the default), NCHW (DCR: a block's place is the outer part of the channel), or CRD (the inner).
    """

    block: int
    layout: str
    to_space: bool

    @classmethod
    def parse(cls, spec: LayerSpec) -> DepthToSpace:
        to_space = spec.type == "DepthToSpace"
        message = fork_message(spec, "depth_to_space_param" if to_space else "space_to_depth_param")
        block, layout = message.integer("block_size", 0), message.word("data_format", "NHWC")
        if block < 1 or layout not in ("NHWC", "NCHW", *(("DCR", "CRD") if to_space else ())):
            raise refuse(spec, f"block_size {block}, data_format {layout!r}; expected 1 or more, and NHWC or NCHW")
        return cls(block, "NCHW" if layout == "DCR" else layout, to_space)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, *rest = as_image(bottoms[0])
        h, w, c = rest if self.layout == "NHWC" else (*rest[1:], rest[0])
        block = self.block
        if c % block**2 if self.to_space else h % block or w % block:
            raise ValueError(f"{c} channels of {h} x {w} do not go into blocks of {block} x {block}")
        h, w, c = (h * block, w * block, c // block**2) if self.to_space else (h // block, w // block, c * block**2)
        return ((n, h, w, c) if self.layout == "NHWC" else (n, c, h, w),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        if self.layout == "NHWC":  # axis 1 is h
            return (bottoms[0] * self.block if self.to_space else bottoms[0] // self.block,)
        return (bottoms[0] // self.block**2 if self.to_space else bottoms[0] * self.block**2,)

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        from .functions import depth_to_space, space_to_depth

        x = bottoms[0].permute(0, 3, 1, 2) if self.layout == "NHWC" else bottoms[0]
        inner = self.layout == "CRD"
        top = depth_to_space(x, self.block, inner) if self.to_space else space_to_depth(x, self.block)
        return (top.permute(0, 2, 3, 1) if self.layout == "NHWC" else top,)

    def to_onnx(self, out: OnnxLayer) -> None:
        x: Operand = out.bottoms[0]
        last = self.layout == "NHWC"
        if last:
            x = out.node("Transpose", [x], part="image", perm=(0, 3, 1, 2))
        how: dict[str, Any] = {"mode": "CRD" if self.layout == "CRD" else "DCR"} if self.to_space else {}
        op = "DepthToSpace" if self.to_space else "SpaceToDepth"
        top = out.make(op, [x], part="moved" if last else None, blocksize=self.block, **how)
        if last:
            out.top("Transpose", [top], perm=(0, 2, 3, 1))

    def to_python(self, site: Site) -> Form:
        x = f"{site.x}.permute(0, 3, 1, 2)" if self.layout == "NHWC" else site.x
        function = "depth_to_space" if self.to_space else "space_to_depth"
        top = call(function, x, self.block, inner=unless(False, self.layout == "CRD"))
        return Form((f"{top}.permute(0, 2, 3, 1)" if self.layout == "NHWC" else top,))


@register_layer("ShuffleChannel")
@dataclass(frozen=True)
class ShuffleChannel(Neuron):
    """Channel i of g groups of k goes to place (i mod k) * g + i div k: a transpose of (g, k)."""

    group: int

    @classmethod
    def parse(cls, spec: LayerSpec) -> ShuffleChannel:
        group = fork_message(spec, "shuffle_channel_param").integer("group", 1)
        if group < 1:
            raise refuse(spec, f"group is {group}; it must be at least 1")
        return cls(group)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) < 2 or bottoms[0][1] % self.group:
            raise ValueError(f"the channels of {bottoms[0]} do not go into {self.group} groups")
        return (bottoms[0],)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return PIXEL

    @property
    def moves(self) -> bool:
        return True

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x = bottoms[0]
        return (in_order(x.unflatten(1, (self.group, -1)).transpose(1, 2)).flatten(1, 2),)

    def to_onnx(self, out: OnnxLayer) -> None:
        x = out.bottoms[0]
        channels = x.shape[1]
        if channels is None:
            raise out.refuse("the number of channels is free", hint="give the layer before it a num_output")
        if out.target in OPENCV and len(x.shape) == 4:
            out.top("ShuffleChannel", [x], group=self.group)
            return
        groups = out.reshape(x, [*kept(x, 1), self.group, channels // self.group, -1], part="groups")
        moved = out.node("Transpose", [groups], part="moved", perm=(0, 2, 1, 3))
        out.reshape(moved, [*kept(x, 1), channels, out.size(x, range(2, len(x.shape)))])

    def to_python(self, site: Site) -> Form:
        return Form((f"{site.x}.unflatten(1, ({self.group}, -1)).transpose(1, 2).flatten(1, 2)",))
