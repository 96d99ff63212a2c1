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

from ..arrays import to_array
from ..errors import MismatchError, NetError, place
from ..formats.model import CaffeModel, is_left_out, refuse_no_model
from ..given import refuse_other_than
from ..lazy import import_or_say
from ..net.layer import LayerSpec, Shape
from ..net.parameter_sharing import BlobId, borrowed_blobs
from ..net.shapes import iter_layer_shapes
from ..net.spec import NetSpec, refuse_no_spec
from ..passes.merge_splits import merge_splits
from ..passes.prepare import prepare

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
    """The entries that `cover` found, in the order of the net, and the blobs of layers that the net does not have.

    `unchecked` says from where on shapes could not be compared with the net's own, and why, where they could not.
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
    if name in _NAMES:
        return layer, _NAMES.index(name)
    number = name.removeprefix("blob")
    if number.isascii() and number.isdecimal() and key == key_of(layer, int(number)):
        return layer, int(number)
    raise MismatchError(f"key '{key}'", hint="expected <layer>.weight, <layer>.bias or <layer>.blob2 and so on")


def cover(model: CaffeModel, *, spec: NetSpec | None = None, prepared: NetSpec | None = None) -> Coverage:
    """Match the blobs of `model` with the parameters of `spec` (by default the net in the file).

    `prepared` is what `passes.prepare` makes of that net and these blobs, where the caller has it already. Blobs of
    layers that the net lacks are listed as unused: Caffe ignores them too, and training nets have such heads. Raises
    MismatchError, naming the blob, where a parameter of the net has no blob or a blob does not fit it; a blob that is
    shared with another layer may be missing.
    """
    refuse_no_model(model)
    spec = spec or model.spec
    present = [(name, i, b.shape) for name, own in model.blobs.items() for i, b in enumerate(own) if not is_left_out(b)]
    if spec is None:
        rows = [_entry(name, i, shape, shape) for name, i, shape in present]
        return Coverage(tuple(rows), unchecked="the file holds no net; give its prototxt to have shapes checked")
    layers = {layer.name: layer for layer in spec.layers}
    expected, unchecked = _expected_shapes(spec, prepared or prepare(spec, blobs=model.blobs))
    borrowed = borrowed_blobs(spec)
    try:
        if model.blobs and not layers.keys() & model.blobs.keys():
            raise MismatchError(f"no layer of the net is in this file, which has {', '.join([*model.blobs][:5])} ...")
        rows = []
        for name, layer in layers.items():
            lent = [position for owner, position in borrowed if owner == name]
            rows += _cover_layer(layer, model.blobs.get(name, ()), expected.get(name), lent)
    except MismatchError as error:
        error.hint = f"the net is {spec.path or 'the one in the file'}; its layers and the file's must be the same"
        raise error.in_file(model.path or "the weights") from None
    except NetError as error:
        raise error.in_file(spec.path or "the net") from None
    unused = tuple(row for row in present if row[0] not in layers)
    return Coverage(tuple(rows), unused, unchecked)


def _expected_shapes(spec: NetSpec, deploy: NetSpec) -> tuple[dict[str, tuple[Shape, ...]], str | None]:
    """The shapes of every layer's blobs as Caffe would make them, as far as the net tells, and why not further."""
    whole = deploy == merge_splits(spec)
    expected: dict[str, tuple[Shape, ...]] = {}
    unchecked = None
    try:
        for row in iter_layer_shapes(deploy):
            # A training net does not say how large its input is, and the weight of an InnerProduct depends on it.
            if row.blobs and (row.layer.type != "InnerProduct" or whole):
                expected[row.layer.name] = row.blobs
    except NetError as error:
        unchecked = f"{error.where}: {error.problem}"
    return expected, unchecked


def _cover_layer(
    layer: LayerSpec, own: tuple[np.ndarray, ...], expected: tuple[Shape, ...] | None, borrowed: list[int]
) -> Iterator[Entry]:
    """The entries of one layer; `expected` are the shapes of its blobs, if they are known."""
    here = [i for i, blob in enumerate(own) if not is_left_out(blob)]
    if expected is not None:
        missing = [i for i in range(len(expected)) if i not in here and i not in borrowed]
        if missing or len(own) > len(expected):
            problem = f"the net has {len(expected)} blobs; found {len(here)} in the weights"
            raise MismatchError(problem, where=layer.place)
    ranks = _ranks(layer)
    for i in here:
        source = own[i].shape
        goal = expected[i] if expected is not None else _reduce(source, ranks[i] if i < len(ranks) else len(source))
        with place(f"{layer.place} blob {i}"):
            yield _entry(layer.name, i, source, goal)


def _ranks(layer: LayerSpec) -> tuple[int, ...]:
    """The number of axes of each of the layer's blobs, where that can be told without reading its parameters right."""
    try:
        return layer.params.blob_ranks if layer.params else ()
    except NetError:  # the parameters of a fork's layer have no names in a binary file
        return ()


