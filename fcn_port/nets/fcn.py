"""`FCN`: a net that is written out by hand, one child module for each layer, under its Caffe layer name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import Self

from converters.errors import InputError
from converters.execution import ByAnyName, refuse_no_numbers, wrong_inputs
from converters.given import refuse_other_than
from converters.net import NetSpec, Shape
from converters.recorded import is_recorded

from .net import Net
from .record import calls_of, record, shapes_of, to_spec

DEPLOY_SIZE = (500, 500)
"""The input size (h, w) that the published deploy nets name, "purely for sake of example"."""


class FCN(ByAnyName, Net):
    """The base of every hand-written net, by which `load` recognises it, and all that can be read off its layers."""

    channels: ClassVar[Mapping[str, int]] = {"data": 3}
    """Of each input blob, in the order of `forward`; a net whose first layer was exchanged is given its own."""

    plain_rates: ClassVar[tuple[str, ...]] = ()
    """Convolutions whose biases the release trains like weights; others learn at twice the rate, without decay."""

    def __call__(self, /, *given: Tensor, **named: Tensor) -> Any:
        if not is_recorded():
            refuse_no_numbers(self.parameters(), (*given, *named.values()))
        return super().__call__(*given, **named)

    @classmethod
    def of_shapes(cls, shapes: Mapping[str, Shape]) -> Self:
        """The net whose weights have these shapes, by state dict key; KeyError where a layer is not there."""
        return cls(**cls.settings_of(shapes))

    @classmethod
    def settings_of(cls, shapes: Mapping[str, Shape]) -> dict[str, Any]:
        """The keyword arguments of `__init__` that give weights of these shapes."""
        raise NotImplementedError

    @property
    def spec(self) -> NetSpec:
        return self.definition()

    def definition(self, *, name: str = "") -> NetSpec:
        return to_spec(self, self.inputs, name=name)

    @property
    def inputs(self) -> Mapping[str, Shape]:
        return {name: (1, count, *DEPLOY_SIZE) for name, count in self.channels.items()}

    @property
    def outputs(self) -> tuple[str, ...]:
        calls = calls_of(self, self.inputs)
        read = {bottom for call in calls if call.top not in call.bottoms for bottom in call.bottoms}
        return tuple(dict.fromkeys(call.top for call in calls if call.top not in read))

    def blobs(self, /, *inputs: Tensor, **named: Tensor) -> dict[str, Tensor]:
        given = {**dict(zip(self.channels, inputs, strict=False)), **named}
        if given.keys() != self.channels.keys() or len(given) != len(inputs) + len(named):
            raise wrong_inputs(tuple(self.channels), inputs, named)
        for name, x in given.items():
            refuse_other_than(Tensor, x, f"a tensor as input '{name}', such as fcn_port.prepare(net, image)")
        try:
            return record(self, given)[1]
        except RuntimeError as error:
            self._refuse_misfit((), given, error)
            raise

    def _refuse_misfit(self, given: Sequence[Tensor], named: Mapping[str, Tensor], error: Exception) -> None:
        """As of every net, and where PyTorch could not put several inputs together that are of different sizes."""
        super()._refuse_misfit(given, named, error)
        inputs = {**dict(zip(self.channels, given, strict=False)), **named}
        if type(error) is RuntimeError and len({(x.shape[:-3], x.shape[-2:]) for x in inputs.values()}) > 1:
            found = ", ".join(f"'{name}' {tuple(x.shape)}" for name, x in inputs.items())
            raise InputError(f"expected inputs of one size and as many images of each; found {found}") from error

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        return shapes_of(self, inputs)
