"""A learning rate from another batch size or normalisation, as the one that moves the weights as much for each image.

An update moves the weights by rate times the gradient of a sum over images and pixels, divided by what `Gathering`
says. Where the divisor changes by a factor, the rate has to change by the same one: 1e-10 of the unnormalised loss of
the release is 1e-10 * 180000 = 1.8e-5 of the mean over pixels, if an image has 180000 of them.

Momentum stays. The paper remarks (PAMI 2016, section 4) that p images a batch with momentum m remember as far back as
p' with m' if m^(1/p) = m'^(1/p'); `equal_memory` gives it, for whoever wants that too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..data.records import DataSet
from .choices import Normalization


@dataclass(frozen=True)
class Gathering:
    """The images of an update, of all processes together: images in a pass, passes, and the divisor of a loss."""

    batch_size: int
    iter_size: int
    normalization: Normalization

    @property
    def images(self) -> int:
        """The images of an update."""
        return self.batch_size * self.iter_size

    def divisor(self, pixels: Callable[[], float]) -> float:
        """The divisor of the sum over all images and pixels of an update; `pixels` are those of an image."""
        if self.normalization == "NONE":
            return self.iter_size
        if self.normalization == "BATCH_SIZE":
            return self.images
        return self.images * pixels()


@dataclass(frozen=True)
class Translation:
    """A learning rate, the one that it was made of, and in words why."""

    rate: float
    source: float
    reason: str


def translate(rate: float, source: Gathering, goal: Gathering, *, pixels: Callable[[], float]) -> Translation:
    """The rate for `goal` that moves the weights, for each image, as `rate` does for `source`.

    `pixels` is asked only where it matters: how many pixels of an image count.
    """
    if source == goal:
        return Translation(rate, rate, "")
    found = rate * goal.divisor(pixels) / source.divisor(pixels)
    changes = []
    if source.images != goal.images:
        changes.append(f"{goal.images} images an update instead of {source.images}")
    if source.normalization != goal.normalization:
        changes.append(f"normalization {goal.normalization} instead of {source.normalization}")
    normalised = {"VALID", "FULL"} & {source.normalization, goal.normalization}
    if source.normalization != goal.normalization and normalised:
        changes.append(f"an image has {pixels():.0f} pixels that count")
    if found == rate:
        return Translation(rate, rate, "")
    return Translation(found, rate, "; ".join(changes))


def equal_memory(momentum: float, source: Gathering, goal: Gathering) -> float:
    """The momentum with which `goal` remembers as many images as `source` does."""
    return float(momentum ** (goal.images / source.images))


def pixels_of(data: DataSet, *, normalization: Normalization, limit: int = 100) -> float:
    """The mean number of pixels of an image that a normalised loss counts, over `limit` images spread over the list."""
    chosen = data.ids[:: max(1, len(data.ids) // limit)][:limit]
    counts: list[int] = []
    for id_ in chosen:
        labels = next(iter(data.read(id_).labels.values()))
        counts.append(labels.size if normalization == "FULL" else int(np.count_nonzero(labels != data.ignore_label)))
    return float(np.mean(counts))