def _entry(layer: str, position: int, source: Shape, goal: Shape) -> Entry:
    return Entry(key_of(layer, position), layer, position, source, goal, _fit(source, goal))


def _fit(source: Shape, goal: Shape) -> Fit:
    """The way in which a blob of shape `source` becomes one of shape `goal`; the order of the values never changes."""
    if source == goal:
        return "as it is"
    if _reduce(source, len(goal)) == goal:
        return "legacy dims reduced"
    if any(_are_matrix_and_image(*pair) for pair in ((source, goal), (goal, source), (_reduce(source, 2), goal))):
        return "fully connected and convolution exchanged"
    raise MismatchError(f"the net needs shape {goal}; found {source}")


def _are_matrix_and_image(matrix: Shape, image: Shape) -> bool:
    """True where these are O x I and O x C x H x W with I = C H W: the weights of one layer, seen in two ways."""
    return len(matrix) == 2 and len(image) == 4 and matrix == (image[0], prod(image[1:]))


def _reduce(shape: Shape, rank: int) -> Shape:
    """`shape` without leading ones, down to `rank` axes: blobs had four axes before 2015 (blob.cpp, ShapeEquals)."""
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return shape


def to_arrays(model: CaffeModel, coverage: Coverage) -> dict[str, np.ndarray]:
    """The blobs under their keys, reshaped and not copied."""
    return {entry.key: model.blobs[entry.layer][entry.position].reshape(entry.shape) for entry in coverage.entries}


def to_state_dict(
    model: CaffeModel, *, spec: NetSpec | None = None, prepared: NetSpec | None = None
) -> dict[str, Tensor]:
    """The blobs as tensors of their own, in the file's types and the shapes that the net's layers need.

    `spec` is another net to fit them to, such as a deploy net; `prepared` as in `cover`, which says what it raises.
    """
    arrays = to_arrays(model, cover(model, spec=spec, prepared=prepared))
    torch = import_or_say("torch", "converters.to_state_dict")
    return {key: torch.from_numpy(np.array(blob)) for key, blob in arrays.items()}


def from_state_dict(state: Mapping[str, Tensor], spec: NetSpec) -> CaffeModel:
    """The way back: a state dict with the keys of `to_state_dict` as a model of `spec`, in the order of its layers.

    The blobs are views of tensors on a CPU; bfloat16, which Caffe never had, becomes float32. Blobs that layers share
    may be given once, and are in the model for each layer, as Caffe writes them. Raises MismatchError for a key that
    the net has no place for, and for a blob that is missing or does not fit.
    """
    refuse_other_than(Mapping, state, "a state dict, as net.state_dict() gives it")
    refuse_no_spec(spec)
    arrays = {split_key(key): to_array(tensor) for key, tensor in state.items()}
    _lend(arrays, spec)
    names = dict.fromkeys(layer.name for layer in spec.layers)
    strangers = [key_of(layer, position) for layer, position in arrays if layer not in names]
    if strangers:
        raise MismatchError(f"the net has no layer for {', '.join(strangers[:5])}", path=spec.path)
    blobs: dict[str, tuple[np.ndarray, ...]] = {}
    for name in names:
        own = {position: array for (layer, position), array in arrays.items() if layer == name}
        if sorted(own) != list(range(len(own))):
            raise MismatchError(f"layer '{name}' has blobs {sorted(own)}; one is missing", path=spec.path)
        if own:
            blobs[name] = tuple(own[position] for position in range(len(own)))
    model = CaffeModel(spec=spec, blobs=MappingProxyType(blobs))
    fitted = to_arrays(model, cover(model))
    shaped = {name: tuple(fitted[key_of(name, i)] for i in range(len(own))) for name, own in blobs.items()}
    for array in fitted.values():
        array.flags.writeable = False
    return CaffeModel(spec=spec, blobs=MappingProxyType(shaped))


def _lend(arrays: dict[BlobId, np.ndarray], spec: NetSpec) -> None:
    """Give layers the blobs that they share with an earlier layer and that are not in `arrays` by themselves."""
    borrowed = borrowed_blobs(spec)
    if not borrowed:
        return
    weights = {layer: (array,) for (layer, position), array in arrays.items() if position == 0}
    deploy = prepare(spec, blobs=weights)
    expected, _ = _expected_shapes(spec, deploy)
    for (layer, position), owner in borrowed.items():
        if (layer, position) in arrays or owner not in arrays:
            continue
        shapes = expected.get(layer, (*[()] * position, arrays[owner].shape))
        if position < len(shapes) and prod(shapes[position]) == arrays[owner].size:
            arrays[layer, position] = arrays[owner].reshape(shapes[position])
        elif deploy.assumed:  # the shape follows from a guess of ours
            arrays[layer, position] = arrays[owner]
