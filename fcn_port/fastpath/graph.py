"""A net's definition as a list of steps: what `fast` plans with where a first layer pads widely, and runs.

Steps are the operations of the net's flow (`flow.read`), as every CaffeNet's are; a ReLU behind a convolution is part
of it. Weights come from the net's state dict, by the names of their layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from math import prod

from torch import Tensor

from converters.errors import NetError
from converters.execution import CaffeNet
from converters.layers import convolution, neuron, pooling
from converters.net import Layer, Shape

from ..nets.fcn import FCN
from .flow import Flow, FlowLayer, read, state_key
from .geometry import Sliding

Pair = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One layer at work, with the ReLU that follows it (`relu`) made part of it."""

    name: str
    layer: FlowLayer
    bottoms: tuple[str, ...]
    top: str
    relu: bool = False

    @property
    def params(self) -> Layer:
        """The layer's settings."""
        return self.layer.params

    @property
    def slidings(self) -> tuple[Sliding, Sliding] | None:
        """The steps of its window over rows and columns; None for a layer that has no such window."""
        params = self.params
        if is_convolution(params):
            return _slidings(params.along(2)[:3])  # type: ignore[attr-defined]
        if is_max_pool(params):
            assert isinstance(params, pooling.Pooling)
            rows, cols = _slidings((params.kernel, params.stride, params.pad))
            rows, cols = (replace(each, edgeless=True, ceil=params.ceil) for each in (rows, cols))
            return rows, cols
        return None

    @property
    def work(self) -> int:
        """Multiply-adds for one position of the output, all channels."""
        return prod(self.layer.blobs[0][1]) if type(self.params) is convolution.Convolution else 0

    @property
    def features(self) -> int:
        """The channels that a convolution makes; 0 for any other layer."""
        return self.params.num_output if type(self.params) is convolution.Convolution else 0

    @property
    def channels(self) -> int:
        """The channels that a convolution reads."""
        assert isinstance(self.params, convolution.Convolution)
        return self.layer.blobs[0][1][1] * self.params.group


@dataclass(frozen=True)
class StepGraph:
    """The steps of a net in order, the channels of its inputs, and the blobs that it returns."""

    inputs: Mapping[str, int]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    def shapes_at(self, size: tuple[int, int]) -> Mapping[str, Shape]:
        """The shape of every blob for one image of `size` (h, w).

        NetError where it is too small, and where a blob is not an image for each that goes in.
        """
        one, two = self._shapes(1, size), self._shapes(2, size)
        for step in self.steps:
            shape = one[step.top]
            if min(shape, default=1) < 1:
                raise NetError(f"nothing is left of blob '{step.top}'", where=f"layer '{step.name}'")
            if len(shape) != 4 or shape[0] != 1 or two[step.top] != (2, *shape[1:]):
                raise NetError(f"blob '{step.top}' is not an image for each input", where=f"layer '{step.name}'")
        return one

    def _shapes(self, images: int, size: Pair) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {name: (images, channels, *size) for name, channels in self.inputs.items()}
        for step in self.steps:
            bottoms = [shapes[bottom] for bottom in step.bottoms]
            try:
                step.layer.check_weights(bottoms)
                (shapes[step.top],) = step.params.top_shapes(bottoms)
            except ValueError as error:
                raise NetError(str(error), where=f"layer '{step.name}'") from error
        return shapes


def is_convolution(params: Layer) -> bool:
    """True where a layer is a convolution as the kernels compute it: dense windows along height and width."""
    return type(params) is convolution.Convolution and params.axis == 1 and set(params.along(2)[3]) == {1}


def is_max_pool(params: Layer) -> bool:
    """True where a layer takes the maximum of dense windows as PyTorch does, and does nothing beside."""
    if type(params) is not pooling.Pooling or params.method != "MAX" or params.global_pooling or params.mask:
        return False
    return params.dilation == (1, 1) and params._as_pytorch


