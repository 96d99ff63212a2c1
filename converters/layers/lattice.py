"""Filters on a permutohedral lattice, and the layers of a dense CRF, which infer by them.

Source: modified_permutohedral.cpp of torrvision/caffe, branch crfrnn (with SSE, as it is built); Adams, Baek and Davis,
Fast High-Dimensional Filtering Using the Permutohedral Lattice, 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, ClassVar

from ..net.reach import EVERYTHING, Reach
from .base import Layer

if TYPE_CHECKING:
    from torch import Tensor

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
        spread = (self.share[:, :, None] * values[:, None]).flatten(0, 1)
        on = spread.new_zeros(vertices + 1, values.shape[1])  # the last is what is beside a vertex without neighbour
        on.index_add_(0, self.vertex.flatten(), spread)
        for one, other in self.beside:
            on[:-1] = on[:-1] + 0.5 * (on[one] + on[other])
        alpha = 1 / (1 + 2 ** -(axes - 1))
        found: Tensor = (on[self.vertex] * self.share[:, :, None]).sum(1) * alpha
        return found.to(values.dtype)


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
    is_wide = room**d > torch.iinfo(torch.int64).max  # as where an image has values of 16 bits and a theta is for 8
    found = []
    for axis in range(d + 1):
        move = torch.full((d,), -1, device=vertices.device)
        if axis < d:
            move[axis] = d
        for way in (move, -move):
            wanted = vertices + way
            found.append(_among(vertices, wanted) if is_wide else _by_codes(vertices - low, wanted - low, room))
    return torch.stack(found).reshape(d + 1, 2, count)


def _by_codes(vertices: Tensor, wanted: Tensor, room: int) -> Tensor:
    """The place of each row among others, sorted, each of which is there once; their number where it is not there.

    All numbers are below `room`, so that a row is one number.
    """
    import torch

    powers = torch.tensor([room**i for i in range(vertices.shape[1] - 1, -1, -1)], device=vertices.device)
    codes, code = (vertices * powers).sum(1), (wanted * powers).sum(1)
    place = torch.searchsorted(codes, code).clamp(max=len(codes) - 1)
    return torch.where(codes[place] == code, place, len(codes))


def _among(vertices: Tensor, wanted: Tensor) -> Tensor:
    """The same for numbers of any size, in more time."""
    import torch

    count = len(vertices)
    rows, place = torch.unique(torch.cat([vertices, wanted]), dim=0, return_inverse=True)
    number = place.new_full((len(rows),), count)
    number[place[:count]] = torch.arange(count, device=number.device)
    found: Tensor = number[place[count:]]
    return found


def places_of(h: int, w: int, like: Tensor) -> Tensor:
    """The (x, y) of each pixel, row by row, as features: (h * w, 2) float32."""
    import torch

    y, x = torch.meshgrid(torch.arange(h, device=like.device), torch.arange(w, device=like.device), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1).to(torch.float32)


def norm_of(filtering: Lattice, points: int, like: Tensor) -> Tensor:
    """The numbers (points, 1) that make a filter's shares sum to 1 at each point."""
    return 1 / (filtering.filter(like.new_ones(points, 1)) + 1e-20)


class DenseField(Layer):
    """A layer whose top is one number for each class and pixel of its first bottom, every pixel read by every other."""

    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def to_onnx(self, out: OnnxLayer) -> None:
        raise out.refuse(
            f"{type(self).__name__} looks up the vertices of a permutohedral lattice, for which ONNX has no operator",
            hint="end the net before it with --outputs, and run the CRF in your program or with CaffeNet",
        )
