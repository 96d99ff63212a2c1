"""Layers and their types: frozen parameters, a shape rule, and the computation in PyTorch.

To add a type, in this project or outside it, write a frozen dataclass of its parameters and register it:

    @register_layer("Swish")
    @dataclass(frozen=True)
    class Swish(Layer):
        beta: float

        @classmethod
        def parse(cls, spec):
            return cls(beta=spec.message.swish_param.beta)

        def top_shapes(self, bottoms):
            return (bottoms[0],)

        def forward(self, bottoms, blobs, *, training=False):
            return (bottoms[0] * (self.beta * bottoms[0]).sigmoid(),)

        def to_onnx(self, out):  # onnx_form.py says what `out` offers
            x = out.bottoms[0]
            scaled = out.node("Mul", [x, out.constant("beta", np.float32(self.beta))], part="scaled")
            out.top("Mul", [x, out.node("Sigmoid", [scaled], part="gate")])

        def to_python(self, site):  # python_form.py, likewise
            return Form((f"{site.x} * torch.sigmoid({self.beta} * {site.x})",))

Parameters of a type that BVLC Caffe does not have are read by name, `fork_message(spec, "swish_param")` of
`converters.layers`; a layer of type Python is registered as "Python:NameOfItsClass". Only `forward` may import torch,
so that nets are read and their shapes worked out without it; it should leave sizes to PyTorch's operations, so that any
size can be traced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib import import_module
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..errors import NetError
from ..schema import LayerParameter
from .python_form import Form, NoFormError, Site
from .reading import note_read, watch_reads
from .unread import refuse_unread

if TYPE_CHECKING:
    from torch import Tensor

    from .onnx_form import OnnxLayer
    from .reach import Reach

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

    @classmethod
    def merged(cls, name: str, fields: Sequence[UnknownField]) -> UnknownField:
        """The message `name` among `fields`, merged over repeats, empty where there is none."""
        parts = [field.value for field in fields if field.name == name and isinstance(field.value, tuple)]
        return cls(name, tuple(child for part in parts for child in part))

    def children(self) -> dict[str, list[Any]]:
        """A message's scalars by field name, each a list in file order; nested messages stay UnknownFields."""
        found: dict[str, list[Any]] = {}
        for child in self.value if isinstance(self.value, tuple) else ():
            found.setdefault(child.name, []).append(child if isinstance(child.value, tuple) else child.value)
        return found


@dataclass(frozen=True)
class ParamSpec:
    """The solver's treatment of one learnable blob (caffe.proto, ParamSpec); a shared blob has a name."""

    name: str = ""
    lr_mult: float = 1.0
    decay_mult: float = 1.0