def is_upsampling(params: Layer) -> bool:
    """True where a layer is a deconvolution of dense windows with nothing cut off around it, nor left out between."""
    if type(params) is not convolution.Deconvolution or params.axis != 1 or params.group != 1:
        return False
    window, stride, pad, dilation = params.along(2)
    has_gaps = any(kernel < apart for kernel, apart in zip(window, stride, strict=True))
    return set(dilation) == {1} and set(pad) == {0} and not has_gaps


def read_graph(net: FCN | CaffeNet) -> StepGraph | None:
    """The graph of a net; no weight is touched. None where its layers are not all of one top over images, or where
    names of outputs and values are not one to one.

    NotCaffes, naming layer and setting, for a hand-written net with something that Caffe does not have.
    """
    spec = net.definition() if isinstance(net, FCN) else net.spec
    outputs = net.outputs
    inputs = {name: shape for name, shape in net.inputs.items() if len(shape) == 4}
    flow = read(spec, outputs)
    if len(inputs) != len(net.inputs) or any(len(each.tops) != 1 for each in flow.operations):
        return None
    if not _are_one_to_one(flow):
        return None
    channels = {name: shape[1] for name, shape in inputs.items()}
    own = frozenset(top for layer in spec.layers for top in layer.tops)
    return StepGraph(channels, tuple(_named(_merged(flow), flow, own)), tuple(outputs))


def _are_one_to_one(flow: Flow) -> bool:
    """True where no two outputs are one value, as a Split's are, and none has an input's name or value only."""
    pairs = flow.outputs.items()
    is_shared = len(set(flow.outputs.values())) < len(flow.outputs)
    return not is_shared and not any(name != value and {name, value} & {*flow.inputs} for name, value in pairs)


def weights_of(state: Mapping[str, Tensor], step: Step) -> list[Tensor]:
    """The learnable blobs of a step's layer in a state dict."""
    return [state[state_key(key)].detach().reshape(shape) for key, shape in step.layer.blobs]


def _merged(flow: Flow) -> list[Step]:
    """The steps, a ReLU that alone reads a convolution's result made part of it."""
    steps: dict[str, Step] = {}  # in the net's order, by the first of their tops
    for operation in flow.operations:
        layer = operation.main
        before = steps.get(layer.bottoms[0]) if layer.bottoms else None
        plain = type(layer.params) is neuron.ReLU and layer.params.negative_slope == 0
        if plain and before is not None and flow.only_reader(layer.bottoms[0]) and _takes_relu(before):
            steps[layer.bottoms[0]] = replace(before, top=layer.tops[0], relu=True)
        else:
            steps[layer.tops[0]] = Step(layer.name, layer, layer.bottoms, layer.tops[0])
    return list(steps.values())


def _takes_relu(step: Step) -> bool:
    return type(step.params) is convolution.Convolution and not step.relu and len(step.bottoms) == 1


def _named(steps: Sequence[Step], flow: Flow, own: AbstractSet[str]) -> list[Step]:
    """The steps with the net's `own` names for blobs, where a name has one value left; an output has its own anyway."""
    blobs = {each: _blob_of(each, own) for each in (*flow.inputs, *(step.top for step in steps))}
    left = Counter(blobs.values())
    names = {value: blob for value, blob in blobs.items() if left[blob] == 1}
    names |= {value: name for name, value in flow.outputs.items()}
    names |= {value: _other_than(own, value) for value in blobs if value in flow.outputs and value not in names}
    return [
        replace(step, bottoms=tuple(names.get(each, each) for each in step.bottoms), top=names.get(step.top, step.top))
        for step in steps
    ]


def _blob_of(value: str, own: AbstractSet[str]) -> str:
    """The blob that a value is one of: what `read` adds to its name is left out."""
    return value if value in own else value.rpartition(" (")[0]


def _other_than(own: AbstractSet[str], name: str) -> str:
    """The name, longer than any of a value."""
    while name in own:
        name += " (1)"
    return name


def _slidings(window: Sequence[Pair]) -> tuple[Sliding, Sliding]:
    (kernel, stride, pad) = window
    return Sliding(kernel[0], stride[0], pad[0]), Sliding(kernel[1], stride[1], pad[1])
