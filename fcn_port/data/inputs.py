"""From a sample to the input blobs of a net."""

from __future__ import annotations

from torch import Tensor

from weights.records import Preprocessing

from ..predict.images import to_input
from .records import DataSet, Sample


def net_inputs(data: DataSet, sample: Sample, preprocessing: Preprocessing) -> dict[str, Tensor]:
    """The input blobs (1, c, h, w) float32 by name, equal to the last bit to what the release's data layers make.

    `sample` was read with `kinds=input_kinds(preprocessing)`.
    """
    return {each.name: to_input(sample.images[each.kind], data.recipe(each)) for each in preprocessing.inputs}


def input_kinds(preprocessing: Preprocessing) -> tuple[str, ...]:
    """The kinds of image that a net looks at."""
    return tuple(dict.fromkeys(each.kind for each in preprocessing.inputs))
