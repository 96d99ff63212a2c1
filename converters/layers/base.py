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

Parameters of a type that BVLC Caffe does not have are read by name: `spec.extra_message("swish_param").children()`.
Only `forward` may import torch, so that nets are read and their shapes worked out without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..errors import NetError

if TYPE_CHECKING:
    from torch import Tensor

    from ..net import LayerSpec, Shape

Pair = tuple[int, int]


class Layer:
    """Base of the parameters of every layer type.

    `blob_ranks` is the number of axes of each learnable blob: files from before 2015 wrote every blob with four.
    """

    blob_ranks: ClassVar[tuple[int, ...]] = ()

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        """The parameters of `spec`, defaults filled in; raises NetError where Caffe would refuse them."""
        return cls()

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The shape of each top for bottoms of these shapes; raises ValueError where they do not fit."""
        raise NotImplementedError(f"{type(self).__name__} has no shape rule")

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """The shape of each learnable blob, as Caffe's LayerSetUp makes it."""
        return ()

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Multiply-accumulates of one forward pass, padding counted as work."""
        return 0

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        """The tops. Never changes a bottom in place; `training` as in Caffe's TRAIN phase."""
        raise NotImplementedError(f"{type(self).__name__} cannot be computed")


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
