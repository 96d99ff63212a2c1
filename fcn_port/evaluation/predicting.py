"""The label maps that a net gives for an image of a data set, whatever kind of output it has."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from converters.errors import MismatchError, NetError
from weights.records import Preprocessing

from ..data.errors import DataError
from ..data.inputs import net_inputs
from ..data.records import DataSet, Sample
from ..predict.dense_crf import DenseCrf
from ..predict.images import rgb_of
from ..predict.meaning import NetOutputs
from ..predict.reading import ReadOutput, coarse_note, read_output
from ..predict.running import taking
from ..predict.views import AS_IT_IS, Views

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refinement:
    """The work that makes better labels of an image: averages over `views` of it (views.py), then a dense CRF."""

    views: Views = AS_IT_IS
    crf: DenseCrf | None = None

    @property
    def wanted(self) -> bool:
        """True where there is something to do."""
        return self.views.several or self.crf is not None


def predicted_labels(
    net: nn.Module,
    outputs: NetOutputs,
    inputs: Mapping[str, Tensor],
    data: DataSet,
    *,
    threshold: float | None = None,
) -> dict[str, Tensor]:
    """Label maps (h, w) uint8 by output blob, on the net's device, for one image's `inputs` there.

    `outputs` are the net's (`outputs_of`). Of several for one labelling the one of its name is taken, else the last.
    MismatchError for a net whose outputs are not the data set's classes.
    """
    with _mismatches(data):
        heads = _heads(net, outputs, inputs, data)
        return {head: _labels(outputs, read, data, head, threshold) for head, read in heads.items()}


def refined_labels(
    net: nn.Module,
    outputs: NetOutputs,
    sample: Sample,
    data: DataSet,
    preprocessing: Preprocessing,
    refinement: Refinement,
    *,
    threshold: float | None = None,
) -> dict[str, Tensor]:
    """Label maps as `predicted_labels`, of averages over views of a sample's image, and after a CRF.

    MismatchError where the net has several inputs, or gives labels and no scores.
    """
    kind = preprocessing.inputs[0].image
    image = sample.images[kind]
    if len(preprocessing.inputs) > 1 or image.dtype != np.uint8:
        raise MismatchError("flips, scales and CRFs are for nets with one image of bytes", path=data.root)
    device = next(net.parameters(), torch.empty(0)).device

    def read(pixels: list[np.ndarray]) -> dict[str, list[ReadOutput]]:
        inputs = net_inputs(data, replace(sample, images={kind: pixels[0]}), preprocessing)
        moved = {name: each.to(device) for name, each in inputs.items()}
        return {head: [each] for head, each in _heads(net, outputs, moved, data).items()}

    with _mismatches(data):
        found = refinement.views.average(read, [image]) if refinement.views.several else read([image])
        heads = {head: each[0] for head, each in found.items()}
        if refinement.crf is not None:
            heads = {head: refinement.crf.refined(each, rgb_of(image)) for head, each in heads.items()}
        return {head: _labels(outputs, read, data, head, threshold) for head, read in heads.items()}


@contextmanager
def _mismatches(data: DataSet) -> Iterator[None]:
    """Errors about a net's outputs become a MismatchError that names the data set."""
    try:
        yield
    except MismatchError:
        raise
    except NetError as error:
        raise MismatchError(error.problem, path=data.root, hint=error.hint) from error


def _heads(net: nn.Module, outputs: NetOutputs, inputs: Mapping[str, Tensor], data: DataSet) -> dict[str, ReadOutput]:
    """The outputs that answer a data set's labels, by the labels' name, at the size of the first input."""
    given = list(inputs.values())
    size = (int(given[0].shape[-2]), int(given[0].shape[-1]))
    try:
        with taking(size), torch.inference_mode():
            output = net(given[0]) if len(given) == 1 else net(**inputs)
    except NetError as error:  # of this image alone
        raise DataError(
            error.problem, hint="--resize HxW brings images to a size, --skip-bad passes over them"
        ) from error
    first = next(iter(data.classes))
    heads = output if isinstance(output, dict) else {first: output}
    names = {head: head if isinstance(output, dict) else "" for head in heads}
    if len(data.classes) == 1 and len(heads) > 1:  # deep supervision, side outputs: the last one is the net's answer
        names = {first: first if first in heads else list(heads)[-1]}
        heads = {first: heads[names[first]]}
    if set(heads) != set(data.classes):
        raise MismatchError(
            f"the net's outputs are {', '.join(heads)}; {data.title} is labelled for {', '.join(data.classes)}",
            path=data.root,
        )
    return {head: read_output(outputs, names[head], found, size)[0] for head, found in heads.items()}


def _labels(outputs: NetOutputs, read: ReadOutput, data: DataSet, head: str, threshold: float | None) -> Tensor:
    """The label map of one output; MismatchError where it is not of the data set's classes."""
    classes = len(data.classes[head])
    if read.meaning.labels not in (None, classes):
        raise MismatchError(
            f"the net scores {read.meaning.labels} classes, and {data.title} has {classes}",
            path=data.root,
            hint="the names of your own classes go into a file classes.txt in the data set's folder, one a line",
        )
    labels: Tensor = read.labels(threshold=threshold)
    if read.meaning.kind == "labels" and int(labels.max()) >= classes:
        problem = f"the net gives label {int(labels.max())}, and {data.title} has {classes} classes"
        raise MismatchError(problem, path=data.root)
    if read.coarse is not None and not _told(outputs):
        size = (int(labels.shape[-2]), int(labels.shape[-1]))
        _told(outputs).append(coarse_note(read.coarse, size))
        _log.warning("%s", _told(outputs)[0])
    return labels.to(torch.uint8)


@lru_cache(maxsize=16)
def _told(outputs: NetOutputs) -> list[str]:
    """The note on interpolated outputs that was told of a net; it is told once."""
    return []
