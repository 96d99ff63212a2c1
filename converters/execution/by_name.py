"""ByAnyName: a module whose inputs go in by name, whatever a file calls them, and which says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .input_misfit import misfit, wrong_inputs


class ByAnyName(nn.Module):
    """A module with named inputs, of which one may be called `self`.

    PyTorch's own `__call__`, with its hooks, has this word for the module; such inputs reach it by position. Where
    PyTorch fails over inputs that are of another kind than the net takes, the error says in words which and why:
    InputError, or TypeError for what is no tensor.
    """

    def __call__(self, /, *given: Tensor, **named: Tensor) -> Any:
        if "self" in named:
            inputs: Any = self.inputs
            given, named = _by_position(tuple(inputs), given, named), {}
        if torch.compiler.is_compiling():
            return super().__call__(*given, **named)
        try:
            return super().__call__(*given, **named)
        except (RuntimeError, TypeError) as error:
            self._refuse_misfit(given, named, error)
            raise

    def _refuse_misfit(self, given: Sequence[Tensor], named: Mapping[str, Tensor], error: Exception) -> None:
        """Raise what is wrong with these inputs, over which a pass failed with this error; nothing where they fit."""
        expected: Any = self.inputs
        if type(error) not in _OF_PYTORCH:
            return
        found = misfit(expected, self.parameters(), given, named)
        if found is not None and str(found) != str(error):  # which a net inside has not said yet
            raise found from error


_OF_PYTORCH = (RuntimeError, NotImplementedError, TypeError)
"""The errors by which PyTorch refuses a tensor, and Python an argument; ours are of other classes."""


def _by_position(names: Sequence[str], given: Sequence[Tensor], named: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    rest = names[len(given) :]
    if named.keys() != set(rest):
        raise wrong_inputs(names, given, named)
    return (*given, *(named[name] for name in rest))
