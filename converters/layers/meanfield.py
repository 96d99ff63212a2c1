"""MultiStageMeanfield of CRF-RNN: mean field inference of a dense CRF, with filters on a permutohedral lattice.

Source: torrvision/caffe, branch crfrnn, multi_stage_meanfield.cpp, meanfield_iteration.cpp and, for the lattice,
modified_permutohedral.cpp (with SSE, as it is built); Adams, Baek and Davis, Fast High-Dimensional Filtering Using the
Permutohedral Lattice, 2010; Zheng et al., Conditional Random Fields as Recurrent Neural Networks, ICCV 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, ClassVar

from ..net.reach import EVERYTHING, Reach
from .base import Layer, as_image, refuse, register_layer
from .fork import fork_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer

MOST_ITERATIONS = 1000
AT_ONCE = 4
"""Points that the source works on at once: it fills up the last ones with points whose features are 0."""


@dataclass(frozen=True)
class Lattice:
    """Points among the vertices of a permutohedral lattice.

    `vertex` and `share` (points, d + 1) are the corners of each point's simplex and its barycentric coordinates;
    `beside` (d + 1, 2, vertices) the neighbours along each axis, the number of vertices where there is none.
    """

    vertex: Tensor
    share: Tensor
    beside: Tensor

    def filter(self, values: Tensor) -> Tensor:
        """`values` (points, c) blurred by a Gaussian of deviation 1 in the features: splat, blur, slice."""
        axes, vertices = self.vertex.shape[1], self.beside.shape[2]
        on = values.new_zeros(vertices + 1, values.shape[1])  # the last is what is beside a vertex without neighbour
        spread = (self.share[:, :, None] * values[:, None]).flatten(0, 1)
        on.index_add_(0, self.vertex.flatten(), spread)
        for one, other in self.beside:
            on[:-1] = on[:-1] + 0.5 * (on[one] + on[other])
        alpha = 1 / (1 + 2 ** -(axes - 1))
        found: Tensor = (on[self.vertex] * self.share[:, :, None]).sum(1) * alpha
        return found


def lattice(features: Tensor) -> Lattice:
    """The lattice of `features` (points, d), each a place in units of the filter's deviation."""
    import torch

    count, d = features.shape
    spare = -count % AT_ONCE
    elevated = _elevate(torch.cat([features, features.new_zeros(spare, d)]))
    rounded = (elevated / (d + 1)).round()  # halves to even, as SSE does
    zero = rounded * (d + 1)
    away = elevated - zero
    less = (away[:, :, None] < away[:, None, :]).long()
    upper = torch.ones(d + 1, d + 1, dtype=torch.long, device=features.device).triu(1)
    rank = (less * upper).sum(2) + ((1 - less) * upper).sum(1) + rounded.sum(1, keepdim=True).long()
    wrapped = (rank < 0).long() - (rank > d).long()
    rank, zero = rank + wrapped * (d + 1), zero + wrapped * (d + 1)
    part = (elevated - zero) / (d + 1)
    share = elevated.new_zeros(len(elevated), d + 2)
    share.scatter_add_(1, d - rank, part).scatter_add_(1, d - rank + 1, -part)
    share[:, 0] += 1 + share[:, d + 1]
    corner = torch.arange(d + 1, device=features.device)
    steps = corner[:, None] - (d + 1) * (torch.arange(d + 1, device=features.device) > d - corner[:, None]).long()
    keys = zero.long()[:, None, :d] + steps[:, rank[:, :d]].permute(1, 0, 2)
    vertices, vertex = torch.unique(keys.flatten(0, 1), dim=0, return_inverse=True)
    return Lattice(vertex.reshape(-1, d + 1)[:count], share[:count, : d + 1], _beside(vertices))


def _elevate(features: Tensor) -> Tensor:
    """The features on the plane of the lattice in one axis more (p. 5 of the paper)."""
    import torch

    d = features.shape[1]
    deviation = sqrt(2 / 3) * (d + 1)
    scaled = [features[:, i] * (deviation / sqrt((i + 2) * (i + 1))) for i in range(d)]
    total, places = torch.zeros_like(scaled[0]), []
    for axis in range(d, 0, -1):
        places.append(total - axis * scaled[axis - 1])
        total = total + scaled[axis - 1]
    return torch.stack([total, *places[::-1]], 1)


