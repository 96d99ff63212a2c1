"""An output of a net as what it means: labels for pixels, probabilities or values, at the image's own size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from converters.errors import NetError
from converters.net import CoordMap

from .meaning import NetOutputs, OutputMeaning
from .values import Values, largest, numbers_like, taken, whole

THRESHOLD = 0.5
"""The probability from which on a pixel is of a class, where none is asked for."""


@dataclass(frozen=True, eq=False)
class ReadOutput:
    """One output for one image: `values` (channels, h, w), and what they mean.

    `coarse` is the size (h, w) that the net gave, where that is less than the image's: then `values` are interpolated.
    """

    meaning: OutputMeaning
    values: Values
    coarse: tuple[int, int] | None = None

    def labels(self, *, threshold: float | None = None) -> Values:
        """The label of each pixel, (h, w), as the values are on their device.

        Of scores the first of the best classes. Of independent probabilities the best one's number, counted from 1,
        where it is at least `threshold`, and 0 elsewhere; of a map 1 where the value is at least `threshold`. NetError
        for what tells no labels.
        """
        kind, values = self.meaning.kind, self.values
        if kind == "labels":
            found = values[0].round()
            if not bool((found == values[0]).all()) or not 0 <= float(found.min()) <= float(found.max()) < 1 << 31:
                raise NetError("the net's labels are no whole numbers from 0 on")
            return whole(found)
        if kind in ("scores", "probabilities"):
            return best_labels(values)
        if kind == "map" and (threshold is None or len(values) > 1):
            raise NetError(f"its output is {self.meaning.said}", hint="a threshold makes two classes of it")
        best, place = largest(values)
        least = THRESHOLD if threshold is None else threshold
        return (place + 1) * (best >= least)


def best_labels(scores: Values) -> Values:
    """The first of the best classes at each position of (classes, h, w)."""
    return largest(scores)[1]


def read_output(outputs: NetOutputs, name: str, found: Values, size: tuple[int, int]) -> list[ReadOutput]:
    """An output that a net gave for n images of `size` (h, w), one by one.

    What is coarser than the images is interpolated: labels by the nearest, all else bilinearly, at the places that the
    net's layers give its positions. NetError for what tells nothing of pixels, or has more positions than pixels.
    """
    meaning = outputs.meaning(name, found.shape)
    if meaning.kind == "classes":
        raise NetError(
            f"its output{_named(name)} is {meaning.said}", hint="fcn_port.classify takes nets that name images"
        )
    given = (int(found.shape[2]), int(found.shape[3])) if found.ndim == 4 else (0, 0)
    if found.ndim != 4 or given[0] > size[0] or given[1] > size[1]:
        raise NetError(
            f"its output{_named(name)} is {tuple(found.shape)} for an image of {size[0]}x{size[1]} pixels; expected "
            f"scores of each pixel, (n, classes, {size[0]}, {size[1]}), or fewer",
            hint="segmenting takes nets that label pixels; run another one as a module: net(x)",
        )
    if given == size:
        return [ReadOutput(meaning, each) for each in found]
    nearest = meaning.kind == "labels"
    fine = upsampled(found, size, places=outputs.maps.get(name), nearest=nearest)
    return [ReadOutput(meaning, each, given) for each in fine]


def upsampled(
    values: Values, size: tuple[int, int], *, places: CoordMap | None = None, nearest: bool = False
) -> Values:
    """Values (n, c, h, w) at the pixels of an image of `size`, bilinearly, or as the nearest has them.

    Position j lies at pixel (j - shift) / scale of `places`; without it positions are spread evenly, their cells
    filling the image, as cv2.resize has it. Beyond the outermost positions their values stay.
    """
    for axis, length in enumerate(size):
        count = int(values.shape[2 + axis])
        at = np.arange(length, dtype=np.float64)
        if places is None:
            at = (at + 0.5) * count / length - 0.5
        else:
            at = at * float(places.scale[axis]) + float(places.shift[axis])
        at = at.clip(0, count - 1)
        below = (at.round() if nearest else np.floor(at).clip(max=max(count - 2, 0))).astype(np.int64)
        low = taken(values, 2 + axis, below)
        if nearest or count == 1:
            values = low
            continue
        weight = numbers_like(values, at - below)
        weight = weight[:, None] if axis == 0 else weight
        values = low + (taken(values, 2 + axis, below + 1) - low) * weight
    return values


def coarse_note(coarse: tuple[int, int], size: Sequence[int]) -> str:
    """A sentence that says that scores were interpolated."""
    return f"the net's output is {coarse[0]}x{coarse[1]} for {size[0]}x{size[1]} pixels: it is upsampled bilinearly"


def label_type(classes: int) -> type[np.integer]:
    """The type of labels of so many classes."""
    return np.uint8 if classes <= 256 else np.int64


def _named(name: str) -> str:
    return f" {name!r}" if name else ""