@dataclass(frozen=True)
class LayerSpec:
    """One layer of a net.

    `definition` holds every other field of Caffe's LayerParameter, serialized, without blobs; `message` has all of
    them to read. `line` is the line of a prototxt on which the layer begins.
    """

    name: str
    type: str
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()
    definition: bytes = b""
    extra: tuple[UnknownField, ...] = ()
    line: int | None = None

    @classmethod
    def from_message(cls, message: Any, *, extra: tuple[UnknownField, ...] = (), line: int | None = None) -> LayerSpec:
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
        message = LayerParameter()
        message.CopyFrom(self.message)
        return message

    @cached_property
    def message(self) -> Any:
        """The LayerParameter of `to_message`, parsed once for everybody: to be read, never to be changed."""
        message = LayerParameter.FromString(self.definition)
        if self.name:
            message.name = self.name
        if self.type:
            message.type = self.type
        message.bottom.extend(self.bottoms)
        message.top.extend(self.tops)
        return message

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: a copy in another process parses for itself."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def place(self) -> str:
        """The name of this layer in errors: "layer 'fc6' (Convolution, line 310)"."""
        line = f", line {self.line}" if self.line is not None else ""
        return f"layer '{self.name}' ({self.type}{line})"

    @cached_property
    def params(self) -> Layer | None:
        """The settings of this layer's type, typed and resolved; None for a type that is not registered.

        Raises NetError where Caffe would refuse the settings, and for a field of a fork that `parse` does not read and
        that is not known to be harmless (unread.py).
        """
        layer_class = find_layer(self.type)
        if layer_class is None:
            return None
        with watch_reads() as reads:
            params = layer_class.parse(self)
        if params is not None:
            refuse_unread(self.fork_fields(), reads, where=self.place, kind=self.type)
        return params

    @property
    def may_learn(self) -> bool:
        """True where layers of this type may have learnable blobs; False for a type that is not registered."""
        layer_class = find_layer(self.type)
        return layer_class is not None and layer_class.has_blobs()

    def fork_fields(self) -> Iterator[tuple[str, object]]:
        """The fields in `extra` with their paths, without indices; those of a fork's own message one by one."""
        for field in self.extra:
            path = re.sub(r"\[\d+\]", "", field.name)
            if isinstance(field.value, tuple) and "." not in path:
                yield from ((f"{path}.{child.name}", child.value) for child in field.value)
            else:
                yield path, field.value

    @cached_property
    def param_specs(self) -> tuple[ParamSpec, ...]:
        """The solver's settings of the blobs, as many as the file gives (missing ones are at their defaults)."""
        return tuple(ParamSpec(name=p.name, lr_mult=p.lr_mult, decay_mult=p.decay_mult) for p in self.message.param)

    def extra_message(self, name: str) -> UnknownField:
        """The fork's message `name` ("bn_param"), merged over repeats, empty where the layer has none."""
        note_read(f"{name}.*")
        return UnknownField.merged(name, self.extra)


def params_if_valid(layer: LayerSpec) -> Layer | None:
    """The layer's `params`, or None where its settings are refused, too: for guesses, which are no place to refuse."""
    try:
        return layer.params
    except NetError:
        return None


