"""A net over a data set: images are decoded ahead, one is computed at a time, and each result is kept at once."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from converters.errors import CaffeFormatError
from converters.formats import format_prototxt
from converters.given import refuse_other_than
from converters.version import VERSION
from weights.records import Preprocessing

from ..carded import refuse_no_module
from ..data.errors import DataError
from ..data.inputs import input_kinds, inputs_of, net_inputs
from ..data.records import DataSet, Sample
from ..nets import Net
from ..predict.meaning import NetOutputs, outputs_of
from ..predict.running import refuse_training
from .cache import Cache, cache_key, fingerprint
from .labels import refuse_to_replace, save_labels, saved_path
from .metrics import histogram
from .predicting import Refinement, predicted_labels, refined_labels
from .processes import Processes
from .results import Evaluation, ImageResult

_log = logging.getLogger(__name__)
_unwritable: set[Path] = set()
"""Folders of kept results that were told of."""
ProgressCallback = Callable[[int, int], None]
"""Told (done, total) of the images of this process."""


@dataclass(frozen=True)
class EvaluationPlan:
    """The settings of an evaluation.

    How many of the images (None for all), decoding in how many threads (0: none), where results are kept (None:
    nowhere), where label maps are written (None: nowhere), whether bad files are skipped, and the probability from
    which on a pixel is of a class, for a net that ends in a Sigmoid, or the value, for one that gives a map. With a
    `refinement` labels are those of averages over views of each image, and of a CRF.
    """

    limit: int | None = None
    workers: int = 2
    cache: Path | None = None
    save_labels: Path | None = None
    skip_bad: bool = False
    threshold: float | None = None
    refinement: Refinement = Refinement()  # noqa: RUF009 - frozen


def evaluate(
    net: nn.Module,
    data: DataSet,
    *,
    name: str = "net",
    release: str | None = None,
    plan: EvaluationPlan = EvaluationPlan(),
    processes: Processes = Processes(),  # noqa: B008
    progress: ProgressCallback | None = None,
) -> Evaluation:
    """Run `net` over the images of `data` and count its predictions against the labels.

    The net is called with the release's exact inputs, one image at a time; a net from `load` knows how they are made,
    for another one the data set's own recipe is taken. With several processes the first gives the whole result, the
    others their part. Raises DataError for a bad file, unless the plan skips them, MismatchError for a net that does
    not fit the data set, ValueError for one in train mode, and FileExistsError where label maps would be written over
    the data set's own files.
    `progress` may end it after any image (`stop_when`); with `plan.cache` the next call goes on from there.
    """
    refuse_no_module(net)
    refuse_training(net)
    refuse_other_than(DataSet, data, "a data set, as open_dataset gives it")
    preprocessing = preprocessing_of(net, data)
    cache = _cache(net, data, plan, preprocessing, processes.rank)
    run = _EvaluationRun(net, data, plan, preprocessing, outputs_of(net), cache)
    began = time.monotonic()
    ids = data.ids[: plan.limit]
    if plan.save_labels is not None:
        refuse_to_replace(plan.save_labels, data, ids)
    kept, todo = processes.from_first(run.kept(ids) if processes.first else ({}, []))
    mine = processes.share(todo)
    done, skipped = run.results(mine, progress)
    parts = processes.to_first((done, skipped))
    found = dict(kept)
    for results, _ in parts or [(done, skipped)]:
        found.update(results)
    bad = {id_: reason for _, reasons in parts for id_, reason in reasons.items()}
    if bad and not found:
        raise DataError(
            f"none of {len(bad)} images can be scored; the first: {next(iter(bad.values()))}", path=data.root
        )
    return Evaluation(
        weights=name,
        release=release,
        dataset=data.name,
        title=data.title,
        split=data.split,
        complete=data.complete and len(found) == len(data.ids),
        classes=data.classes,
        images=tuple(found[id_] for id_ in ids if id_ in found),
        skipped={id_: bad[id_] for id_ in ids if id_ in bad},
        seconds=time.monotonic() - began,
        computed=sum(len(results) for results, _ in parts),
        settings={
            "engine": getattr(net, "engine", "padded"),
            "device": str(run.device),
            "torch": torch.__version__,
            "fcn-port": VERSION,
        },
    )


def preprocessing_of(net: nn.Module, data: DataSet) -> Preprocessing:
    """The ways to make the net's inputs: what it says itself, else the data set's recipes, by the names of its inputs.

    An input that is not called after a kind of image ("hha", "depth") is the colour image.
    """
    known: Preprocessing | None = getattr(net, "preprocessing", None)
    if known is not None:
        return known
    return inputs_of(data, getattr(net, "inputs", ["data"]))


def device_of(net: nn.Module) -> torch.device:
    """The device of a net's weights; the CPU for a net without any."""
    parameter = next(net.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def weights_digest(net: nn.Module) -> str:
    """The SHA-256 of a net: its definition, its modules as they describe themselves, every tensor with its name.

    Layers without weights, a Threshold or an ArgMax, and the settings of others are in the definition alone.
    """
    found = hashlib.sha256(repr(net).encode())
    if isinstance(net, Net):
        with suppress(CaffeFormatError):  # a net that Caffe does not have
            found.update(format_prototxt(net.definition()).encode())
    for key, value in sorted(net.state_dict().items()):
        found.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(memoryview(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()))
    return found.hexdigest()


@dataclass(frozen=True)
class _EvaluationRun:
    """One evaluation in one process."""

    net: nn.Module
    data: DataSet
    plan: EvaluationPlan
    preprocessing: Preprocessing
    outputs: NetOutputs
    cache: Cache | None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of image that the net looks at."""
        return input_kinds(self.preprocessing)

    @property
    def device(self) -> torch.device:
        """The device of the net."""
        return device_of(self.net)

    def kept(self, ids: Sequence[str]) -> tuple[dict[str, ImageResult], list[str]]:
        """Results of an earlier run that still hold, and the images that are left."""
        if self.cache is None:
            return {}, list(ids)
        known = self.cache.read(self.data.classes)
        kept = {id_: known[id_][0] for id_ in ids if id_ in known and self._holds(*known[id_])}
        return kept, [id_ for id_ in ids if id_ not in kept]

    def results(
        self, ids: Sequence[str], progress: ProgressCallback | None
    ) -> tuple[dict[str, ImageResult], dict[str, str]]:
        """The results of these images, and the reasons of those that were skipped."""
        results: dict[str, ImageResult] = {}
        skipped: dict[str, str] = {}
        if progress is not None:
            progress(0, len(ids))
        with closing(self._read_ahead(ids)) as ahead:
            for number, (id_, sample) in enumerate(ahead, start=1):
                try:
                    results[id_] = self._result(sample())
                except DataError as error:
                    if not self.plan.skip_bad:
                        raise
                    skipped[id_] = str(error)
                if progress is not None:
                    progress(number, len(ids))
        return results, skipped

    def _result(self, sample: Sample) -> ImageResult:
        try:
            predicted = self._predicted(sample)
        except DataError as error:
            raise error.in_file(self.data.shown(sample.id)) from error.__cause__
        histograms = {
            head: histogram(
                sample.labels[head],
                predicted[head],
                num_classes=len(self.data.classes[head]),
                ignore_label=self.data.ignore_label,
            )
            for head in sample.labels
        }
        if self.plan.save_labels is not None:
            arrays = {head: each.cpu().numpy() for head, each in predicted.items()}
            save_labels(self.plan.save_labels, sample.id, arrays)
        result = ImageResult(sample.id, histograms)
        if self.cache is not None:
            files = fingerprint(self.data.files(sample.id, kinds=self.kinds))
            if files is not None:
                self._keep(self.cache, result, files)
        return result

    def _keep(self, cache: Cache, result: ImageResult, files: list[Any]) -> None:
        """Keep a result for the next run; a folder that cannot be written costs only that, and is told of once."""
        try:
            cache.append(result, files, saved=self._saved(result.id))
        except OSError as error:
            if cache.folder not in _unwritable:
                _unwritable.add(cache.folder)
                _log.warning("results are not kept for the next run: %s: %s", cache.folder, error.strerror or error)

    def _predicted(self, sample: Sample) -> dict[str, Tensor]:
        """Label maps by output blob, on the net's device."""
        plan, data = self.plan, self.data
        if plan.refinement.wanted:
            return refined_labels(
                self.net, self.outputs, sample, data, self.preprocessing, plan.refinement, threshold=plan.threshold
            )
        inputs = net_inputs(data, sample, self.preprocessing)
        moved = {name: each.to(self.device) for name, each in inputs.items()}
        return predicted_labels(self.net, self.outputs, moved, data, threshold=plan.threshold)

    def _read_ahead(self, ids: Sequence[str]) -> Generator[tuple[str, Callable[[], Sample]], None, None]:
        """The images in order, each as a call that gives it or raises; a few are read in other threads meanwhile."""
        if self.plan.workers <= 0:
            for id_ in ids:
                yield id_, partial(self._read, id_)
            return
        with ThreadPoolExecutor(self.plan.workers) as pool:
            ahead: deque[tuple[str, Future[Sample]]] = deque()
            rest = iter(ids)
            try:
                while True:
                    for id_ in islice(rest, 2 * self.plan.workers - len(ahead)):
                        ahead.append((id_, pool.submit(self._read, id_)))
                    if not ahead:
                        return
                    id_, future = ahead.popleft()
                    yield id_, future.result
            finally:
                for _, future in ahead:
                    future.cancel()

    def _read(self, id_: str) -> Sample:
        return self.data.read(id_, kinds=self.kinds)

    def _saved(self, id_: str) -> list[Any] | None:
        """The fingerprint of an image's written label maps; None where none are asked for, or one is not there."""
        folder, heads = self.plan.save_labels, list(self.data.classes)
        return None if folder is None else fingerprint(saved_path(folder, id_, head, heads) for head in heads)

    def _holds(self, result: ImageResult, files: object, saved: object) -> bool:
        """True if a kept result is of the files as they are now, and the label maps it wrote are there as they were."""
        if set(result.histograms) != set(self.data.labels):
            return False
        if self.plan.save_labels is not None and (saved is None or self._saved(result.id) != saved):
            return False  # also where another net wrote them: they are not this one's
        with suppress(DataError):  # of a file that can no longer be told from another; who reads it says so
            return fingerprint(self.data.files(result.id, kinds=self.kinds)) == files
        return False


def _meaning(read: object) -> str:
    """The way in which stored labels become classes: the settings of a MaskReader, the name of a plain function."""
    return getattr(read, "__qualname__", None) or repr(read)


def _cache(
    net: nn.Module, data: DataSet, plan: EvaluationPlan, preprocessing: Preprocessing, rank: int
) -> Cache | None:
    if plan.cache is None:
        return None
    key = cache_key(
        {
            "weights": weights_digest(net),
            "preprocessing": preprocessing.to_json(),
            "kind": data.kind,
            "root": str(data.root.resolve()),
            "labels": {head: _meaning(files.read) for head, files in data.labels.items()},
            "files": [files.source for files in (*data.images.values(), *data.labels.values())],
            "void": data.void,
            **({} if plan.threshold is None else {"threshold": plan.threshold}),
            **({"refinement": repr(plan.refinement)} if plan.refinement.wanted else {}),
            "classes": {head: list(names) for head, names in data.classes.items()},
            "device": device_of(net).type,
            "version": VERSION,
            "numpy": np.__version__,
            "torch": torch.__version__,
        }
    )
    return Cache(plan.cache / key, rank)
