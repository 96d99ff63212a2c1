"""Blobs as pictures: a grid with a tile for each channel, in one scale for all of them, and what it shows in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..predict.legend import shown_text

MOST_CHANNELS = 144
"""Channels of a blob that are shown, the first ones."""
_LEAST_SIDE, _MOST_SIDE = 24, 160
"""Pixels of the longer side of a tile: smaller maps are enlarged by a whole number, larger ones made smaller."""
_GAP, _LINE, _MARGIN = 2, 18, 8
_PAPER, _INK, _BROKEN = (255, 255, 255), (32, 32, 32), (255, 0, 255)
_QUANTILE = 0.999
"""Values beyond this quantile of magnitudes have the colour of the largest: one alone does not darken the rest."""


@dataclass(frozen=True)
class GreyScale:
    """The values that colours stand for: 0 to `largest` from black to white, or from blue over white to red.

    `signed` says which; what is not finite is magenta.
    """

    largest: float
    signed: bool

    @classmethod
    def of(cls, *blobs: np.ndarray) -> GreyScale:
        """The scale that does for all of these."""
        values = np.concatenate([blob[np.isfinite(blob)].ravel() for blob in blobs])
        sizes = np.abs(values.astype(np.float64))
        largest = float(np.quantile(sizes, _QUANTILE)) if sizes.size else 0.0
        return cls(largest or float(sizes.max(initial=0.0)) or 1.0, bool((values < 0).any()))

    def colours(self, values: np.ndarray) -> np.ndarray:
        """Values (h, w) as (h, w, 3) uint8 RGB."""
        with np.errstate(invalid="ignore"):
            part = np.clip(np.nan_to_num(values / self.largest, posinf=1, neginf=-1), -1, 1)
        if self.signed:
            fade = 1 - np.abs(part)
            channels = [np.where(part < 0, fade, 1), fade, np.where(part > 0, fade, 1)]
        else:
            channels = [part] * 3
        found = (np.stack(channels, axis=-1) * 255).round().astype(np.uint8)
        found[~np.isfinite(values)] = _BROKEN
        return np.asarray(found)


def feature_maps(name: str, blob: np.ndarray, *, scale: GreyScale | None = None) -> Image.Image:
    """The channels of a blob of one image, (1, c, h, w) or with fewer axes, as a grid with a line of text below.

    Vectors are a row of tiles. ValueError for a blob of several images or of more than four axes.
    """
    maps = _maps(blob)
    scale = scale or GreyScale.of(maps)
    shown = maps[:MOST_CHANNELS]
    tiles = [_tile(scale.colours(each)) for each in shown]
    columns = max(1, ceil(sqrt(len(tiles) * tiles[0].height / tiles[0].width))) if tiles else 1
    grid = _grid(tiles, columns)
    h, w = maps.shape[1:]
    some = f"the first {len(shown)} of {len(maps)}" if len(shown) < len(maps) else f"{len(maps)}"
    finite = maps[np.isfinite(maps)]
    values = f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "no finite value"
    return _captioned(grid, f"{shown_text(name)}: {some} channels of {h} x {w}, {values}")


def beside(name: str, first: np.ndarray, second: np.ndarray) -> Image.Image:
    """A blob of two nets, in one scale, and below them the difference, in a scale of its own.

    Blobs of different shapes are shown without a difference.
    """
    both = GreyScale.of(_maps(first), _maps(second))
    parts = [feature_maps(f"first {name}", first, scale=both), feature_maps(f"second {name}", second, scale=both)]
    if first.shape == second.shape:
        parts.append(feature_maps(f"difference of {name}", second - first))
    width = max(part.width for part in parts)
    out = Image.new("RGB", (width, sum(part.height for part in parts)), _PAPER)
    top = 0
    for part in parts:
        out.paste(part, (0, top))
        top += part.height
    return out


def _maps(blob: np.ndarray) -> np.ndarray:
    """A blob of one image as (channels, h, w) float64."""
    if blob.ndim > 4 or (blob.ndim > 1 and blob.shape[0] != 1):
        raise ValueError(f"a blob of {'x'.join(map(str, blob.shape))}: only those of one image can be shown")
    one = blob[0] if blob.ndim > 1 else blob
    return one.reshape(one.shape + (1,) * (3 - one.ndim)).astype(np.float64)


def _tile(pixels: np.ndarray) -> Image.Image:
    picture = Image.fromarray(pixels)
    longer = max(picture.size)
    if longer > _MOST_SIDE:
        size = tuple(max(1, round(side * _MOST_SIDE / longer)) for side in picture.size)
        return picture.resize((size[0], size[1]), Image.Resampling.BOX)
    factor = ceil(_LEAST_SIDE / longer)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _grid(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    if not tiles:
        return Image.new("RGB", (_LEAST_SIDE, _LEAST_SIDE), _PAPER)
    w, h = tiles[0].size
    rows = ceil(len(tiles) / columns)
    out = Image.new("RGB", (columns * (w + _GAP) - _GAP, rows * (h + _GAP) - _GAP), _PAPER)
    for number, tile in enumerate(tiles):
        out.paste(tile, (number % columns * (w + _GAP), number // columns * (h + _GAP)))
    return out


def _captioned(grid: Image.Image, text: str) -> Image.Image:
    font = ImageFont.load_default(size=12)
    width = max(grid.width, ceil(font.getlength(text))) + 2 * _MARGIN
    out = Image.new("RGB", (width, grid.height + _LINE + 2 * _MARGIN), _PAPER)
    out.paste(grid, (_MARGIN, _MARGIN))
    ImageDraw.Draw(out).text((_MARGIN, grid.height + _MARGIN + 4), text, fill=_INK, font=font)
    return out


def blob_names(wanted: str, there: Mapping[str, object]) -> tuple[str, ...]:
    """The blobs in a list with commas, or all of them for "all"; KeyError with the first that the net lacks."""
    names = tuple(there) if wanted == "all" else tuple(dict.fromkeys(filter(None, wanted.split(","))))
    for name in names:
        if name not in there:
            raise KeyError(name)
    return names
