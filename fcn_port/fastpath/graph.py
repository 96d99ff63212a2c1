"""A hand-written net as a list of steps, read off one watched pass; what `fast` plans with and runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeGuard

from torch import nn

from converters.net import Shape

from ..inspection import input_shapes
from ..nets.fcn import FCN
from ..nets.parts import computes_as
from ..nets.record import Call, calls_of, shape_rule
from .geometry import Sliding

Pair = tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One layer at work, with the ReLU that follows it (`relu`) made part of it."""

    name: str
    module: nn.Module
    bottoms: tuple[str, ...]
    top: str
    relu: bool = False

    @property
    def slidings(self) -> tuple[Sliding, Sliding] | None:
        """The steps of its window over rows and columns; None for a layer that has no such window."""
        module = self.module
        if is_convolution(module):
            return _slidings(module.kernel_size, module.stride, module.padding)  # type: ignore[arg-type]
        if is_max_pool(module):
            rows, cols = _slidings(_pair(module.kernel_size), _pair(module.stride), _pair(module.padding))
            rows, cols = (replace(each, edgeless=True, ceil=module.ceil_mode) for each in (rows, cols))
            return rows, cols
        return None

    @property
    def work(self) -> int:
        """Multiply-adds for one position of the output, all channels."""
        if not isinstance(self.module, nn.Conv2d):
            return 0
        return self.module.weight.numel()


@dataclass(frozen=True)
class StepGraph:
    """The steps of a net in order, the channels of its inputs, the blobs that it returns, and the shapes of all blobs.

    `shapes` gives them for those of the inputs; NetError where an input is too small.
    """

    inputs: Mapping[str, int]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    shapes: Callable[[Mapping[str, Shape]], Mapping[str, Shape]] = field(repr=False)

    def shapes_at(self, size: tuple[int, int]) -> Mapping[str, Shape]:
        """The shape of every blob for one image of `size` (h, w)."""
        return self.shapes({name: (1, channels, *size) for name, channels in self.inputs.items()})

    def readers(self, blob: str) -> tuple[Step, ...]:
        """The steps that read `blob`."""
        return tuple(step for step in self.steps if blob in step.bottoms)


def is_convolution(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """True where a layer is a convolution as the kernels compute it: dense windows, zeros around the blob."""
    if not (isinstance(module, nn.Conv2d) and computes_as(module, nn.Conv2d)) or isinstance(module.padding, str):
        return False
    return set(module.dilation) == {1} and module.padding_mode == "zeros"


def is_max_pool(module: nn.Module) -> TypeGuard[nn.MaxPool2d]:
    """True where a layer takes the maximum of dense windows, and does nothing beside."""
    if not (isinstance(module, nn.MaxPool2d) and computes_as(module, nn.MaxPool2d)):
        return False
    return _pair(module.dilation) == (1, 1) and not module.return_indices


def is_upsampling(module: nn.Module) -> TypeGuard[nn.ConvTranspose2d]:
    """True where a layer is a deconvolution of dense windows with nothing cut off or added around it."""
    if not (isinstance(module, nn.ConvTranspose2d) and computes_as(module, nn.ConvTranspose2d)):
        return False
    rest = {*module.padding, *module.output_padding}
    return set(module.dilation) == {1} and rest == {0} and module.groups == 1


def read_graph(net: FCN) -> StepGraph:
    """The graph of a hand-written net; no weight is touched."""
    inputs = input_shapes(net, (64, 64))
    steps: list[Step] = []
    calls = calls_of(net, inputs)
    for call in calls:
        _append(steps, call)
    read = {bottom for step in steps for bottom in step.bottoms}
    outputs = tuple(step.top for step in steps if step.top not in read)
    channels = {name: shape[1] for name, shape in inputs.items()}
    return StepGraph(channels, tuple(steps), outputs, shape_rule(net, calls, inputs))


def _append(steps: list[Step], call: Call) -> None:
    if computes_as(call.module, nn.Dropout):  # does nothing: the net is in eval mode
        return
    follows_convolution = bool(steps) and is_convolution(steps[-1].module) and call.bottoms == (steps[-1].top,)
    if computes_as(call.module, nn.ReLU) and follows_convolution:
        steps[-1] = replace(steps[-1], relu=True)
    else:
        steps.append(Step(call.name, call.module, call.bottoms, call.top))


def _slidings(kernel: Pair, stride: Pair, pad: Pair) -> tuple[Sliding, Sliding]:
    return Sliding(kernel[0], stride[0], pad[0]), Sliding(kernel[1], stride[1], pad[1])


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value
