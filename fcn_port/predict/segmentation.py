"""`Segmentation`: what a net sees in an image, and pictures of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from converters.errors import CaffeFormatError
from converters.escaping import shortened
from converters.wording import first_of

from .legend import LegendEntry, with_legend
from .notebook import notebook_png
from .palettes import colour_of, has_things_only

_NAMED = 5
"""Classes that the representation names."""
_LEAST_SHARE = 0.0005
"""The least share that a legend names: less would read 0.0%."""
_STRIP = 1 << 20
"""Pixels that are counted or tinted at a time: tinting works in double precision, which is 48 bytes a pixel."""


SegmentationKind = Literal["scores", "probabilities", "independent", "labels"]


@dataclass(frozen=True)
class ClassShare:
    """A class that occurs in a label map: its label, name and colour (RGB), and its share of the pixels, 0 to 1.

    `drawn` is False for the background, which an overlay leaves as the image is; `pixels` is how many it has.
    """

    label: int
    name: str
    share: float
    colour: tuple[int, int, int]
    drawn: bool
    pixels: int


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The labels and scores that a net gives one image.

    `labels` (h, w) is the class of each pixel, the first of the best where scores tie, uint8 (int64 for more than 256
    classes); `scores` (classes, h, w) float32 the net's output, None where it was not kept or told none; `image`
    (h, w, 3) uint8 RGB what it looked at; `classes` the names, if known; `palette` (256, 3) uint8 RGB. `kind` says what
    the scores are: "probabilities" add up to 1, "independent" ones are each of their own class, and of those label 0 is
    none and label k + 1 the class of channel k; `bounded` is False where those are plain values with a threshold.
    `coarse` is the size (h, w) of the net's output where that was less than the image's. In a notebook it shows itself.
    """

    labels: np.ndarray
    scores: np.ndarray | None
    image: np.ndarray
    classes: tuple[str, ...]
    palette: np.ndarray
    kind: SegmentationKind = "scores"
    coarse: tuple[int, int] | None = None
    bounded: bool = True

    def __repr__(self) -> str:
        h, w = self.labels.shape
        shares = [f"{shortened(name)} {share_text(share)}" for name, share in self.share_of_classes().items()]
        scores = "no scores kept" if self.scores is None else f"{self.kind} of {len(self.scores)} classes"
        scores = "labels" if self.kind == "labels" else scores
        return f"Segmentation({h}x{w}, {scores}: {first_of(shares, _NAMED)})"

    def label_image(self) -> Image.Image:
        """The label map as an indexed picture: the pixel values are the labels, the palette gives the colours.

        CaffeFormatError for a label above 255, which an indexed picture cannot hold.
        """
        if self.labels.max(initial=0) > 255:
            raise CaffeFormatError(
                f"label {self.labels.max()}: an indexed picture holds 0 to 255",
                hint="in Python, fcn_port.segment(...).labels has all of them",
            )
        picture = Image.fromarray(self.labels.astype(np.uint8, copy=False))
        picture.putpalette(self.palette.astype(np.uint8).tobytes())
        return picture

    def overlay(self, *, opacity: float = 0.6) -> Image.Image:
        """The image with every pixel tinted in its class's colour, but for the background's."""
        h, w = self.labels.shape
        mixed = Image.new("RGB", (w, h))
        for rows in _strips(h, w):
            image, labels = self.image[rows], self.labels[rows]
            colours = self.palette[labels.astype(np.uint8)].astype(np.float64)
            weight = np.where(labels >= self._first_drawn, opacity, 0.0)[..., None]
            tinted = (image * (1 - weight) + colours * weight).round().astype(np.uint8)
            mixed.paste(Image.fromarray(tinted), (0, rows.start))
        return mixed

    def picture(self) -> Image.Image:
        """The overlay with a legend below: each class that occurs, but for the background, the largest first."""
        return with_legend(self.overlay(), self._legend())

    def share_of_classes(self) -> dict[str, float]:
        """The share of the pixels of each class that occurs, the largest first; classes of one name together."""
        found: dict[str, float] = {}
        for each in self.classes_found():
            found[each.name] = found.get(each.name, 0.0) + each.share
        return found

    def classes_found(self) -> list[ClassShare]:
        """Each class that occurs, the largest first; names may be the same where labels are not."""
        counts = np.zeros(int(self.labels.max(initial=0)) + 1, np.int64)
        for rows in _strips(*self.labels.shape):
            counts += np.bincount(self.labels[rows].ravel(), minlength=len(counts))
        found = []
        for label in (int(each) for each in np.argsort(-counts, kind="stable") if counts[each]):
            share = float(counts[label]) / self.labels.size
            drawn = label >= self._first_drawn
            found.append(ClassShare(label, self.name(label), share, self.colour(label), drawn, int(counts[label])))
        return found

    def name(self, label: int) -> str:
        """The name of a label, "class 7" where none is known."""
        return self.classes[label] if label < len(self.classes) else f"class {label}"

    def colour(self, label: int) -> tuple[int, int, int]:
        """The colour of a label, RGB."""
        return colour_of(self.palette, label)

    @property
    def _first_drawn(self) -> int:
        """The label of the first class that is drawn: 0 where the net has no background, as NYUDv2's wall is none."""
        return 0 if has_things_only(self.classes) else 1

    def _legend(self) -> list[LegendEntry]:
        shown = [each for each in self.classes_found() if each.drawn and each.share >= _LEAST_SHARE]
        return [(f"{each.name} {each.share:.1%}", each.colour) for each in shown]

    def _repr_png_(self) -> bytes:
        return notebook_png(self.overlay(), self._legend())


def share_text(share: float) -> str:
    """A share of the pixels in percent, for a line of text: of what is there, no 0.0%."""
    return f"{share:.1%}" if share >= _LEAST_SHARE or share == 0 else "<0.1%"


def _strips(height: int, width: int) -> Iterator[slice]:
    """The rows of a picture, as many at a time as have `_STRIP` pixels."""
    rows = max(1, _STRIP // max(1, width))
    return (slice(start, min(start + rows, height)) for start in range(0, height, rows))
