"""read_source: a Caffe net and its blobs from files or from what is in files, ready to be written as ONNX."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from converters.errors import MismatchError
from converters.execution import cover, to_arrays
from converters.formats import CaffeModel, parse_caffemodel, parse_prototxt, read_caffemodel, read_prototxt
from converters.net import NetSpec, borrowed_blobs, check_weights_made, infer_blobs
from converters.passes import prepare

if TYPE_CHECKING:
    Given = str | os.PathLike[str] | bytes | bytearray | memoryview | np.ndarray
    Blobs = Mapping[str, Sequence[np.ndarray]]


@dataclass(frozen=True)
class Source:
    """A net as OpenCV is to run it, and its learnable blobs by state dict key."""

    spec: NetSpec
    arrays: Mapping[str, np.ndarray]


def read_source(net: Given, weights: Given | None, blobs: Mapping[str, Sequence[np.ndarray]]) -> Source:
    """The net in `net` with the blobs in `weights`, those of `blobs` in place of its own or beside them.

    Learnable blobs that nobody gives are NaN, and so is then what the net computes: OpenCV 4, too, lets a program set
    them after reading, with `net.getLayer(id).blobs = [...]`. Raises CaffeFormatError, and FileNotFoundError.
    """
    spec = _read_net(net)
    model = CaffeModel(spec, {}) if weights is None else _read_model(weights)
    tops = {layer.tops[0]: layer.name for layer in spec.layers if layer.type == "Convolution" and layer.tops}
    known = {layer.name for layer in spec.layers}
    blobs = {name if name in known else tops.get(name, name): values for name, values in blobs.items()}
    strangers = [name for name in blobs if name not in known]
    if strangers:
        raise MismatchError(f"blobs: the net has no layer '{strangers[0]}'", path=spec.path)
    given = {name: tuple(np.asarray(value, np.float32) for value in values) for name, values in blobs.items()}
    model = replace(model, blobs={**model.blobs, **given})
    deploy = prepare(spec, blobs=model.blobs)
    model = replace(model, blobs={**model.blobs, **_unset(deploy, model)})
    return Source(deploy, to_arrays(model, cover(model, spec=spec, prepared=deploy)))


def _read_net(given: Given) -> NetSpec:
    if isinstance(given, (str, os.PathLike)):
        return read_prototxt(given)
    return parse_prototxt(bytes(given).decode("utf-8", errors="replace"))


def _read_model(given: Given) -> CaffeModel:
    if isinstance(given, (str, os.PathLike)):
        return read_caffemodel(given)
    return parse_caffemodel(bytes(given))


def _unset(deploy: NetSpec, model: CaffeModel) -> dict[str, tuple[np.ndarray, ...]]:
    """NaN for the layers that have no blobs at all, and none of another layer; LimitError where these are too many."""
    held = {*model.blobs, *(name for (name, _), (owner, _) in borrowed_blobs(deploy).items() if owner in model.blobs)}
    missing = {name: shapes for name, shapes in infer_blobs(deploy).items() if name not in held}
    check_weights_made(deploy, missing)
    return {name: tuple(np.full(shape, np.nan, np.float32) for shape in shapes) for name, shapes in missing.items()}
