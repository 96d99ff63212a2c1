"""ByAnyName: a module whose inputs go in by name, whatever a file calls them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import NetError
from ..escaping import terminal


class ByAnyName(nn.Module):
    """A module with named inputs, of which one may be called `self`.

    PyTorch's own `__call__`, with its hooks, has this word for the module; such inputs reach it by position.
    """

    def __call__(self, /, *given: Tensor, **named: Tensor) -> Any:
        if "self" in named:
            inputs: Any = self.inputs
            given, named = _by_position(tuple(inputs), given, named), {}
        return super().__call__(*given, **named)


def _by_position(names: Sequence[str], given: Sequence[Tensor], named: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    rest = names[len(given) :]
    if named.keys() != set(rest):
        raise wrong_inputs(names, given, named)
    return (*given, *(named[name] for name in rest))


def wrong_inputs(names: Sequence[str], given: Sequence[object], named: Iterable[str]) -> NetError:
    """The error about inputs that are not the net's: what it expects, and what it was given."""
    found = ", ".join([*("without a name" for _ in given), *named])
    return NetError(f"expected the inputs {terminal(', '.join(names)) or 'none'}; found {terminal(found) or 'none'}")
