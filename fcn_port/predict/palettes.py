"""The colours of label maps."""

from __future__ import annotations

import numpy as np


def palette(name: str | None) -> np.ndarray | None:
    """The (256, 3) uint8 RGB colours of a palette by name; None for None. The only one is "voc"."""
    if name is None:
        return None
    if name != "voc":
        raise ValueError(f"there is no palette '{name}'; known: voc")
    return voc_palette()


def voc_palette() -> np.ndarray:
    """PASCAL VOC's colours: the bits of a label, taken three at a time, fill R, G and B from the top bit down.

    Label 255, "ignore", comes out as the cream colour (224, 224, 192) of VOC's borders. Source: VOCcolormap of the VOC
    development kit.
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((labels >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours
