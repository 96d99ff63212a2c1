"""Masks as COCO's run lengths: the form of `segmentation` in COCO's results, which pycocotools reads.

A mask is read column by column; its runs are counted, beginning with one of zeros, which may be empty. COCO's API
(maskApi.c, rleToString) writes the counts as text: each as the difference from the one two before, in groups of five
bits, the lowest first, as characters from "0" on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .segmentation import Segmentation


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
