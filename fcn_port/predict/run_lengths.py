"""Masks as COCO's run lengths: the form of `segmentation` in COCO's results, which pycocotools reads.

A mask is read column by column; its runs are counted, beginning with one of zeros, which may be empty. COCO's API
(maskApi.c, rleToString) writes the counts as text: each as the difference from the one two before, in groups of five
bits, the lowest first, as characters from "0" on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .segmentation import Segmentation

_MOST_GROUPS = 13
"""Groups of five bits in a number of 64, with which COCO's API counts."""


def run_lengths(mask_hw: np.ndarray) -> list[int]:
    """The lengths of the runs of a mask (h, w), column by column, the first one of zeros."""
    flat = np.asarray(mask_hw, bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    first = [0] if flat.size and flat[0] else []
    edges = np.concatenate(([0], changes, [flat.size]))
    return [*first, *np.diff(edges).tolist()] if flat.size else []


def counts_text(counts: list[int]) -> str:
    """Run lengths as COCO's compressed text."""
    out = []
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            group = value & 0x1F
            value >>= 5
            more = value != (-1 if group & 0x10 else 0)
            out.append(chr(48 + (group | 0x20 if more else group)))
    return "".join(out)


def counts_of_text(text: str) -> list[int]:
    """Run lengths in COCO's compressed text (maskApi.c, rleFrString); ValueError where it is none or is cut short."""
    counts: list[int] = []
    value = groups = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or groups == _MOST_GROUPS:
            raise ValueError("a text that holds no run lengths")
        value |= (group & 0x1F) << (5 * groups)
        groups += 1
        if group & 0x20:
            continue
        value -= (1 << (5 * groups)) if group & 0x10 else 0
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = groups = 0
    if groups:
        raise ValueError("a text of run lengths that was cut short")
    return counts


def mask_of_counts(counts: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """The mask (h, w) of run lengths; ValueError where they do not fill it exactly."""
    if any(count != int(count) or count < 0 for count in counts) or sum(counts) != size[0] * size[1]:
        raise ValueError("run lengths that do not fill the image")
    runs = np.asarray(counts, np.int64)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size, order="F")


def to_coco(seen: Segmentation, image: int | str) -> Iterator[dict[str, Any]]:
    """Each class that occurs as a record of COCO's results: image_id, category_id, segmentation, area and bbox.

    `segmentation` is {"size": [h, w], "counts": text}; `bbox` (x, y, width, height) is the smallest that holds all of
    the class's pixels. The records come by label, the background among them.
    """
    h, w = seen.labels.shape
    for label in np.unique(seen.labels):
        mask = seen.labels == label
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        yield {
            "image_id": image,
            "category_id": int(label),
            "segmentation": {"size": [h, w], "counts": counts_text(run_lengths(mask))},
            "area": int(mask.sum()),
            "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        }
