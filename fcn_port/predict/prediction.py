"""Many images through a net: batches of equal size, and what cannot be read does not stop the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from converters.cancelling import ProgressCallback
from converters.errors import CaffeFormatError, NetError
from converters.safety import refused_memory

from ..any_net import AnyNet
from ..errors import ImageError, ImageMemoryError, one_line
from .image_lists import ImageSource
from .images import read_source
from .meaning import outputs_of
from .pictures import SMALLER
from .running import kind_of
from .segmenting import OfPixels, ReadOptions, read_all


@dataclass(frozen=True)
class Predicted:
    """An image and what the net's outputs say of its pixels, or why it could not be done."""

    source: ImageSource
    seen: Mapping[str, OfPixels] | None
    problem: str | None = None


_LABELS_ONLY = ReadOptions(keep_scores=False)
_RESULT_BYTES = 9
"""The bytes of a pixel in what is written: a label, the overlay, and the overlay with its legend."""
_WAITING = 4
"""So many batches' images may wait for others of their size."""


def predict_all(
    net: AnyNet,
    sources: Sequence[ImageSource],
    *,
    batch: int = 1,
    options: ReadOptions = _LABELS_ONLY,
    progress: ProgressCallback | None = None,
) -> Iterator[Predicted]:
    """Segment each image, and give it as it gets done; images of one size go through it `batch` at a time.

    Images that cannot be read, and ones that the net does not take or has no memory for, come out with the reason;
    where there is only one, that is raised. `progress` is told of tiles and views as in `segment`, anew for each batch.
    Raises ValueError as `segment` does.
    """
    outputs, kind = outputs_of(net), kind_of(net)
    waiting: dict[tuple[int, ...], list[tuple[ImageSource, np.ndarray]]] = {}

    def run(size: tuple[int, ...]) -> Iterator[Predicted]:
        group = waiting.pop(size)
        try:
            found = read_all(net, [pixels for _, pixels in group], options, outputs=outputs, progress=progress)
        except (NetError, ImageError, RuntimeError, MemoryError) as error:
            asked = refused_memory(error)
            if len(sources) == 1 or (asked is None and not isinstance(error, NetError | ImageError)):
                raise
            why = str(error).splitlines()[0] if asked is None else f"not enough memory: {asked} asked for"
            for source, _ in group:
                yield Predicted(source, None, f"{source.path}: {why}")
            return
        for (source, _), seen in zip(group, found, strict=True):
            yield Predicted(source, seen)

    for source in sources:
        try:
            pixels = read_source(source, kind=kind)
            if options.tile is not None:
                _check_room(source, pixels)
        except (ImageError, CaffeFormatError, OSError) as error:
            if isinstance(error, ImageMemoryError) and len(sources) == 1:
                raise
            yield Predicted(source, None, _reason(source, error))
            continue
        waiting.setdefault(pixels.shape, []).append((source, pixels))
        if len(waiting[pixels.shape]) >= batch:
            yield from run(pixels.shape)
        elif sum(map(len, waiting.values())) >= _WAITING * batch:
            yield from run(next(iter(waiting)))
    for size in list(waiting):
        yield from run(size)


def _check_room(source: ImageSource, pixels: np.ndarray) -> None:
    """ImageMemoryError, before the minutes that tiles take, where there is no memory for labels and pictures."""
    h, w = pixels.shape[:2]
    try:
        np.empty(h * w * _RESULT_BYTES, np.uint8)
    except MemoryError as error:
        problem = f"not enough memory: labels and pictures of {w} x {h} pixels take {h * w * _RESULT_BYTES:,} bytes"
        raise ImageMemoryError(f"{source.path}: {problem}\n  {SMALLER}") from error


def _reason(source: ImageSource, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{source.path}: {(error.strerror or str(error)).lower()}"
    return one_line(error, source.path)
