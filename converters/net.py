"""NetSpec and LayerSpec: what a net is, for every other module.

Both are frozen. A LayerSpec keeps the names that wire a net (name, type, bottoms, tops) as fields and the rest of its
LayerParameter as the bytes Caffe would write, so that a net that was read can be written again byte for byte;
`params` gives the same settings typed and resolved, with defaults filled in and (h, w) pairs worked out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .errors import NetError
from .schema import LayerParameter, NetParameter

if TYPE_CHECKING:
    from .layers.base import Layer

Shape = tuple[int, ...]


class Identifier(str):
    """A bare word in a prototxt, such as MAX or true, as opposed to a quoted string."""

    __slots__ = ()


Scalar = int | float | str | bytes


@dataclass(frozen=True, slots=True)
class UnknownField:
    """A field that BVLC Caffe's schema does not have, kept as it was found.

    `name` is a dotted path inside the layer ("bn_param", "pooling_param.ceil_mode"); in a binary file, where only the
    field's number is known, "#45". `value` is a scalar or, for a message, its fields in order. `line` counts from 1
    and is None in a binary file.
    """

    name: str
    value: Scalar | tuple[UnknownField, ...]
    line: int | None = None

    def children(self) -> dict[str, list[Any]]:
        """A message's scalars by field name, each a list in file order; nested messages stay UnknownFields."""
        found: dict[str, list[Any]] = {}
        for child in self.value if isinstance(self.value, tuple) else ():
            found.setdefault(child.name, []).append(child if isinstance(child.value, tuple) else child.value)
        return found


@dataclass(frozen=True)
class ParamSpec:
    """How the solver treats one learnable blob (caffe.proto, ParamSpec); a shared blob has a name."""

    name: str = ""
    lr_mult: float = 1.0
    decay_mult: float = 1.0


@dataclass(frozen=True)
class LayerSpec:
    """One layer of a net.

    `definition` holds every other field of Caffe's LayerParameter, serialized, without blobs. `line` is the line of a
    prototxt on which the layer begins.
    """

    name: str
    type: str
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()
    definition: bytes = b""
    extra: tuple[UnknownField, ...] = ()
    line: int | None = None

    @classmethod
    def from_message(
        cls, message: Any, *, extra: tuple[UnknownField, ...] = (), line: int | None = None
    ) -> LayerSpec:
        """A LayerSpec of a V2 LayerParameter; its blobs are left out."""
        rest = LayerParameter()
        rest.CopyFrom(message)
        for name in ("name", "type", "bottom", "top", "blobs"):
            rest.ClearField(name)
        return cls(
            name=message.name,
            type=message.type,
            bottoms=tuple(message.bottom),
            tops=tuple(message.top),
            definition=rest.SerializeToString(deterministic=True),
            extra=extra,
            line=line,
        )

    def to_message(self) -> Any:
        """A fresh LayerParameter without blobs (fields that Caffe's schema lacks are in `extra` only)."""
        message = LayerParameter.FromString(self.definition)
        if self.name:
            message.name = self.name
        if self.type:
            message.type = self.type
        message.bottom.extend(self.bottoms)
        message.top.extend(self.tops)
        return message

    @property
    def place(self) -> str:
        """How errors name this layer: "layer 'fc6' (Convolution, line 310)"."""
        line = f", line {self.line}" if self.line is not None else ""
        return f"layer '{self.name}' ({self.type}{line})"

    @cached_property
    def params(self) -> Layer | None:
        """The settings of this layer's type, typed and resolved; None for a type that is not registered.

        Raises NetError where Caffe would refuse the settings.
        """
        from .layers import find_layer

        layer_class = find_layer(self.type)
        return None if layer_class is None else layer_class.parse(self)

    @cached_property
    def param_specs(self) -> tuple[ParamSpec, ...]:
        """The solver's settings of the blobs, as many as the file gives (missing ones are at their defaults)."""
        return tuple(
            ParamSpec(name=p.name, lr_mult=p.lr_mult, decay_mult=p.decay_mult) for p in self.to_message().param
        )

    def extra_message(self, name: str) -> UnknownField:
        """The fork's message `name` ("bn_param"), merged over repeats, empty where the layer has none."""
        parts = [f.value for f in self.extra if f.name == name and isinstance(f.value, tuple)]
        return UnknownField(name, tuple(child for part in parts for child in part))


def params_if_valid(layer: LayerSpec) -> Layer | None:
    """The layer's `params`, or None where its settings are refused, too: for guesses, which are no place to refuse."""
    try:
        return layer.params
    except NetError:
        return None


@dataclass(frozen=True)
class NetSpec:
    """A net: its layers in order, upgraded to Caffe's V2 form.

    `definition` holds the net's own fields other than its name and layers (state, force_backward), serialized;
    `extra` the fields at that level that Caffe's schema lacks; `path` the file it came from, for errors; `notes` what
    the reader had to tell (forks' fields, upgrades).
    """

    name: str
    layers: tuple[LayerSpec, ...]
    definition: bytes = b""
    extra: tuple[UnknownField, ...] = ()
    path: str | None = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def inputs(self) -> Mapping[str, Shape]:
        """The blobs that the caller feeds and the shapes that the Input layers give them, () where they give none."""
        found: dict[str, Shape] = {}
        for layer in self.layers:
            if layer.type == "Input":
                shapes = [tuple(shape.dim) for shape in layer.to_message().input_param.shape]
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
        message.layer.extend(layer.to_message() for layer in self.layers)
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
