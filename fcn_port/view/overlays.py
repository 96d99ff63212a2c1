"""Numbers laid over a graph, one for each layer: its work, its memory, its time, its distance from a recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, prod
from statistics import median
from typing import TYPE_CHECKING, Any

from converters.errors import NotEnoughMemoryError
from converters.net import NetSpec, Shape, iter_layer_shapes
from converters.safety import machine_memory
from weights.download import human_bytes

from .graph import node_id

if TYPE_CHECKING:
    from ..nets import Net

_FLOAT = 4
"""Bytes."""
_LEAST, _MOST = "#fff7ec", "#d7301f"
"""The colours of the least and the most."""
_WORST = 1e9
"""An error that is infinite, as JSON has no such number."""


@dataclass(frozen=True)
class Overlay:
    """A number for each layer that has one, by its place in the net; its short name for a file, and a title."""

    name: str
    title: str
    values: Mapping[int, float]

    def to_json(self) -> dict[str, Any]:
        """The overlay as Model Explorer's node data (node_data_builder.py, GraphNodeData)."""
        return {
            "name": self.title,
            "results": {node_id(index): {"value": value} for index, value in self.values.items()},
            "gradient": [
                {"stop": 0, "bgColor": _LEAST, "textColor": "black"},
                {"stop": 1, "bgColor": _MOST, "textColor": "white"},
            ],
        }


def costs(spec: NetSpec, inputs: Mapping[str, Shape]) -> tuple[Overlay, ...]:
    """The share of each layer in the multiply-adds and in the memory of tops and of learnable blobs, in percent.

    In-place layers have no top of their own. A prepared net; raises NetError as shapes do.
    """
    work: dict[int, float] = {}
    tops: dict[int, float] = {}
    blobs: dict[int, float] = {}
    for index, found in enumerate(iter_layer_shapes(spec, inputs)):
        work[index] = found.macs
        own = [
            shape for top, shape in zip(found.layer.tops, found.tops, strict=False) if top not in found.layer.bottoms
        ]
        tops[index] = _FLOAT * sum(map(prod, own))
        blobs[index] = _FLOAT * sum(map(prod, found.blobs))
    return (
        Overlay("multiply-adds", f"multiply-adds, % of {sum(work.values()) / 1e9:.3f} G", _shares(work)),
        Overlay("blob-memory", f"memory of tops, % of {sum(tops.values()) / 1e6:.1f} MB", _shares(tops)),
        Overlay("weight-memory", f"memory of weights, % of {sum(blobs.values()) / 1e6:.1f} MB", _shares(blobs)),
    )


def _shares(values: Mapping[int, float]) -> dict[int, float]:
    whole = sum(values.values())
    return {index: 100 * value / whole for index, value in values.items() if value}


def parity(spec: NetSpec, errors: Mapping[str, float]) -> Overlay:
    """The distance of each blob from a recording, of its largest value, at the layer that wrote it last."""
    last = {top: index for index, layer in enumerate(spec.layers) for top in layer.tops}
    found = {last[blob]: error if isfinite(error) else _WORST for blob, error in errors.items() if blob in last}
    return Overlay("parity", "distance from the recording, of the largest value", found)


def milliseconds(net: Net, spec: NetSpec, inputs: Mapping[str, Shape], *, repeats: int = 5) -> Overlay:
    """The time of each step of `fast`'s plan, the median of some passes, at the layer of `spec` that names the step.

    The plan is that of the net's definition, layer by layer: what a step has merged into it (ReLU, BatchNorm) has no
    time of its own. On the processor, with as many threads as PyTorch has. Raises NetError where there is no plan,
    and NotEnoughMemoryError for inputs that the machine's memory does not hold.
    """
    from ..fastpath.program.timing import step_seconds

    there, needed = machine_memory(), _FLOAT * sum(prod(shape) for shape in inputs.values())
    if there is not None and needed > there:
        problem = f"the inputs alone take {human_bytes(needed)}; this machine has {human_bytes(there)} of memory"
        raise NotEnoughMemoryError(problem, hint="a smaller --size needs less")
    passes = [step_seconds(net, inputs) for _ in range(repeats)]
    place = {layer.name: index for index, layer in reversed(list(enumerate(spec.layers)))}
    found = {place[name]: 1e3 * median(times) for name, times in _by_name(passes) if name in place}
    return Overlay("milliseconds", f"time in fast's plan, ms of {sum(found.values()):.1f}", found)


def _by_name(passes: list[list[tuple[str, float]]]) -> Iterator[tuple[str, list[float]]]:
    for steps in zip(*passes, strict=True):
        yield steps[0][0], [seconds for _, seconds in steps]
