"""The convolutions whose rounding an output shows: those that few others lie before and behind.

Filtering by large tiles rounds some three times as much as the sums themselves do. Behind several layers less of that
is to be seen, since the sums' own errors add up, and those of filterings hardly do (docs/log.md); an output that is
made by two or three layers shows it, such as HED's first, and one of nothing but 3x3 layers up to some sixteen, or
behind as many others: SegNet's thirteen that unpool.
A maximum between them takes values that are large beside a filtering's error, so that VGG's runs of three do not.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..flow import Flow, FlowStep

SHORT = 3
"""Layers with weights, from an input to an output, up to which each is to round as little as the net does."""
DEEP = 26
"""Layers with weights, from an input to an output, up to which runs of filterings are seen."""
RUN, EVERY = 5, 3
"""Filterings that follow each other, by which a run is long in any case: else it has to be most of such a way. Of a
long one the second, fourth, seventh and so on round as little."""
FAR = 1 << 30
"""Layers to an output where there is no way to one."""
WIDE = 64
"""Features of a product with fewer of which Strassen's algorithm has nothing to gain."""


def shown(flow: Flow) -> frozenset[str]:
    """The tops of layers that are to round as little as the net's own: all of a short way, and some of a long run."""
    ways, runs = _ways(flow), _runs(flow)
    long = {top for top, run in runs.items() if ways[top] <= DEEP and (run >= RUN or 2 * run > ways[top])}
    return frozenset(top for top, layers in ways.items() if layers <= SHORT) | long


def _ways(flow: Flow) -> Mapping[str, int]:
    """The number of layers with weights on the way from an input to an output through each of them, by its tops.

    The longest way to a layer counts, as all that it reads has errors, and the shortest one from it.
    """
    before: dict[str, int] = dict.fromkeys(flow.inputs, 0)
    for operation in flow.operations:
        most = max((before[name] for name in operation.bottoms), default=0)
        before.update(dict.fromkeys(operation.tops, most + _weight(operation)))
    behind: dict[str, int] = dict.fromkeys(flow.outputs.values(), 0)
    for operation in reversed(flow.operations):
        for name in operation.bottoms:
            behind[name] = min([_weight(operation) + _least(behind, operation), _of(behind, name)])
    tops = [top for operation in flow.operations if _weight(operation) for top in operation.tops]
    return {top: before[top] + _of(behind, top) for top in tops}


def _runs(flow: Flow) -> Mapping[str, int]:
    """The number of filterings in a row, without a pooling or a Concat, by the tops of those to be relieved."""
    before, behind = dict.fromkeys(flow.inputs, 0), dict[str, int]()
    for operation in flow.operations:
        most = 0 if _gathers(operation) else max((before[name] for name in operation.bottoms), default=0)
        before.update(dict.fromkeys(operation.tops, most + _filters(operation, 3, 5)))
    for operation in reversed(flow.operations):
        most = 0 if _gathers(operation) else max((behind.get(top, 0) for top in operation.tops), default=0)
        for name in operation.bottoms:
            behind[name] = max(most + _filters(operation, 3, 5), behind.get(name, 0))
    tops = [top for operation in flow.operations if _filters(operation, 3) for top in operation.tops]
    relieved = [top for top in tops if before[top] == 2 or (before[top] > 1 and before[top] % EVERY == 1)]
    return {top: before[top] + behind.get(top, 0) for top in relieved}


def chained(flow: Flow) -> frozenset[str]:
    """The tops of 1x1 convolutions that follow each other with nothing but an activation in between.

    By Strassen's algorithm twice they round more than twice as much as by it once, which is 1.3 to 2 times as much as
    PyTorch's products do. Between layers of other kinds that is not seen.
    """
    found: set[str] = set()
    for operation in flow.operations:
        maker = flow.makers.get(operation.bottoms[0]) if operation.bottoms else None
        if _mixes_channels(operation) and maker is not None and _mixes_channels(flow.operations[maker]):
            found.update(operation.tops, flow.operations[maker].tops)
    return frozenset(found)


def _filters(operation: FlowStep, *sides: int) -> bool:
    params = operation.convolution
    if params is None or params.group > 1 or set(params.stride) != {1}:
        return False
    return params.kernel in [(side, side) for side in sides]


def _gathers(operation: FlowStep) -> bool:
    params = operation.convolution
    return operation.main.type in ("Pooling", "Concat") or (params is not None and set(params.stride) != {1})


def _mixes_channels(operation: FlowStep) -> bool:
    params = operation.convolution
    if params is None or params.group > 1 or operation.addend is not None:
        return False
    return set(params.kernel) == {1} and params.num_output >= WIDE


def _weight(operation: FlowStep) -> int:
    return int(operation.weighted is not None)


def _least(behind: Mapping[str, int], operation: FlowStep) -> int:
    return min((_of(behind, top) for top in operation.tops), default=FAR)


def _of(behind: Mapping[str, int], name: str) -> int:
    """The layers from a value to an output; more than enough where there is no way."""
    return behind.get(name, FAR)
