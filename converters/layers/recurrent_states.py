"""The states with which the passes of recurrent layers begin (recurrent_layer.cpp, Forward_cpu)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import NetError

if TYPE_CHECKING:
    from torch import Tensor

    from .base import Layer


def beginning(x: Tensor, kept: Sequence[Tensor] | None, *, count: int, width: int) -> Sequence[Tensor]:
    """The states (N, width) of a pass over `x` (T, N, ...): those that were `kept` of the pass before, else zeros."""
    return [x.new_zeros(x.shape[1], width) for _ in range(count)] if kept is None else kept


def check_beginning(layer: Layer, cont: Tensor) -> None:
    """Raise NetError for sequences that go on from a pass before whose state is not kept."""
    if bool(cont[:1].any()):
        raise NetError(
            f"{type(layer).__name__}: its sequences go on, not 0 in the first row, from the state of the pass before, "
            "which Caffe keeps and which is not kept here",
            hint="begin each batch anew with zeros there, or feed the state (expose_hidden)",
        )
