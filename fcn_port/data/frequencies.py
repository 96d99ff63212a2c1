"""Weights of classes from how often they are labelled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .errors import DataError
from .records import DataSet


def median_frequency_weights(
    data: DataSet, *, head: str | None = None, progress: Callable[[int, int], None] | None = None
) -> tuple[float, ...]:
    """The weight of each class by median frequency balancing: the median of all frequencies over its own.

    The frequency of a class is its pixels over all pixels that count of the images in which it is (Eigen and Fergus,
    2015, section 4.3.1; SegNet takes the weights from there). A class that is nowhere weighs 0 and has no part in the
    median. Label maps that cannot be read are passed over; DataError where nothing is labelled.
    """
    name = next(iter(data.labels), "score") if head is None else head
    if name not in data.labels:
        raise DataError(f"{data.title} ({data.split}) has no labels for '{name}'", path=data.root)
    classes = len(data.classes[name])
    pixels, beside = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    for number, id_ in enumerate(data.ids, start=1):
        try:
            counts = np.bincount(data.read_labels(id_, name).ravel(), minlength=256)[:classes]
        except ValueError:  # a file that cannot be used; whoever needs it says so
            continue
        pixels += counts
        beside[counts > 0] += counts.sum()
        if progress is not None:
            progress(number, len(data.ids))
    labelled = pixels > 0
    if not labelled.any():
        raise DataError(f"no pixel of {data.split} is labelled: the classes have no frequency", path=data.root)
    frequency = pixels[labelled] / beside[labelled]
    weights = np.zeros(classes)
    weights[labelled] = np.median(frequency) / frequency
    return tuple(weights.tolist())
