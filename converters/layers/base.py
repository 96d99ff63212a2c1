"""What a layer type is: frozen parameters, a shape rule, and the computation in PyTorch.

To add a type, in this project or outside it, write a frozen dataclass of its parameters and register it:

    @register_layer("Swish")
    @dataclass(frozen=True)
    class Swish(Layer):
        beta: float

        @classmethod
        def parse(cls, spec):
            return cls(beta=spec.to_message().swish_param.beta)

        def top_shapes(self, bottoms):
            return (bottoms[0],)

        def forward(self, bottoms, blobs, *, training=False):
            return (bottoms[0] * (self.beta * bottoms[0]).sigmoid(),)

Parameters of a type that BVLC Caffe does not have are read by name, `fork_message(spec, "swish_param")` of fork.py; a
layer of type Python is registered as "Python:NameOfItsClass". Only `forward` may import torch, so that nets are read
and their shapes worked out without it; it should leave sizes to PyTorch's operations, so that any size can be traced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..errors import NetError

if TYPE_CHECKING:
    from torch import Tensor

    from ..net import LayerSpec, Shape
    from .reach import Reach

Pair = tuple[int, int]

LARGEST = 1 << 30
"""Of a size in a layer's parameters: twice as much, as padding is on two sides, is what Caffe's int can count."""


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

        None where the type alone does not tell what the layer is, and nobody registered what it turns out to be.
        """
        return cls()

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The shape of each top for bottoms of these shapes; raises ValueError where they do not fit."""
        raise NotImplementedError(f"{type(self).__name__} has no shape rule")

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The shape of each learnable blob, as Caffe's LayerSetUp makes it."""
        return ()

    def blob_fills(self) -> tuple[float, ...]:
        """What each learnable blob holds before weights are loaded, zero where this is shorter than the blobs."""
        return ()

    def statistics(self) -> tuple[int, ...]:
        """The blobs that no gradient trains, by position, such as BatchNorm's running mean."""
        return ()

    def shares_memory(self, *, bottoms: int, tops: int) -> bool:
        """Whether in Caffe the tops are the bottom's own memory, so that a later in-place layer changes them all."""
        return False

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Multiply-accumulates of one forward pass, padding counted as work."""
        return 0

    # What others must know of a type. A default says "not known", and whoever asks refuses the layer by its name.

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        """What of a bottom (n, c, h, w) a top reads at test time along h (axis 2) or w (axis 3); None: not said."""
        return None

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        """The channels of each top for bottoms (n, c, h, w) of so many; None: not said, or not a number of its own."""
        return None

    @classmethod
    def has_blobs(cls) -> bool:
        """Whether layers of the type may have learnable blobs."""
        return cls.blob_shapes is not Layer.blob_shapes

    @property
    def learns(self) -> bool:
        """Whether the layer has learnable blobs, so that what it makes is a prediction and no label."""
        return self.has_blobs()

    @property
    def idle(self) -> bool:
        """Whether at test time every top is the bottom, number for number, as in Dropout."""
        return False

    @property
    def moves(self) -> bool:
        """Whether the tops hold numbers of the bottoms as they are, so that an index stays one, as in Reshape."""
        return False

    def index_limits(self, bottoms: Sequence[Shape]) -> dict[int, int]:
        """The bottoms whose numbers are places in something else, with how many places there are."""
        return {}

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        """The tops. Never changes a bottom in place; `training` as in Caffe's TRAIN phase."""
        raise NotImplementedError(f"{type(self).__name__} cannot be computed")


class OneToOne(Layer):
    """Base of the types that have one bottom and one top."""

    bottom_count = (1, 1)
    top_count = (1, 1)


class Neuron(OneToOne):
    """Base of the types whose top has the bottom's shape."""

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (bottoms[0],)

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)


_types: dict[str, type[Layer]] = {}
LayerClass = TypeVar("LayerClass", bound=type[Layer])


def register_layer(*names: str) -> Callable[[LayerClass], LayerClass]:
    """Make a Layer class known under Caffe's `type` names; a later one replaces an earlier one."""

    def register(layer_class: LayerClass) -> LayerClass:
        for name in names:
            _types[name] = layer_class
        return layer_class

    return register


def find_layer(name: str) -> type[Layer] | None:
    """The class of a layer type, or None if nobody registered it."""
    return _types.get(name)


def similar_type(name: str) -> str | None:
    """The known layer type whose name is nearest, whatever its capitals; None where none is near."""
    by_small = {known.lower(): known for known in _types}
    near = get_close_matches(name.lower(), by_small, n=1, cutoff=0.75)
    return by_small[near[0]] if near else None


def refuse(spec: LayerSpec, problem: str, *, hint: str | None = None) -> NetError:
    """The error to raise for parameters that Caffe would refuse."""
    return NetError(problem, where=spec.place, hint=hint)


def pair(spec: LayerSpec, message: Any, name: str, *, default: int | None = None) -> Pair:
    """(h, w) of a spatial parameter that may be given as `name`, repeated, or as `stem_h` and `stem_w`.

    Source: base_conv_layer.cpp and pooling_layer.cpp, LayerSetUp. Both forms at once are refused, as there.
    """
    stem = name.removesuffix("_size")
    h, w = message.HasField(f"{stem}_h"), message.HasField(f"{stem}_w")
    given = _as_list(message, name)
    if h or w:
        if given:
            raise refuse(spec, f"both {name} and {stem}_h/{stem}_w are given", hint="keep one of them")
        if not (h and w) and default is None:
            raise refuse(spec, f"{stem}_h and {stem}_w go together; only one is given")
        return getattr(message, f"{stem}_h"), getattr(message, f"{stem}_w")
    if len(given) > 2:
        raise refuse(spec, f"{name} is given {len(given)} times; two spatial axes take one or two")
    if not given:
        if default is None:
            raise refuse(spec, f"{name} is missing", hint=f"give {name}, or {stem}_h and {stem}_w")
        return default, default
    return given[0], given[-1]


def _as_list(message: Any, name: str) -> list[int]:
    value = getattr(message, name)
    if isinstance(value, int):
        return [value] if message.HasField(name) else []
    return list(value)


def canonical_axis(axis: int, shape: Sequence[int]) -> int:
    """`axis` counted from the front (blob.hpp, CanonicalAxisIndex); ValueError where the blob does not have it."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis {axis} of a blob with {len(shape)} axes")
    return axis % len(shape)


def as_image(shape: Shape) -> tuple[int, int, int, int]:
    """`shape` as (n, c, h, w); ValueError where it has other axes."""
    if len(shape) != 4:
        raise ValueError(f"a bottom of shape {shape}; expected (n, c, h, w)")
    n, c, h, w = shape
    return n, c, h, w


def image_axis(axis: int) -> int | None:
    """`axis` of a blob (n, c, h, w) counted from the front; None where it has no such axis."""
    return axis % 4 if -4 <= axis < 4 else None


def legacy_shape(shape: Shape) -> tuple[int, int, int, int]:
    """`shape` with ones appended up to four axes, as Caffe's older layers see it (blob.hpp, LegacyShape)."""
    if len(shape) > 4:
        raise ValueError(f"a bottom of shape {shape}; this layer takes at most 4 axes")
    n, c, h, w = (*shape, 1, 1, 1, 1)[:4]
    return n, c, h, w


def blob_name(position: int) -> str:
    """How a layer's learnable blob is called in PyTorch, whatever the type: weight, bias, blob2, blob3 and so on."""
    return ("weight", "bias")[position] if position < 2 else f"blob{position}"