def _beside(vertices: Tensor) -> Tensor:
    """The numbers of the neighbours of sorted vertices (vertices, d) along each of d + 1 axes."""
    import torch

    count, d = vertices.shape
    low = vertices.min(0).values - d - 1
    room = int((vertices.max(0).values - low).max()) + d + 2
    powers = torch.tensor([room**i for i in range(d - 1, -1, -1)], device=vertices.device)
    codes = ((vertices - low) * powers).sum(1)
    found = []
    for axis in range(d + 1):
        move = torch.full((d,), -1, device=vertices.device)
        if axis < d:
            move[axis] = d
        for way in (move, -move):
            wanted = ((vertices + way - low) * powers).sum(1)
            place = torch.searchsorted(codes, wanted).clamp(max=count - 1)
            found.append(torch.where(codes[place] == wanted, place, count))
    return torch.stack(found).reshape(d + 1, 2, count)


@register_layer("MultiStageMeanfield")
@dataclass(frozen=True)
class MultiStageMeanfield(Layer):
    """CRF-RNN's mean field: bottoms the unaries, where to begin, and the image (n, 3, h, w); blobs three (1, 1, c, c).

    Each step: softmax, a spatial filter (theta_gamma) and a bilateral one (theta_alpha, theta_beta), each normalized
    and times its blob, their sum times the third blob taken from the unaries.
    """

    iterations: int
    alpha: float
    beta: float
    gamma: float

    bottom_count: ClassVar[tuple[int, float]] = (3, 3)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> MultiStageMeanfield:
        message = fork_message(spec, "multi_stage_meanfield_param")
        iterations = message.integer("num_iterations", 1)
        if message.word("compatibility_mode", "POTTS") not in ("POTTS", "0"):
            raise refuse(spec, "compatibility_mode is not POTTS, the only one that there is")
        alpha, beta, gamma = (message.number(f"theta_{name}", 10.0) for name in ("alpha", "beta", "gamma"))
        if not 2 <= iterations <= MOST_ITERATIONS or not min(alpha, beta, gamma) > 1e-3:
            raise refuse(spec, f"num_iterations {iterations}: expected 2 to {MOST_ITERATIONS}, and thetas above 0")
        return cls(iterations, alpha, beta, gamma)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, _, h, w = as_image(bottoms[0])
        if bottoms[1] != bottoms[0] or bottoms[2] != (n, 3, h, w):
            raise ValueError("expected unaries, a beginning of their shape, and an image (n, 3, h, w)")
        return (bottoms[0],)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((1, 1, bottoms[0][1], bottoms[0][1]),) * 3

    def filler_fields(self) -> tuple[str, ...]:
        return ()

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        n, c, h, w = as_image(tops[0])
        return self.iterations * n * h * w * 3 * c * c

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        spatial, bilateral, compatibility = (blob.reshape(blob.shape[-2:]) for blob in blobs)
        return (
            torch.stack(
                [
                    self._infer(unary, begin, image, (spatial, bilateral, compatibility))
                    for unary, begin, image in zip(*bottoms, strict=True)
                ]
            ),
        )

    def _infer(self, unary: Tensor, begin: Tensor, image: Tensor, weights: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The inference for one image; unary and begin (c, h, w)."""
        import torch

        c, h, w = unary.shape
        y, x = torch.meshgrid(torch.arange(h, device=unary.device), torch.arange(w, device=unary.device), indexing="ij")
        places = torch.stack([x.flatten(), y.flatten()], 1).to(torch.float32)
        colours = image.flatten(1).t().to(torch.float32) / self.beta
        filters = (lattice(places / self.gamma), lattice(torch.cat([places / self.alpha, colours], 1)))
        ones = unary.new_ones(h * w, 1)
        norms = [1 / (each.filter(ones) + 1e-20) for each in filters]
        now = begin
        for _ in range(self.iterations):
            likely = now.flatten(1).softmax(0).t()
            sides = [each.filter(likely) * norm for each, norm in zip(filters, norms, strict=True)]
            message = weights[0] @ sides[0].t() + weights[1] @ sides[1].t()
            now = unary - (weights[2] @ message).reshape(c, h, w)
        return now

    def to_onnx(self, out: OnnxLayer) -> None:
        raise out.refuse(
            "MultiStageMeanfield looks up the vertices of a permutohedral lattice, for which ONNX has no operator",
            hint="end the net before it with --outputs, and run the CRF in your program or with CaffeNet",
        )
