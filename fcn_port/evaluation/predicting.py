"""The label maps that a net gives for an image of a data set, whatever kind of output it has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from converters.errors import MismatchError, NetError

from ..data.records import DataSet
from ..predict.meaning import NetOutputs
from ..predict.reading import coarse_note, read_output

_log = logging.getLogger(__name__)


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
    given = list(inputs.values())
    with torch.inference_mode():
        output = net(given[0]) if len(given) == 1 else net(**inputs)
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
    return {
        head: _labels(outputs, names[head], found, given[0], data, head, threshold) for head, found in heads.items()
    }


def _labels(
    outputs: NetOutputs, name: str, found: Tensor, image: Tensor, data: DataSet, head: str, threshold: float | None
) -> Tensor:
    """The label map of one output; MismatchError where it is not of the data set's classes."""
    classes, size = len(data.classes[head]), (int(image.shape[-2]), int(image.shape[-1]))
    try:
        (read,) = read_output(outputs, name, found, size)
        if read.meaning.labels not in (None, classes):
            raise MismatchError(
                f"the net scores {read.meaning.labels} classes, and {data.title} has {classes}",
                path=data.root,
                hint="the names of your own classes go into a file classes.txt in the data set's folder, one a line",
            )
        labels = read.labels(threshold=threshold)
    except NetError as error:
        raise MismatchError(error.problem, path=data.root, hint=error.hint) from error
    if read.meaning.kind == "labels" and int(labels.max()) >= classes:
        problem = f"the net gives label {int(labels.max())}, and {data.title} has {classes} classes"
        raise MismatchError(problem, path=data.root)
    if read.coarse is not None and not _told(outputs):
        _told(outputs).append(coarse_note(read.coarse, size))
        _log.warning("%s", _told(outputs)[0])
    return labels.to(torch.uint8)


@lru_cache(maxsize=16)
def _told(outputs: NetOutputs) -> list[str]:
    """The note on interpolated outputs that was told of a net; it is told once."""
    return []
