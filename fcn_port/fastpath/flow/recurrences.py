"""Layers over time whose units read what all units gave a step before: LSTM, RNN, and junhyukoh's Lstm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from converters.layers import recurrent
from converters.net import Layer, Shape

from .flow import FlowStep


@dataclass(frozen=True)
class Recurrence:
    """A layer that begins with zeros: gates of x (time, streams, numbers) and of the units' outputs a step before.

    `own` and `bias` are the positions of its blobs for those outputs and of the bias, the first is for x; `static`
    that of the blob for a bottom that is the same for all steps. `truth`: a stream goes on where cont is not 0, else
    as far as it says.
    """

    gates: int
    units: int
    time: int
    streams: int
    own: int
    bias: int | None
    static: int | None = None
    truth: bool = False
    forget: float = 0.0

    @property
    def width(self) -> int:
        """The numbers of all gates of all units."""
        return self.gates * self.units


def recurrence(params: Layer, bottoms: Sequence[Shape]) -> Recurrence | None:
    """The recurrence of a layer for bottoms of these shapes; None for any other, and where the net feeds states."""
    if isinstance(params, recurrent.Lstm):
        time, streams = params.times(bottoms[0])
        bias = 2 if params.bias else None
        return Recurrence(4, params.num_output, time, streams, own=1, bias=bias, truth=True)
    if type(params) not in (recurrent.LSTM, recurrent.RNN):
        return None
    assert isinstance(params, recurrent.Recurrent)
    if params.exposed:
        return None
    static, (time, streams, *_) = 2 if params.static else None, bottoms[0]
    own, forget = 2 + params.static, params.forget_bias
    return Recurrence(params.gates, params.num_output, time, streams, own, 1, static, forget=forget)


def inner_values(operation: FlowStep, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The values that an operation keeps to itself, by names that no blob has."""
    if not isinstance(operation.main.params, (recurrent.Lstm, recurrent.Recurrent)):
        return {}
    found = recurrence(operation.main.params, [shapes[name] for name in operation.bottoms])
    if found is None:
        return {}
    rows: Shape = (found.time, found.streams)
    inner = {"gates": (*rows, found.width), "static gates": (1, found.streams, found.width)}
    if found.gates == 1:
        inner["hidden"] = (*rows, found.units)
    if found.static is None:
        del inner["static gates"]
    return {inner_name(operation, part): shape for part, shape in inner.items() if prod(shape)}


def inner_name(operation: FlowStep, part: str) -> str:
    """The name of a value that an operation keeps to itself."""
    return f"{operation.tops[0]}\n{part}"
