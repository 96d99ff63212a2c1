"""DenseCRF of DeepLab's fork: mean field inference of a dense CRF with fixed weights (densecrf_layer.cpp).

Source: DeepLab v1 and v2, in synopsys-caffe too: src/caffe/layers/densecrf_layer.cpp and
src/caffe/util/densecrf_pairwise.cpp; Kraehenbuehl and Koltun, Efficient Inference in Fully Connected CRFs with Gaussian
Edge Potentials, 2011. Its exponential is an approximation there (fast_exp), and exact here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

from .base import as_image, refuse, register_layer
from .fork import fork_message
from .lattice import MOST_ITERATIONS, DenseField, Lattice, lattice, norm_of, places_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape


@register_layer("DenseCRF")
@dataclass(frozen=True)
class DenseCRF(DenseField):
    """Mean field: bottoms the scores (n, c, h, w), each image's true (h, w) as (n, 2, 1, 1), and images (n, 3, h, w).

    The top is the probabilities, or with `output_probability: false` their logarithms; what lies beyond an image's true
    size is 0 and takes no part. `spatial` has the (weight, deviation) of each filter on places, `bilateral` the
    (weight, deviation of places, deviation of colours) of each on places and colours, of the images as they are given.
    """

    iterations: int
    spatial: tuple[tuple[float, float], ...]
    bilateral: tuple[tuple[float, float, float], ...]
    probability: bool

    bottom_count: ClassVar[tuple[int, float]] = (2, 3)

    @classmethod
    def parse(cls, spec: LayerSpec) -> DenseCRF:
        message = fork_message(spec, "dense_crf_param")
        iterations = message.integer("max_iter", 10)
        if not 0 <= iterations <= MOST_ITERATIONS:
            raise refuse(spec, f"max_iter is {iterations}; expected 0 to {MOST_ITERATIONS}")
        places = message.numbers("pos_w"), message.numbers("pos_xy_std")
        colours = message.numbers("bi_w"), message.numbers("bi_xy_std"), message.numbers("bi_rgb_std")
        if len({len(each) for each in places}) > 1 or len({len(each) for each in colours}) > 1:
            raise refuse(spec, "pos_w and pos_xy_std, or bi_w, bi_xy_std and bi_rgb_std, differ in how many there are")
        if min((*places[1], *colours[1], *colours[2]), default=1.0) < 1e-3:
            raise refuse(spec, "a deviation is not above 0")
        if len(spec.bottoms) > 2 and not colours[0]:
            raise refuse(spec, "there is an image and no bilateral filter: give bi_w, bi_xy_std and bi_rgb_std")
        probability = message.flag("output_probability", default=True)
        bilateral = tuple(zip(*colours, strict=True)) if len(spec.bottoms) > 2 else ()
        return cls(iterations, tuple(zip(*places, strict=True)), bilateral, probability)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, _, h, w = as_image(bottoms[0])
        if bottoms[1][:1] != (n,) or prod(bottoms[1]) != 2 * n:
            raise ValueError(f"the true sizes must be ({n}, 2), a height and a width for each image")
        if len(bottoms) > 2 and bottoms[2] != (n, 3, h, w):
            raise ValueError(f"the images must be ({n}, 3, {h}, {w})")
        return (bottoms[0],)

    def bottom_shapes(self) -> dict[int, tuple[int | None, ...]]:
        return {1: (None, 2, 1, 1)}

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return self.iterations * prod(tops[0]) * (3 * len(self.spatial) + 6 * len(self.bilateral))

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        scores = bottoms[0]
        top = torch.zeros_like(scores)
        _, _, h, w = scores.shape
        for item, size in enumerate(bottoms[1].flatten(1)):
            height, width = (min(int(each), room) for each, room in zip(size, (h, w), strict=True))
            if min(height, width) < 1:
                continue
            image = bottoms[2][item, :, :height, :width] if len(bottoms) > 2 else None
            top[item, :, :height, :width] = self._infer(scores[item, :, :height, :width], image)
        return (top,)

    def _infer(self, scores: Tensor, image: Tensor | None) -> Tensor:
        """The inference for one image; scores (c, h, w)."""
        import torch

        c, h, w = scores.shape
        start = scores.reshape(c, -1).t()
        filters = self._filters(h, w, image, scores)
        norms = [weight * norm_of(each, h * w, start) for weight, each in filters]
        likely = start.softmax(1)
        for _ in range(self.iterations):
            after = start
            for (_, each), norm in zip(filters, norms, strict=True):
                after = after + norm * each.filter(likely)
            likely = after.softmax(1)
        if not self.probability:
            likely = likely.clamp(min=torch.finfo(torch.float32).tiny).log()
        return likely.t().reshape(c, h, w)

    def _filters(self, h: int, w: int, image: Tensor | None, like: Tensor) -> list[tuple[float, Lattice]]:
        import torch

        places = places_of(h, w, like)
        found = [(weight, lattice(places / deviation)) for weight, deviation in self.spatial]
        if image is not None:
            colours = image.flatten(1).t().to(torch.float32)
            for weight, deviation, of_colours in self.bilateral:
                found.append((weight, lattice(torch.cat([places / deviation, colours / of_colours], 1))))
        return found