class Layer:
    """Base of the parameters of every layer type.

    `blob_ranks` is the number of axes of each learnable blob: files from before 2015 wrote every blob with four.
    `bottom_count` and `top_count` are the least and the most that Caffe accepts.
    """

    blob_ranks: ClassVar[tuple[int, ...]] = ()
    bottom_count: ClassVar[tuple[int, float]] = (0, inf)
    top_count: ClassVar[tuple[int, float]] = (0, inf)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer | None:
        """The parameters of `spec`, defaults filled in; raises NetError where Caffe would refuse them.

        None where the type alone does not tell what the layer is, and what it turns out to be is not registered.
        """
        return cls()

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The shape of each top for bottoms of these shapes; raises ValueError where they do not fit."""
        raise NotImplementedError(f"{type(self).__name__} has no shape rule")

    def open_sizes(self) -> tuple[tuple[int, int], ...]:
        """The (top, axis) whose size depends on numbers; the shape rule says what Caffe's Reshape begins with."""
        return ()

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The shape of each learnable blob, as Caffe's LayerSetUp makes it."""
        return ()

    def blob_fills(self) -> tuple[float, ...]:
        """The value of each learnable blob before weights are loaded, zero where this is shorter than the blobs."""
        return ()

    def filler_fields(self) -> tuple[str, ...] | None:
        """The settings that say how each learnable blob begins in training, "prelu_param.filler"; None: not said.

        "" for a blob without such a setting, which begins with `blob_fills`; so do those after the last.
        """
        return None if self.learns else ()

    def statistics(self) -> tuple[int, ...]:
        """The blobs that no gradient trains, by position, such as BatchNorm's running mean."""
        return ()

    @property
    def gathers(self) -> bool:
        """True for a layer whose `statistics` Caffe adds each batch to, in the phase TEST as well."""
        return False

    def first_statistics(self) -> tuple[float, ...] | None:
        """The value with which each of `statistics` begins in training; None: as in `blob_fills`."""
        return None

    def shares_memory(self, *, bottoms: int, tops: int) -> bool:
        """True where in Caffe the tops are the bottom's own memory, so that a later in-place layer changes them all."""
        return False

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Multiply-accumulates of one forward pass, padding counted as work; a factor without a sum counts as one."""
        return 0

    # What others must know of a type. A default says "not known", and whoever asks refuses the layer by its name.

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        """The part of a bottom (n, c, h, w) that a top reads at test along h (axis 2) or w (axis 3); None: unsaid."""
        return None

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        """The channels of each top for bottoms (n, c, h, w) of so many; None: not said, or not a number of its own."""
        return None

    @classmethod
    def has_blobs(cls) -> bool:
        """True where layers of the type may have learnable blobs."""
        return cls.blob_shapes is not Layer.blob_shapes

    @property
    def learns(self) -> bool:
        """True for a layer with learnable blobs, so that what it makes is a prediction and no label."""
        return self.has_blobs()

    @property
    def idle(self) -> bool:
        """True where at test time every top is the bottom, number for number, as in Dropout."""
        return False

    @property
    def moves(self) -> bool:
        """True where the tops hold numbers of the bottoms as they are, so that an index stays one, as in Reshape."""
        return False

    def bottom_shapes(self) -> dict[int, tuple[int | None, ...]]:
        """The shapes that bottoms must have where no image could have them, None for a free size: regions, (n, 5)."""
        return {}

    def index_limits(self, bottoms: Sequence[Shape]) -> dict[int, int]:
        """The bottoms whose numbers are places in something else, with how many places there are."""
        return {}

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        """The tops. Never changes a bottom in place; `training` as in Caffe's TRAIN phase."""
        raise NotImplementedError(f"{type(self).__name__} cannot be computed")

    def to_onnx(self, out: OnnxLayer) -> None:
        """Put the operators that compute the tops into an ONNX model, with numpy alone; onnx_form.py says how.

        The default refuses the layer by its name, and so does a form (`out.refuse`) for settings that ONNX cannot do.
        """
        raise out.refuse(f"{type(self).__name__} has no ONNX form", hint="give its class a method to_onnx")

    def to_python(self, site: Site) -> Form:
        """The text of the layer at `site` in a Python file of PyTorch; python_form.py says how.

        The default raises NoFormError, and so does a form for settings that it cannot write.
        """
        raise NoFormError(type(self).__name__)


_types: dict[str, type[Layer]] = {}
"""The types that are imported, and those from outside."""

_homes: dict[str, str] = {}
"""The module that registers a type, by its name, for types that need not be imported yet."""

LayerClass = TypeVar("LayerClass", bound=type[Layer])


def register_layer(*names: str) -> Callable[[LayerClass], LayerClass]:
    """Make a Layer class known under Caffe's `type` names; a later one replaces an earlier one."""

    def register(layer_class: LayerClass) -> LayerClass:
        for name in names:
            if layer_class.__module__ != _homes.get(name):
                _import_home(name)  # which would else replace this one when it is imported
            _types[name] = layer_class
        return layer_class

    return register


def register_homes(homes: Mapping[str, str]) -> None:
    """Make types known by the names of the modules that register them, which are imported when one is looked up."""
    _homes.update(homes)


def find_layer(name: str) -> type[Layer] | None:
    """The class of a layer type; None for one that is not registered."""
    _import_home(name)
    return _types.get(name)


def all_layers() -> Mapping[str, type[Layer]]:
    """The class of every registered type, by its name; imports the modules of all of them."""
    for name in tuple(_homes):
        _import_home(name)
    return MappingProxyType(_types)


def known_types() -> tuple[str, ...]:
    """The name of every registered type; imports none of them."""
    return (*_types, *_homes)


def _import_home(name: str) -> None:
    if name not in _types and name in _homes:
        import_module(_homes[name])
