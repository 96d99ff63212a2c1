"""Batches of a data set, in an order that is known in advance, read in other threads while the net computes."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from converters import Cancelled
from weights.records import IGNORE_LABEL, Augmentation, Preprocessing

from ..data.errors import DataError
from ..data.inputs import input_kinds
from ..data.records import DataSet
from .choices import Order
from .data_layer import LayerReading
from .errors import TrainingError
from .losses import Loss
from .sampler import image_order
from .transforms import Variation, varied

_log = logging.getLogger(__name__)
_MOST_BAD = 8
"""Images in a row that give way; where there are more, it is not the images."""
_passed_over: set[tuple[Path, str]] = set()
"""Images that were told of."""
Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Batch:
    """Some images: their names, and their input and label blobs by Caffe's name, on the CPU.

    Inputs are (n, c, h, w) float32, labels (n, h, w) uint8 (int64 where another label than the data set's is ignored).
    """

    names: tuple[str, ...]
    blobs: Mapping[str, Tensor]


@dataclass(frozen=True)
class Feed:
    """The batches that a net is fed while it trains: the images of `data` in an order, `batch_size` at a time.

    Several processes (`size` of them, this one being `rank`) share a batch of size * batch_size images, so that they
    see together what one process would see. `workers` threads read ahead; with 0 an image is read when it is due.
    `reading` is a data layer's way to make images, `variation` the chance in each (`transforms.varied`). With
    `skip_bad` the next image of the list that can be read takes the place of one that cannot, which is logged once.
    Raises TrainingError for losses that ignore different labels, or take blobs of a data layer that are no label maps.
    """

    data: DataSet
    preprocessing: Preprocessing
    losses: tuple[Loss, ...]
    order: Order = "replacement"
    seed: int = 1337
    batch_size: int = 1
    rank: int = 0
    size: int = 1
    workers: int = 2
    variation: Variation = field(default_factory=Variation)
    reading: LayerReading = field(default_factory=LayerReading)
    skip_bad: bool = False

    def __post_init__(self) -> None:
        for loss in self.losses:
            if loss.given:
                raise TrainingError(
                    f"loss '{loss.name}' takes '{loss.given[0]}' from a data layer, and no data set here has it"
                )
        ignored = {loss.ignore_label: loss.name for loss in self._labelled if loss.ignore_label is not None}
        if len(ignored) > 1:
            said = ", ".join(f"'{name}' ignores {label}" for label, name in ignored.items())
            raise TrainingError(
                f"{said}: here a pixel that one of them ignores counts for none of them\n"
                "  give all losses and accuracies of a net one ignore_label"
            )

    def batches(self, start: int = 0) -> Generator[Batch, None, None]:
        """Batches without end, from batch number `start` on. Raises DataError for a damaged file when it is due.

        Who closes it waits for the images that are being read, and for no whole batch.
        """
        closed = threading.Event()
        places = image_order(len(self.data.ids), order=self.order, seed=self.seed, start=start * self.images)
        groups = iter(lambda: list(islice(places, self.images)), [])
        first = self.rank * self.batch_size
        mine = (
            (start * self.images + number * self.images + first, group[first : first + self.batch_size])
            for number, group in enumerate(groups)
        )

        def read(each: tuple[int, Sequence[int]]) -> Batch:
            return self.read(each[1], position=each[0], ended=closed.is_set)

        return read_ahead(mine, read, workers=self.workers, closing=closed.set)

    @property
    def images(self) -> int:
        """The images of one batch, of all processes."""
        return self.batch_size * self.size

    def read(self, places: Sequence[int], *, position: int = 0, ended: Callable[[], bool] = lambda: False) -> Batch:
        """The batch of the images at these places of the list, the first of which is drawn as number `position`.

        Images that differ in size are filled up to the largest, on the right and below: with zeros, which is the mean,
        and with ignored labels. Raises Cancelled between two images once `ended` says so.
        """
        ids: list[str] = []
        blobs: dict[str, list[Tensor]] = {}
        labels = {loss.label: loss for loss in self._labelled}
        for number, place in enumerate(places, start=position):
            if ended():
                raise Cancelled("nobody waits for the batch any more")
            id_, own = self._readable(place)
            ids.append(id_)
            for name, blob in self._varied(own, labels, number).items():
                blobs.setdefault(name, []).append(blob)
        return Batch(tuple(ids), {name: _stack(own, labels.get(name)) for name, own in blobs.items()})

    @property
    def augmentation(self) -> Augmentation:
        """The variation of the images, as a card keeps it."""
        own = self.variation
        return Augmentation(own.crop, own.mirror, own.scales, own.size or self.reading.size or ())

    def head_of(self, loss: Loss) -> str:
        """The labels of the data set that a loss judges by. Raises TrainingError where there are none for it."""
        heads = list(self.data.labels)
        if loss.score in heads:
            return loss.score
        if len(heads) == 1 and len({each.label for each in self._labelled}) == 1:  # one, or deep supervision by one map
            return heads[0]
        raise TrainingError(
            f"{self.data.title} ({self.data.split}) has no labels for '{loss.score}'; "
            f"it has them for {', '.join(heads) or 'nothing'}"
        )

    @property
    def _labelled(self) -> tuple[Loss, ...]:
        """The losses that judge by labels of the data set."""
        return tuple(loss for loss in self.losses if loss.labelled)

    def _varied(self, blobs: dict[str, Tensor], labels: Mapping[str, Loss], position: int) -> dict[str, Tensor]:
        if self.variation == Variation():
            return blobs
        return varied(
            blobs, self.variation, labels=labels, fill=lambda name: _ignored(labels.get(name)),
            seed=self.seed, position=position,
        )  # fmt: skip

    def _readable(self, place: int) -> tuple[str, dict[str, Tensor]]:
        """The image at a place of the list, or the next one that can be read, and its blobs."""
        count = len(self.data.ids)
        for further in range(min(count, _MOST_BAD)):
            id_ = self.data.ids[(place + further) % count]
            try:
                return id_, self._blobs_of(id_)
            except DataError as error:
                if not self.skip_bad or further == min(count, _MOST_BAD) - 1:
                    raise
                if (self.data.root, id_) not in _passed_over:
                    _passed_over.add((self.data.root, id_))
                    _log.warning("passed over, the next image takes its place: %s", str(error).splitlines()[0])
        raise DataError("the list is empty", path=self.data.root)

    def _blobs_of(self, id_: str) -> dict[str, Tensor]:
        sample = self.data.read(id_, kinds=input_kinds(self.preprocessing))
        blobs, maps = self.reading.blobs(self.data, sample, self.preprocessing)
        for loss in self._labelled:
            labels = torch.from_numpy(maps[self.head_of(loss)].copy())
            if loss.ignore_label != self.data.ignore_label:
                ignored = labels == self.data.ignore_label
                labels = labels.long().masked_fill(ignored, _ignored(loss) if ignored.any() else 0)
            blobs[loss.label] = labels
        return blobs


def read_ahead(
    items: Iterable[Item],
    read: Callable[[Item], Value],
    *,
    workers: int,
    closing: Callable[[], None] = lambda: None,
) -> Generator[Value, None, None]:
    """`read` of each item, in order; a few are computed in `workers` threads meanwhile, with 0 none is.

    `closing` is called before what is being read is waited for.
    """
    if workers <= 0:
        yield from map(read, items)
        return
    pool = ThreadPoolExecutor(workers)
    ahead: deque[Future[Value]] = deque()
    rest = iter(items)
    try:
        ahead.extend(pool.submit(read, item) for item in islice(rest, 2 * workers))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(read, item) for item in islice(rest, 1))
    finally:
        closing()
        pool.shutdown(cancel_futures=True)


def _ignored(loss: Loss | None) -> int:
    """The value that fills up a blob: zero for an input, the ignored label for labels."""
    if loss is None:
        return 0
    if loss.ignore_label is None:
        raise TrainingError(
            f"some pixels are to be ignored, and loss '{loss.name}' ignores none: give it an ignore_label, such as "
            f"{IGNORE_LABEL}"
        )
    return loss.ignore_label


def _stack(blobs: Sequence[Tensor], loss: Loss | None) -> Tensor:
    """Blobs as one; only where sizes differ, the loss of labels must have something to fill them up with."""
    if len({blob.shape for blob in blobs}) == 1:
        return torch.stack(list(blobs))
    h, w = (max(blob.shape[axis] for blob in blobs) for axis in (-2, -1))
    fill = _ignored(loss)
    return torch.stack([pad(blob, (0, w - blob.shape[-1], 0, h - blob.shape[-2]), value=fill) for blob in blobs])
