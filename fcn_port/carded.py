"""Carded: what every net says of its weights and its images, whether it takes tensors or arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from weights.card import Card
from weights.records import Preprocessing

from .predict.palettes import palette


class Carded:
    """A net with a card; the properties are read off it."""

    card: Card = Card()
    """All that is known of the net beside its weights; `load` gives it one."""

    @property
    def release(self) -> str | None:
        """The release that the weights are of."""
        return self.card.release

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The way in which the inputs are made of images."""
        return self.card.preprocessing

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the classes by output blob, {} if they are not known."""
        return self.card.classes

    @property
    def palette(self) -> np.ndarray | None:
        """The colours of the classes, (256, 3) uint8 RGB."""
        return palette(self.card.palette)
