"""A Flow of a definition: layers that do nothing are left out, and a layer that works in place makes a new value."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from converters.net import Layer, LayerSpec, NetSpec, Shape, aliases, borrowed_blobs, infer_blobs, known_params

from .flow import Flow, FlowLayer, FlowStep

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Renamed(Layer):
    """The first bottom in the second one's shape: a blob that changed because its memory did, under another name."""

    bottom_count: ClassVar[tuple[int, float]] = (2, 2)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (bottoms[1],)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (bottoms[0].reshape(bottoms[1].shape),)


def read(spec: NetSpec, outputs: Sequence[str]) -> Flow:
    """The flow of a prepared definition."""
    borrowed, learned, followers = borrowed_blobs(spec), infer_blobs(spec), aliases(spec)
    values: dict[str, str] = {}
    fresh = partial(_fresh, taken={}, own=frozenset(top for layer in spec.layers for top in layer.tops))
    operations = []
    for number, layer in enumerate(spec.layers):
        params = known_params(layer)
        if layer.type == "Input":
            values.update({top: fresh(top) for top in layer.tops})
            continue
        bottoms = tuple(values[bottom] for bottom in layer.bottoms)
        parts = []
        if params.idle:  # the name is the bottom's value, and names of the same memory follow it as behind other layers
            values.update(dict.fromkeys(layer.tops, bottoms[0]))
        else:
            tops = tuple(fresh(top) for top in layer.tops)
            values.update(zip(layer.tops, tops, strict=True))
            own = [((layer.name, position), shape) for position, shape in enumerate(learned.get(layer.name, ()))]
            blobs = tuple((borrowed.get(key, key), shape) for key, shape in own)
            parts.append(FlowLayer(layer.name, layer.place, layer.type, params, bottoms, tops, blobs))
        for name, changed in followers[number]:
            if name != changed and (name in outputs or _is_read(name, spec.layers[number + 1 :])):
                before, values[name] = values[name], fresh(name)
                parts.append(_renamed(layer, values[changed], before, values[name]))
        operations += [FlowStep(part, (part,)) for part in parts]
    return Flow(tuple(spec.inputs), tuple(operations), {name: values[name] for name in outputs})


def _renamed(layer: LayerSpec, changed: str, before: str, top: str) -> FlowLayer:
    return FlowLayer(f"{layer.name}: {top}", layer.place, "Renamed", Renamed(), (changed, before), (top,))


def _fresh(name: str, taken: dict[str, int], own: Container[str]) -> str:
    """A name for the value that a blob takes on now, which no other blob of the net has as its own."""
    while True:
        count = taken[name] = taken.get(name, 0) + 1
        found = name if count == 1 else f"{name} ({count})"
        if count == 1 or found not in own:
            return found


def _is_read(name: str, layers: Sequence[LayerSpec]) -> bool:
    """True where a layer reads the blob before another one makes it anew."""
    for layer in layers:
        if name in layer.bottoms:
            return True
        if name in layer.tops:
            return False
    return False
