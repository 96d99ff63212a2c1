"""NetSpec: what a net is, for every other module; its layers are LayerSpecs (layer.py).

Both are frozen. A LayerSpec keeps the names that wire a net (name, type, bottoms, tops) as fields and the rest of its
LayerParameter as the bytes Caffe would write, so that a net that was read can be written again byte for byte;
`params` gives the same settings typed and resolved, with defaults filled in and (h, w) pairs worked out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import NetError
from ..given import refuse_other_than
from ..schema import NetParameter
from .layer import LayerSpec, Shape, UnknownField

PHASES = ("TRAIN", "TEST")
"""Caffe's phases by their numbers (caffe.proto)."""


@dataclass(frozen=True)
class NetSpec:
    """A net: its layers in order, upgraded to Caffe's V2 form.

    `definition` holds the net's own fields other than its name and layers (state, force_backward), serialized;
    `extra` the fields at that level that Caffe's schema lacks; `path` the file it came from, for errors; `notes` what
    the reader had to tell (forks' fields, upgrades); `assumed` the inputs whose shape is a guess of `to_deploy`.
    `passes.prepare` alone sets `prepared`, in the record that it returns; one that `replace` makes of that has to be
    prepared again.
    """

    name: str
    layers: tuple[LayerSpec, ...]
    definition: bytes = b""
    extra: tuple[UnknownField, ...] = ()
    path: str | None = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    assumed: tuple[str, ...] = field(default=(), compare=False)
    prepared: bool = field(default=False, init=False, compare=False, repr=False)

    @property
    def inputs(self) -> Mapping[str, Shape]:
        """The blobs that the caller feeds and the shapes that the Input layers give them, () where they give none."""
        found: dict[str, Shape] = {}
        for layer in self.layers:
            if layer.type == "Input":
                shapes = [tuple(shape.dim) for shape in layer.message.input_param.shape]
                if not shapes:
                    found.update(dict.fromkeys(layer.tops, ()))
                    continue
                if len(shapes) not in (1, len(layer.tops)):
                    raise NetError(
                        f"{len(layer.tops)} tops but {len(shapes)} shapes",
                        path=self.path,
                        where=layer.place,
                        hint="an Input layer has one shape, or one for each top",
                    )
                found.update(zip(layer.tops, shapes * (1 if len(shapes) > 1 else len(layer.tops)), strict=True))
        return found

    @property
    def outputs(self) -> tuple[str, ...]:
        """The blobs that no layer consumes, in the order in which they were made (net.cpp, available_blobs)."""
        waiting: dict[str, None] = {}
        for layer in self.layers:
            for bottom in layer.bottoms:
                waiting.pop(bottom, None)
            for top in layer.tops:
                waiting[top] = None
        return tuple(waiting)

    def layer(self, name: str) -> LayerSpec:
        """The layer called `name`; NetError names the layers there are."""
        for candidate in self.layers:
            if candidate.name == name:
                return candidate
        raise NetError(f"there is no layer '{name}'", path=self.path, hint="layers: " + ", ".join(self._names()))

    def replace_layers(self, layers: tuple[LayerSpec, ...]) -> NetSpec:
        """The same net with other layers."""
        return replace(self, layers=layers)

    def to_message(self) -> Any:
        """A fresh NetParameter without blobs."""
        message = NetParameter.FromString(self.definition)
        if self.name:
            message.name = self.name
        message.layer.extend(layer.message for layer in self.layers)
        return message

    def _names(self) -> Iterator[str]:
        return (layer.name for layer in self.layers)


def net_from_message(
    message: Any,
    *,
    path: str | None = None,
    extras: Mapping[int, tuple[UnknownField, ...]] | None = None,
    lines: Mapping[int, int] | None = None,
    notes: tuple[str, ...] = (),
) -> NetSpec:
    """A NetSpec of a V2 NetParameter; `extras` and `lines` are by the index of the layer in the message."""
    extras, lines = extras or {}, lines or {}
    rest = NetParameter()
    rest.CopyFrom(message)
    rest.ClearField("name")
    rest.ClearField("layer")
    layers = tuple(
        LayerSpec.from_message(layer, extra=extras.get(i, ()), line=lines.get(i))
        for i, layer in enumerate(message.layer)
    )
    definition = rest.SerializeToString(deterministic=True)
    return NetSpec(name=message.name, layers=layers, definition=definition, path=path, notes=notes)


def refuse_no_spec(given: object) -> None:
    """TypeError where `given` is no NetSpec."""
    refuse_other_than(NetSpec, given, "a NetSpec, as read_prototxt gives it")
