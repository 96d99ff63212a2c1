"""Flow: a net in which no value changes once it is there; what passes take and give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from converters.layers import Convolution
from converters.net import Layer, Shape

from ..copies import CopiedAtOnce
from .products import Weighted, weighted

BlobKey = tuple[str, int]
"""The layer that owns a learnable blob, and the blob's position in it."""
Tops = tuple[str, ...]
"""The values that an operation makes, by which it is told apart: layers may be called alike, values not."""


def state_key(key: BlobKey) -> str:
    """The key of a learnable blob in a state dict."""
    layer, position = key
    return f"{layer}.{('weight', 'bias')[position] if position < 2 else f'blob{position}'}"


@dataclass(frozen=True)
class FlowLayer(CopiedAtOnce):
    """One layer as the definition has it; `bottoms` and `tops` name values.

    `blobs` are the keys of its learnable blobs, and their shapes here: layers may share one, each in its own shape.
    """

    name: str
    place: str
    type: str
    params: Layer
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    blobs: tuple[tuple[BlobKey, Shape], ...] = ()

    def check_weights(self, bottoms: Sequence[Shape]) -> None:
        """ValueError where bottoms of these shapes need learnable blobs of other shapes, as behind a Flatten."""
        needed = self.params.blob_shapes(bottoms)
        if needed != self._own:
            raise ValueError(f"{self.place} would need blobs {needed}; it has {self._own}")

    @cached_property
    def _own(self) -> tuple[Shape, ...]:
        return tuple(shape for _, shape in self.blobs)


@dataclass(frozen=True)
class FlowStep(CopiedAtOnce):
    """Layers that are computed at once: `main`, factors and constants for each channel, a sum, an activation.

    `parts` are all of these layers in the order of the net; computing one after the other gives the same. `affine`
    are merged into the weights of `main`, `addend` is a value added to the result, `activation` comes last.
    """

    main: FlowLayer
    parts: tuple[FlowLayer, ...]
    affine: tuple[FlowLayer, ...] = ()
    addend: str | None = None
    activation: FlowLayer | None = None

    @property
    def name(self) -> str:
        return self.main.name

    @cached_property
    def bottoms(self) -> tuple[str, ...]:
        return self.main.bottoms if self.addend is None else (*self.main.bottoms, self.addend)

    @cached_property
    def tops(self) -> tuple[str, ...]:
        return self.parts[-1].tops

    @cached_property
    def weighted(self) -> Weighted | None:
        """The convolution, deconvolution or product that `main` is, its padding aside; None for any other layer."""
        return weighted(self.main.params)

    @cached_property
    def convolution(self) -> Convolution | None:
        """The convolution that `main` is, its padding aside; None for any other layer, a deconvolution too."""
        found = self.weighted
        return found if type(found) is Convolution else None

    @property
    def is_open(self) -> bool:
        """True where nothing has been merged behind the weights yet."""
        return self.addend is None and self.activation is None

    def followed_by(self, part: FlowLayer) -> FlowStep:
        """The operation with one more layer among its parts; the caller says what it stands for."""
        return replace(self, parts=(*self.parts, part))


@dataclass(frozen=True)
class Flow(CopiedAtOnce):
    """Operations in order; `outputs` pair the name of a blob with the value that it has at the end."""

    inputs: tuple[str, ...]
    operations: tuple[FlowStep, ...]
    outputs: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def uses(self) -> Counter[str]:
        """The number of times that operations read each value."""
        return Counter(name for operation in self.operations for name in operation.bottoms)

    @cached_property
    def makers(self) -> Mapping[str, int]:
        """The number of the operation that makes each value."""
        return {top: number for number, operation in enumerate(self.operations) for top in operation.tops}

    def only_reader(self, value: str) -> bool:
        """True where a value is read once, and is no output."""
        return self.uses[value] == 1 and value not in self.outputs.values()

    def behind(self, number: int) -> Flow:
        """The operations from this number on; inputs are the values that they or the outputs read from before."""
        operations = self.operations[number:]
        made = {top for operation in operations for top in operation.tops}
        read = (name for operation in operations for name in operation.bottoms)
        inputs = dict.fromkeys(name for name in (*read, *self.outputs.values()) if name not in made)
        return Flow(tuple(inputs), operations, self.outputs)
