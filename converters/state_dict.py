"""Caffe's blobs under PyTorch keys, and back; every blob and every parameter is accounted for.

Keys go by position, whatever the layer type: `<layer>.weight`, `<layer>.bias`, then `<layer>.blob2` and so on, with
Caffe's layer name unchanged. The layouts of Caffe and PyTorch agree for every layer, so values are never touched; all
that may change is a blob's shape, and only in the ways of `Fit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from .caffemodel import Blobs, CaffeModel
from .errors import MismatchError, NetError, place
from .net import LayerSpec, NetSpec, Shape
from .passes import to_deploy
from .shapes import infer_blobs

if TYPE_CHECKING:
    from torch import Tensor

Fit = Literal["as it is", "legacy dims reduced", "fully connected and convolution exchanged"]
_NAMES = ("weight", "bias")


@dataclass(frozen=True)
class Entry:
    """One blob's way into the state dict: where it comes from, where it goes, and what became of its shape."""

    key: str
    layer: str
    position: int
    source_shape: Shape
    shape: Shape
    fit: Fit


@dataclass(frozen=True)
class Coverage:
    """What `cover` found: the entries in the order of the net, and the blobs of layers that the net does not have.

    `unchecked` says why shapes could not be compared with the net's own, where they could not.
    """

    entries: tuple[Entry, ...]
    unused: tuple[tuple[str, int, Shape], ...] = ()
    unchecked: str | None = None


def key_of(layer: str, position: int) -> str:
    """The state dict key of blob `position` of a layer."""
    return f"{layer}.{_NAMES[position] if position < len(_NAMES) else f'blob{position}'}"


def split_key(key: str) -> tuple[str, int]:
    """The layer and the position of a state dict key; MismatchError for a key of another form."""
    layer, _, name = key.rpartition(".")
    if layer and name in _NAMES:
        return layer, _NAMES.index(name)
    if layer and name.startswith("blob") and name[4:].isdecimal() and int(name[4:]) >= len(_NAMES):
        return layer, int(name[4:])
    raise MismatchError(f"key '{key}'", hint="expected <layer>.weight, <layer>.bias or <layer>.blob2 and so on")


def cover(model: CaffeModel, *, spec: NetSpec | None = None) -> Coverage:
    """Match the blobs of `model` with the parameters of `spec` (by default the net in the file).

    Raises MismatchError, naming the blob, where a parameter of the net has no blob or a blob does not fit it. Blobs
    of layers that the net lacks are listed as unused: Caffe ignores them too, and training nets have such heads.
    """
    spec = spec or model.spec
    if spec is None:
        rows = [_entry(name, i, b.shape, b.shape) for name, blobs in model.blobs.items() for i, b in enumerate(blobs)]
        return Coverage(tuple(rows), unchecked="the file holds no net; give its prototxt to have shapes checked")
    expected, unchecked = _expected_shapes(spec, model.blobs)
    try:
        rows = [row for layer in spec.layers for row in _cover_layer(layer, model.blobs, expected)]
        if model.blobs and not rows:
            raise MismatchError("no layer of the net has blobs in this file")
    except MismatchError as error:
        error.hint = f"the net is {spec.path or 'the one in the file'}; its layers and the file's must be the same"
        raise error.in_file(model.path or "the weights") from None
    names = {layer.name for layer in spec.layers}
    unused = tuple((n, i, b.shape) for n, blobs in model.blobs.items() if n not in names for i, b in enumerate(blobs))
    return Coverage(tuple(rows), unused, unchecked)


def _expected_shapes(spec: NetSpec, blobs: Blobs) -> tuple[Mapping[str, tuple[Shape, ...]], str | None]:
    """The shapes of every layer's blobs as Caffe would make them, as far as the net tells, and why not further."""
    deploy = to_deploy(spec, blobs=blobs)
    try:
        expected = infer_blobs(deploy)
    except NetError as error:
        return {}, str(error)
    if deploy != spec:
        # A training net does not say how large its input is, and the weight of an InnerProduct depends on it.
        expected = {n: s for n, s in expected.items() if deploy.layer(n).type != "InnerProduct"}
    lent: set[str] = set()
    for layer in deploy.layers:
        names = {param.name for param in layer.param_specs if param.name}
        if names & lent and not blobs.get(layer.name):
            expected = {n: s for n, s in expected.items() if n != layer.name}
        lent |= names
    return expected, None


