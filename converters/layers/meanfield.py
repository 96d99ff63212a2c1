"""MultiStageMeanfield of CRF-RNN: mean field inference of a dense CRF, with filters on a permutohedral lattice.

Source: torrvision/caffe, branch crfrnn, multi_stage_meanfield.cpp and meanfield_iteration.cpp; Zheng et al.,
Conditional Random Fields as Recurrent Neural Networks, ICCV 2015. The filters are lattice.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import as_image, refuse, register_layer
from .fork import fork_message
from .lattice import MOST_ITERATIONS, DenseField, lattice, norm_of, places_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape


@register_layer("MultiStageMeanfield")
@dataclass(frozen=True)
class MultiStageMeanfield(DenseField):
    """CRF-RNN's mean field: bottoms the unaries, where to begin, and the image (n, 3, h, w); blobs three (1, 1, c, c).

    Each step: softmax, a spatial filter (theta_gamma) and a bilateral one (theta_alpha, theta_beta), each normalized
    and times its blob, their sum times the third blob taken from the unaries.
    """

    iterations: int
    alpha: float
    beta: float
    gamma: float

    bottom_count: ClassVar[tuple[int, float]] = (3, 3)

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
        places = places_of(h, w, unary)
        colours = image.flatten(1).t().to(torch.float32) / self.beta
        filters = (lattice(places / self.gamma), lattice(torch.cat([places / self.alpha, colours], 1)))
        norms = [norm_of(each, h * w, unary) for each in filters]
        now = begin
        for _ in range(self.iterations):
            likely = now.flatten(1).softmax(0).t()
            sides = [each.filter(likely) * norm for each, norm in zip(filters, norms, strict=True)]
            message = weights[0] @ sides[0].t() + weights[1] @ sides[1].t()
            now = unary - (weights[2] @ message).reshape(c, h, w)
        return now
