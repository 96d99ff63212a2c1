"""Layers without bottoms: Input and Parameter (input_layer.cpp, parameter_layer.hpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..net.python_form import Form
from .base import Layer, refuse, register_layer

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site


@register_layer("Input")
@dataclass(frozen=True)
class Input(Layer):
    """Blobs that the caller feeds; one shape for each top, or one for all."""

    shapes: tuple[Shape, ...]

    bottom_count: ClassVar[tuple[int, float]] = (0, 0)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Input:
        shapes = tuple(tuple(shape.dim) for shape in spec.message.input_param.shape)
        if len(shapes) not in (0, 1, len(spec.tops)):
            raise refuse(
                spec,
                f"{len(spec.tops)} tops but {len(shapes)} shapes",
                hint="an Input layer has one shape, or one for each top",
            )
        return cls(shapes if len(shapes) == len(spec.tops) else shapes * len(spec.tops))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if not self.shapes:
            raise ValueError("the net gives no shape for its input")
        return self.shapes


@register_layer("Parameter")
@dataclass(frozen=True)
class Parameter(Layer):
    """A learnable blob as a top."""

    shape: Shape

    bottom_count: ClassVar[tuple[int, float]] = (0, 0)
    top_count: ClassVar[tuple[int, float]] = (1, 1)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Parameter:
        return cls(tuple(spec.message.parameter_param.shape.dim))

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (self.shape,)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (self.shape,)

    def filler_fields(self) -> tuple[str, ...]:
        return ()

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (blobs[0].clone(),)

    def writes_over(self, bottoms: Sequence[Shape]) -> bool:
        return True  # the top's diff is the blob's, and readers write it anew

    def to_onnx(self, out: OnnxLayer) -> None:
        out.top("Identity", [out.blob(0)])

    def to_python(self, site: Site) -> Form:
        own = f"{site.blobs[0]}.clone()"  # the parameter itself would leave the net as one, which wants a gradient
        return Form((own,), shared=(own,))
