"""`ValueMap`: one value at each pixel that names no class, such as edges, saliency or depth, and a picture of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .notebook import notebook_png


@dataclass(frozen=True, eq=False)
class ValueMap:
    """The values that a net gives the pixels of one image.

    `values` (channels, h, w) float32 are the net's output; `bounded` ones are from 0 to 1; `image` (h, w, 3) uint8 RGB
    is what it looked at; `names` those of the channels, if known; `coarse` the size (h, w) that the net gave, where it
    was less than the image's. In a notebook it shows itself.
    """

    values: np.ndarray
    bounded: bool
    image: np.ndarray
    names: tuple[str, ...] = ()
    coarse: tuple[int, int] | None = None

    def __repr__(self) -> str:
        channels, h, w = self.values.shape
        low, high = self.range
        return f"ValueMap({h}x{w}, {channels} channel{'s' if channels > 1 else ''}, {low:.4g} to {high:.4g})"

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value, (0, 0) where none is a number."""
        finite = self.values[np.isfinite(self.values)]
        return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)

    @property
    def shown(self) -> tuple[float, float]:
        """The values that are drawn black and white: 0 and 1 where they are bounded, else the smallest and largest."""
        return (0.0, 1.0) if self.bounded else self.range

    def picture(self, channel: int = 0) -> Image.Image:
        """A channel in greys, the least value of `shown` black, the largest white; what is no number is black."""
        low, high = self.shown
        values = np.nan_to_num(self.values[channel].astype(np.float64), nan=low, posinf=high, neginf=low)
        grey = (values - low) / (high - low if high > low else 1.0)
        return Image.fromarray((grey.clip(0, 1) * 255).round().astype(np.uint8))

    def name(self, channel: int) -> str:
        """The name of a channel, "channel 3" where none is known."""
        return self.names[channel] if channel < len(self.names) else f"channel {channel}"

    def _repr_png_(self) -> bytes:
        return notebook_png(self.picture())
