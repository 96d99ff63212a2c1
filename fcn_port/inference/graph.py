"""A hand-written net as a list of steps, read off one watched pass; what `fast` plans with and runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from ..inspection import input_shapes
from ..nets.record import Call, calls_of
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
        """How its window moves over rows and columns; None for a layer that has no such window."""
        module = self.module
        if isinstance(module, nn.Conv2d) and set(module.dilation) == {1} and not isinstance(module.padding, str):
            return _slidings(module.kernel_size, module.stride, module.padding)
        if isinstance(module, nn.MaxPool2d) and _pair(module.dilation) == (1, 1):
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
class Graph:
    """The steps of a net in order, the channels of its inputs, and the blobs that it returns."""

    inputs: Mapping[str, int]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    def readers(self, blob: str) -> tuple[Step, ...]:
        """The steps that read `blob`."""
        return tuple(step for step in self.steps if blob in step.bottoms)


def read_graph(net: nn.Module) -> Graph:
    """The graph of a hand-written net; no weight is touched."""
    channels: Mapping[str, int] = net.inputs  # type: ignore[assignment]
    steps: list[Step] = []
    for call in calls_of(net, input_shapes(net, (64, 64))):
        _append(steps, call)
    read = {bottom for step in steps for bottom in step.bottoms}
    return Graph(channels, tuple(steps), tuple(step.top for step in steps if step.top not in read))


def _append(steps: list[Step], call: Call) -> None:
    if isinstance(call.module, nn.Dropout):  # does nothing: the net is in eval mode
        return
    follows_convolution = bool(steps) and isinstance(steps[-1].module, nn.Conv2d) and call.bottoms == (steps[-1].top,)
    if isinstance(call.module, nn.ReLU) and follows_convolution:
        steps[-1] = replace(steps[-1], relu=True)
    else:
        steps.append(Step(call.name, call.module, call.bottoms, call.top))


def _slidings(kernel: Pair, stride: Pair, pad: Pair) -> tuple[Sliding, Sliding]:
    return Sliding(kernel[0], stride[0], pad[0]), Sliding(kernel[1], stride[1], pad[1])


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value
