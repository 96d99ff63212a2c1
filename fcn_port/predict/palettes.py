"""The colours of label maps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np


def palette(name: str | None) -> np.ndarray | None:
    """The (256, 3) uint8 RGB colours of a palette by name, a key of PALETTES, or written "#rrggbb #rrggbb ...".

    None for None.     Classes beyond those that are written have VOC's colours.
    """
    if name is None:
        return None
    if name.startswith("#"):
        return _written(name)
    if name not in PALETTES:
        raise ValueError(f"there is no palette '{name}'; known: {', '.join(PALETTES)}")
    return PALETTES[name]()


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


def _written(text: str) -> np.ndarray:
    colours = voc_palette()
    words = text.split()[: len(colours)]
    if not all(re.fullmatch(r"#[0-9a-fA-F]{6}", word) for word in words):
        raise ValueError(f"{text[:40]!r} are no colours: expected #rrggbb, parted by spaces")
    colours[: len(words)] = [[int(word[at : at + 2], 16) for at in (1, 3, 5)] for word in words]
    return colours


def cityscapes_palette() -> np.ndarray:
    """The colours of Cityscapes' 19 classes, void in black (cityscapesscripts/helpers/labels.py)."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(_CITYSCAPES)] = _CITYSCAPES
    return colours


_CITYSCAPES = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
    (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
    (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip

PALETTES: Mapping[str, Callable[[], np.ndarray]] = {"voc": voc_palette, "cityscapes": cityscapes_palette}
