"""CaffeNet: any Caffe net as a PyTorch module, executed layer by layer as Caffe does (net.cpp)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError, NetError
from ..escaping import identifiers, terminal
from ..given import names_of
from ..layers.base import blob_name
from ..net.layer import LayerSpec, Shape
from ..net.parameter_sharing import borrowed_blobs
from ..net.shapes import check_weights_made, infer_blobs, known_params
from ..net.spec import NetSpec, refuse_no_spec
from ..net.validate import validate
from ..passes.cut import cut
from ..passes.input_size import fit_inputs
from ..passes.prepare import prepare
from ..recorded import is_recorded
from ..safety.allocation import enough_memory
from .by_name import ByAnyName
from .indices import indices_within
from .input_misfit import free_shape, no_tensor, refuse_no_numbers, wrong_inputs
from .loading import load_state_dict
from .operations import Operation, Storage, in_order
from .varying import check_fit
from .written_over import written_over

MOST_REMEMBERED = 64
"""The number of input sizes that a net remembers as checked."""
GIVEN_LATER = frozenset(
    {"card", "release", "preprocessing", "classes", "palette", "definition", "explain", "engine", "shapes", "reads"}
)
"""The attributes that `fcn_port.load` gives a net beside these, and no layer may take as its attribute."""


class CaffeNet(ByAnyName):
    """Executes a NetSpec: same blobs, same names, same numbers as Caffe in its TEST phase.

    Data and loss layers are taken out first, and Caffe's Split layers, which only copy names (`passes.prepare`).
    `outputs` names the blobs to compute, with what they need; without it they are all that no layer consumes. Unlike
    most modules it starts in eval mode; `train()` turns on dropout and the batch's own statistics, and has recurrent
    layers go on from the pass before.

    The state dict has the keys `<layer>.weight`, `<layer>.bias`, `<layer>.blob2` ... under Caffe's layer names, also
    where an attribute cannot have that name (a/b is a_b then). Blobs that layers share are there once, under the first
    layer's key; loading accepts both, and as in Caffe the last one counts. Before weights are loaded they are zeros,
    except where zeros would block the net: variances, scales and slopes.

    Raises NetError where Caffe would refuse the net or `spec` is None, as that of a file of weights alone,
    UnknownLayerError for an unsupported layer type.
    """

    gathers = False
    """True for passes in eval mode that add to what layers gather in any phase, as Caffe's do (`Layer.gathers`)."""

    def __init__(self, spec: NetSpec | None, *, outputs: Sequence[str] | None = None) -> None:
        super().__init__()
        if spec is None:
            raise NetError("the file holds weights and no net", hint="give its prototxt: read_prototxt(PROTOTXT)")
        refuse_no_spec(spec)
        spec = prepare(spec)
        validate(spec)
        self.outputs = spec.outputs if outputs is None else names_of(outputs)
        self._build(spec if outputs is None else cut(spec, self.outputs))
        self.eval()

    def _build(self, spec: NetSpec) -> None:
        """Make the parameters and the steps of a net that is whole."""
        self.spec = spec
        self.inputs: Mapping[str, Shape] = dict(self.spec.inputs)
        self._blob_shapes = infer_blobs(self.spec)
        if not torch.empty(0).is_meta:  # where they take nothing
            check_weights_made(self.spec, self._blob_shapes)
        self._checked: set[tuple[tuple[str, Shape], ...]] = set()
        self._lent: dict[str, str] = {}
        self._attributes: dict[str, str] = {}
        self._states: dict[str, tuple[Tensor, ...]] = {}
        self._steps: tuple[Operation, ...] = ()
        self._steps = in_order(self.spec, self.outputs, self._allocate())

    def forward(self, x: Tensor | None = None, /, *more: Tensor, **named: Tensor) -> Tensor | dict[str, Tensor]:
        """The output, or {name: output} where there are several; float (n, c, h, w) of any n, h and w, as a rule.

        Inputs go by position in the order of the net, or by name. Raises ValueError where they do not fit the net.
        """
        blobs = self._run(self._feed(x, more, named), keep=False)
        if len(self.outputs) == 1:
            return blobs[self.outputs[0]]
        return {name: blobs[name] for name in self.outputs}

    def blobs(self, x: Tensor | None = None, /, *more: Tensor, **named: Tensor) -> dict[str, Tensor]:
        """Every blob as Caffe holds it after a forward pass: in-place layers have overwritten their bottom."""
        fed = self._feed(x, more, named)
        try:
            return self._run(dict(fed), keep=True)
        except RuntimeError as error:
            self._refuse_misfit((), fed, error)
            raise

    def _run(self, blobs: dict[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
        for step in self._steps:
            if torch.compiler.is_compiling():
                self._execute(step, blobs)
            else:
                with enough_memory(step.place), indices_within(step.place):
                    self._execute(step, blobs)
            if not keep:
                for name in step.done:
                    del blobs[name]
        return blobs

    def _execute(self, step: Operation, blobs: dict[str, Tensor]) -> None:
        learnable = [self._learnable(place) for place in step.learnable]
        bottoms = [blobs[name] for name in step.bottoms]
        if step.varies and not is_recorded():
            check_fit(step.place, step.params, *([tuple(x.shape) for x in each] for each in (bottoms, learnable)))
        if self.training:
            bottoms = [blob.detach() if place in step.stopped else blob for place, blob in enumerate(bottoms)]
            learnable = written_over(step, bottoms, learnable)
        if self.training and step.goes_on:
            tops, self._states[step.place] = step.params.go_on(bottoms, learnable, self._states.get(step.place))  # type: ignore[attr-defined]
        else:
            training = self.training or (self.gathers and step.params.gathers)
            tops = step.params.forward(bottoms, learnable, training=training)
        blobs.update(zip(step.tops, tops, strict=True))
        for name, changed in step.aliases:
            blobs[name] = blobs[changed].reshape(blobs[name].shape)

    def _learnable(self, place: Storage) -> Tensor:
        blob: Tensor = getattr(getattr(self, place.attribute), place.name)
        return blob if place.view is None else blob.reshape(place.view)

    # Inputs

    def _feed(self, x: Tensor | None, more: Sequence[Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given = (*(() if x is None else (x,)), *more)
        names = tuple(self.inputs)
        fed = dict(zip(names, given, strict=False))
        wrong = [name for name in named if name not in names or name in fed]
        fed.update(named)
        if len(given) > len(names) or wrong or len(fed) < len(names):
            raise wrong_inputs(names, given, named)
        for name, expected in self.inputs.items():
            _check_input(name, fed[name], expected)
        if not is_recorded():
            refuse_no_numbers(self.parameters(), fed.values())
            self._check_sizes({name: tuple(fed[name].shape) for name in names})
        return {name: fed[name] for name in names}

    def _check_sizes(self, shapes: Mapping[str, Shape]) -> None:
        """Say which layer an input does not fit, where PyTorch would only say that some tensors do not fit."""
        key = tuple(shapes.items())
        if key in self._checked or not all(type(size) is int for shape in shapes.values() for size in shape):
            return
        for name, shape in shapes.items():
            if 0 in shape:
                expected = free_shape(self.inputs[name])
                raise InputError(f"input '{terminal(name)}': expected {expected}, found {shape}, which is empty")
        for layer, blobs in infer_blobs(self.spec, shapes).items():
            if blobs != self._blob_shapes[layer]:
                raise NetError(
                    f"inputs {dict(shapes)} do not fit: layer '{terminal(layer)}' would need blobs {blobs}; "
                    f"it has {self._blob_shapes[layer]}"
                )
        if len(self._checked) >= MOST_REMEMBERED:
            self._checked.clear()
        self._checked.add(key)

    # Learnable blobs

    def _allocate(self) -> dict[str, tuple[Storage, ...]]:
        """Make the parameters; where each layer finds its blobs."""
        owned: dict[tuple[str, int], tuple[str, Storage, Shape]] = {}
        places: dict[str, tuple[Storage, ...]] = {}
        attributes, borrowed = self._free_attributes(), borrowed_blobs(self.spec)
        for layer in self.spec.layers:
            shapes = self._blob_shapes.get(layer.name, ())
            if layer.name in places and shapes:
                raise NetError("two layers with blobs have this name", path=self.spec.path, where=layer.place)
            own: dict[int, Shape] = {}
            found = []
            for position, shape in enumerate(shapes):
                place = Storage(attributes[layer.name], blob_name(position))
                key = f"{layer.name}.{place.name}"
                owner = borrowed.get((layer.name, position))
                if owner is not None:
                    if owner not in owned:  # net.cpp refuses a layer with more params than blobs
                        problem = f"blob {position} is shared with blob {owner[1]} of '{owner[0]}', which has no such"
                        raise NetError(problem, path=self.spec.path, where=layer.place)
                    found.append(self._lend(layer, key, position, shape, owned[owner]))
                    continue
                owned[layer.name, position] = key, place, shape
                own[position] = shape
                found.append(place)
            places[layer.name] = tuple(found)
            if own:
                self.add_module(attributes[layer.name], LayerBlobs(layer, attributes[layer.name], own))
                if attributes[layer.name] != layer.name:
                    self._attributes[layer.name] = attributes[layer.name]
        return places

    def _free_attributes(self) -> dict[str, str]:
        """The attribute for each layer: its name where that is a plain one, and else a name of ours.

        torch.fx writes the paths of parameters into program text as they are, and runs it.
        """
        names = [layer.name for layer in self.spec.layers if layer.name in self._blob_shapes]
        return identifiers(names, {*dir(self), *GIVEN_LATER})

    def _lend(
        self, layer: LayerSpec, key: str, position: int, shape: Shape, owner: tuple[str, Storage, Shape]
    ) -> Storage:
        owner_key, place, owner_shape = owner
        if shape != owner_shape and not _same_count(layer, position, shape, owner_shape):
            raise NetError(
                f"blob {position} of shape {shape} is shared with {owner_key} of shape {owner_shape}",
                path=self.spec.path,
                where=layer.place,
                hint="shared blobs have one shape, or with share_mode: PERMISSIVE as many elements",
            )
        self._lent[key] = owner_key
        return place if shape == owner_shape else Storage(place.attribute, place.name, shape)

    # Keys

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """As in every module, with Caffe's layer names."""
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        _rename(state, kwargs.get("prefix", ""), {attribute: layer for layer, attribute in self._attributes.items()})
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in every module, with Caffe's layer names.

        Where the net does not say how large its inputs are, the weights tell, and the net becomes one of that size.
        """
        self._fit(state_dict)
        return load_state_dict(self, state_dict, strict=strict, assign=assign)

    def _fit(self, state_dict: Mapping[str, Any]) -> None:
        """Make the parameters anew where the inputs' shapes were assumed and the weights are those of others."""
        assumed = [name for name in self.spec.assumed if name in self.inputs]
        held = {
            layer: [state_dict.get(f"{layer}.{blob_name(i)}") for i in range(len(own))]
            for layer, own in self._blob_shapes.items()
        }
        shapes = {
            layer: [tuple(blob.shape) for blob in blobs if isinstance(blob, Tensor)]
            for layer, blobs in held.items()
            if all(isinstance(blob, Tensor) for blob in blobs)
        }
        own = {layer: self._blob_shapes[layer] for layer in shapes}
        if not assumed or all([*map(math.prod, own[layer])] == [*map(math.prod, shapes[layer])] for layer in shapes):
            return
        blank = {layer: [np.broadcast_to(np.float32(0), each) for each in found] for layer, found in shapes.items()}
        spec, _ = fit_inputs(self.spec, assumed, blank)
        if dict(spec.inputs) != dict(self.inputs):
            where = next((parameter.device for parameter in self.parameters()), None)
            training = self.training
            for name in [name for name, module in self.named_children() if isinstance(module, LayerBlobs)]:
                delattr(self, name)
            self._build(spec)
            self.to(where).train(training)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for key, owner in self._lent.items():
            if prefix + key in state_dict:
                _absorb(state_dict, prefix + key, prefix + owner)
        unknown = _only_ours(state_dict, prefix, self._attributes)
        for key in unknown:
            del state_dict[key]
        unexpected_keys += unknown if strict else []
        _rename(state_dict, prefix, self._attributes)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class LayerBlobs(nn.Module):
    """The learnable blobs of one layer; CaffeNet computes with them."""

    def __init__(self, layer: LayerSpec, attribute: str, shapes: Mapping[int, Shape]) -> None:
        super().__init__()
        self._layer, self._attribute, self._params = layer.name, attribute, known_params(layer)
        fills, statistics = self._params.blob_fills(), self._params.statistics()
        for position, shape in shapes.items():
            with enough_memory(layer.place):
                blob = torch.full(shape, fills[position] if position < len(fills) else 0.0)
            self.register_parameter(blob_name(position), nn.Parameter(blob, requires_grad=position not in statistics))

    def extra_repr(self) -> str:
        return repr(self._params)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """As in every module, but complaints have Caffe's layer name."""
        complaints: tuple[list[str], list[str], list[str]] = ([], [], [])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *complaints)
        caffe_prefix = f"{prefix.removesuffix(self._attribute + '.')}{self._layer}."
        for found, goal in zip(complaints, (missing_keys, unexpected_keys, error_msgs), strict=True):
            goal += [text.replace(prefix, caffe_prefix, 1) for text in found]


def _check_input(name: str, x: Tensor, expected: Shape) -> None:
    if not isinstance(x, Tensor):
        raise no_tensor(name, x)
    streams = len(expected) == 3 or expected[1:] == (1,)  # (steps, streams, numbers), and where sequences go on
    if x.ndim != len(expected) or (x.ndim > 1 and x.shape[1] != expected[1] and not streams):
        raise InputError(f"input '{terminal(name)}': expected {free_shape(expected)}, found {tuple(x.shape)}")


def _same_count(layer: LayerSpec, position: int, shape: Shape, owner_shape: Shape) -> bool:
    """True where Caffe lets this blob be another view of its owner's memory."""
    param = layer.message.param[position]
    permissive = param.share_mode == param.DimCheckMode.Value("PERMISSIVE")
    return permissive and torch.Size(shape).numel() == torch.Size(owner_shape).numel()


def _rename(state: MutableMapping[str, Any], prefix: str, names: Mapping[str, str]) -> None:
    """Replace the layer part of every key below `prefix`, all at once, keeping the order."""
    if not names:
        return
    renamed = []
    for key, value in state.items():
        layer, _, blob = key.removeprefix(prefix).rpartition(".")
        mine = key.startswith(prefix) and layer in names
        renamed.append((f"{prefix}{names[layer]}.{blob}" if mine else key, value))
    state.clear()
    state.update(renamed)


def _only_ours(state: Mapping[str, Any], prefix: str, attributes: Mapping[str, str]) -> list[str]:
    """The keys that name an attribute of ours where Caffe's name of its layer belongs."""
    ours = set(attributes.values()) - attributes.keys()
    return [key for key in state if key.startswith(prefix) and key.removeprefix(prefix).rpartition(".")[0] in ours]


def _absorb(state: MutableMapping[str, Any], key: str, owner: str) -> None:
    """Move a shared blob to its owner's key: copying one layer after the other, Caffe keeps the last."""
    value, first = state.pop(key), state.get(owner)
    if first is not None:
        value = value.reshape(first.shape) if value.numel() == first.numel() else value
        if not torch.equal(value, first):
            one, other = terminal(owner), terminal(key)
            warnings.warn(f"'{one}' and '{other}' are shared and differ; '{other}' counts, as in Caffe", stacklevel=2)
    state[owner] = value