def _cover_layer(layer: LayerSpec, blobs: Blobs, expected: Mapping[str, tuple[Shape, ...]]) -> Iterator[Entry]:
    own = blobs.get(layer.name, ())
    shapes = expected.get(layer.name)
    if shapes is not None and len(shapes) != len(own):
        raise MismatchError(f"the net has {len(shapes)} blobs; found {len(own)} in the weights", where=layer.place)
    ranks = layer.params.blob_ranks if layer.params else ()
    for i, blob in enumerate(own):
        if shapes is not None:
            goal = shapes[i]
        else:
            goal = _reduce(blob.shape, ranks[i] if i < len(ranks) else len(blob.shape))
        with place(f"{layer.place} blob {i}"):
            yield _entry(layer.name, i, blob.shape, goal)


def _entry(layer: str, position: int, source: Shape, goal: Shape) -> Entry:
    return Entry(key_of(layer, position), layer, position, source, goal, _fit(source, goal))


def _fit(source: Shape, goal: Shape) -> Fit:
    """How a blob of shape `source` becomes one of shape `goal`; the order of the values never changes."""
    if source == goal:
        return "as it is"
    reduced = _reduce(source, len(goal))
    if reduced == goal:
        return "legacy dims reduced"
    matrix, image = sorted((_reduce(source, 2), goal), key=len)
    if len(matrix) == 2 and len(image) == 4 and matrix == (image[0], prod(image[1:])):
        return "fully connected and convolution exchanged"
    raise MismatchError(f"the net needs shape {goal}; found {source}")


def _reduce(shape: Shape, rank: int) -> Shape:
    """`shape` without leading ones, down to `rank` axes: blobs had four axes before 2015 (blob.cpp, ShapeEquals)."""
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return shape


def to_arrays(model: CaffeModel, coverage: Coverage) -> dict[str, np.ndarray]:
    """The blobs under their keys, reshaped and not copied."""
    return {entry.key: model.blobs[entry.layer][entry.position].reshape(entry.shape) for entry in coverage.entries}


def to_state_dict(model: CaffeModel, *, spec: NetSpec | None = None) -> dict[str, Tensor]:
    """The blobs as tensors of their own, in the file's types and the shapes that the net's layers need.

    `spec` is another net to fit them to, such as a deploy net; raises MismatchError as `cover` does.
    """
    from torch import from_numpy

    return {key: from_numpy(np.array(blob)) for key, blob in to_arrays(model, cover(model, spec=spec)).items()}


def from_state_dict(state: Mapping[str, Tensor], spec: NetSpec) -> CaffeModel:
    """The way back: a state dict with the keys of `to_state_dict` as a model of `spec`, in the order of its layers.

    Raises MismatchError for a key that the net has no place for, a gap in the positions, or a shape that does not fit.
    """
    found: dict[str, dict[int, np.ndarray]] = {}
    for key, tensor in state.items():
        layer, position = split_key(key)
        found.setdefault(layer, {})[position] = tensor.detach().cpu().numpy()
    names = [layer.name for layer in spec.layers]
    strangers = [key for key in state if split_key(key)[0] not in names]
    if strangers:
        raise MismatchError(f"the net has no layer for {', '.join(strangers[:5])}", path=spec.path)
    blobs: dict[str, tuple[np.ndarray, ...]] = {}
    for name in dict.fromkeys(names):
        positions = found.get(name, {})
        if sorted(positions) != list(range(len(positions))):
            raise MismatchError(f"layer '{name}' has blobs {sorted(positions)}; one is missing", path=spec.path)
        if positions:
            blobs[name] = tuple(positions[i] for i in range(len(positions)))
    model = CaffeModel(spec=spec, blobs=MappingProxyType(blobs))
    arrays = to_arrays(model, coverage := cover(model))
    shaped = {n: tuple(arrays[e.key] for e in coverage.entries if e.layer == n) for n in blobs}
    for array in (array for own in shaped.values() for array in own):
        array.flags.writeable = False
    return CaffeModel(spec=spec, blobs=MappingProxyType(shaped))
