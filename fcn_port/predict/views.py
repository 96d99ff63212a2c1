"""Averages over views of an image: mirrored, and at other sizes.

Let p(I) be the net's probabilities for an image I: the softmax of its scores, or its output where that is one already.
The average over scales s and, with `flip`, both directions is

    (1 / n) sum_s [up(p(I_s)) + mirror(up(p(mirror(I_s))))]      n = 2 (number of scales)
    (1 / n) sum_s up(p(I_s))                                      without flips, n = number of scales

I_s is the image at round(s h) x round(s w) pixels, at least 1 (of another h and w where a size is asked for), and `up`
brings probabilities back to the image's h x w; both are bilinear between pixel centres, without smoothing. A map of
values is averaged as it is. The label is that of the largest average.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np

from converters.errors import NetError
from converters.given import refuse_other_than

from .meaning import OutputMeaning
from .reading import ReadOutput, upsampled
from .resizing import resize
from .values import Values, mirrored, softmax

MOST_SCALE = 16.0
Read = Callable[[list[np.ndarray]], dict[str, list[ReadOutput]]]
"""A pass of the net over images of one size: for each output what it says of each."""


@dataclass(frozen=True)
class Views:
    """The views that are averaged: the image at these scales, each also mirrored with `flip`.

    With a `size` (h, w) scales are of that instead of the image's own; probabilities come back to the image's.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        refuse_other_than((int, np.bool_, type(None)), self.flip, "flip=True or False")
        if not self.scales or not all(isinstance(scale, Real) and 0 < scale <= MOST_SCALE for scale in self.scales):
            raise ValueError(f"scales are numbers above 0 and up to {MOST_SCALE:g}, at least one of them")

    @property
    def several(self) -> bool:
        return self.flip or self.scales != (1.0,) or self.size is not None

    @property
    def count(self) -> int:
        return len(self.scales) * (2 if self.flip else 1)

    def average(self, read: Read, pixels: Sequence[np.ndarray]) -> dict[str, list[ReadOutput]]:
        """The averages for images (h, w, 3) of one size; NetError for an output that cannot be averaged."""
        h, w = pixels[0].shape[:2]
        ways = [False, True] if self.flip else [False]
        sums: dict[str, list[ReadOutput]] = {}
        base = self.size or (h, w)
        for scale in self.scales:
            size = (max(1, round(scale * base[0])), max(1, round(scale * base[1])))
            smaller = [resize(each, size) for each in pixels]
            for is_mirrored in ways:
                seen = [np.ascontiguousarray(each[:, ::-1]) for each in smaller] if is_mirrored else smaller
                _add(sums, read(seen), (h, w), is_mirrored=is_mirrored)
        return {name: [replace(each, values=each.values / self.count) for each in own] for name, own in sums.items()}


AS_IT_IS = Views()
"""The image alone."""


def _add(
    sums: dict[str, list[ReadOutput]],
    found: Mapping[str, list[ReadOutput]],
    size: tuple[int, int],
    *,
    is_mirrored: bool,
) -> None:
    for name, own in found.items():
        made = [_probable(each, size, is_mirrored=is_mirrored) for each in own]
        before = sums.get(name)
        if before is not None:
            made = [replace(a, values=a.values + b.values) for a, b in zip(before, made, strict=True)]
        sums[name] = made


def _probable(read: ReadOutput, size: tuple[int, int], *, is_mirrored: bool) -> ReadOutput:
    """The answer of a view, as probabilities at the image's own size and the right way round."""
    meaning, values = probabilities(read)
    if tuple(values.shape[1:]) != size:
        values = upsampled(values[None], size)[0]
    return ReadOutput(meaning, mirrored(values) if is_mirrored else values, read.coarse)


def probabilities(read: ReadOutput) -> tuple[OutputMeaning, Values]:
    """An output as probabilities, or as it is where it is a map; NetError for labels, which have none."""
    meaning = read.meaning
    if meaning.kind == "labels":
        raise NetError("the net gives labels, of which there is no average", hint="flips, scales and CRFs want scores")
    if meaning.kind != "scores":
        return meaning, read.values
    return OutputMeaning("probabilities", "Softmax", meaning.channels), softmax(read.values)
