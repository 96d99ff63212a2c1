"""The layers of a net in the order in which CaffeNet executes them, each with its blobs and what it lets go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..net.aliasing import Alias, aliases
from ..net.backward import stopped_bottoms
from ..net.layer import Layer, Shape
from ..net.shapes import known_params
from ..net.spec import NetSpec
from .varying import varying_layers


@dataclass(frozen=True)
class Storage:
    """The attribute and the name under which a learnable blob is kept, and the shape to see it in, if another."""

    attribute: str
    name: str
    view: Shape | None = None


@dataclass(frozen=True)
class Operation:
    """One layer to execute; `place` is how errors name it.

    `aliases` are the (blob, changed blob) that hold the same memory in Caffe, and so change with a layer that works in
    place; `done` the blobs that nobody needs any more; `stopped` the places of the bottoms that learn nothing from
    this layer (propagate_down). One that `goes_on` begins, in training, with the state that the pass before left. Where
    it `lends`, its first blob is another of its own, too, or one of a later layer. One that `varies` reads blobs whose
    sizes depend on numbers.
    """

    place: str
    params: Layer
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    learnable: tuple[Storage, ...]
    aliases: tuple[Alias, ...]
    done: tuple[str, ...] = ()
    stopped: frozenset[int] = frozenset()
    goes_on: bool = False
    lends: bool = False
    varies: bool = False


def in_order(spec: NetSpec, outputs: Sequence[str], places: Mapping[str, tuple[Storage, ...]]) -> tuple[Operation, ...]:
    """The layers of a net that is whole, each with what it needs and what may be let go after it; Inputs do nothing."""
    varying = varying_layers(spec)
    steps = [
        Operation(
            layer.place,
            params := known_params(layer),
            layer.bottoms,
            layer.tops,
            places[layer.name],
            changed,
            stopped=stopped_bottoms(spec, layer),
            goes_on=getattr(params, "goes_on", False),
            varies=layer.name in varying,
        )
        for layer, changed in zip(spec.layers, aliases(spec), strict=True)
        if layer.type != "Input"
    ]
    needed, used = set(outputs), set[tuple[str, str]]()
    backwards = []
    for step in reversed(steps):
        own = [(blob.attribute, blob.name) for blob in step.learnable]
        lends = any(blob in used or blob in own[1:] for blob in own[:1])
        used.update(own)
        touched = {*step.bottoms, *step.tops, *(name for alias in step.aliases for name in alias)}
        done = tuple(sorted(touched - needed))
        backwards.append(replace(step, done=done, lends=lends))
        needed |= touched
    return tuple(reversed(backwards))
