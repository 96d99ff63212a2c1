"""Facts of a net's values that the choice of kernels needs beside their shapes; the same for every size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from ..flow import Flow, FlowStep
from .rectified import rectified
from .rounding import chained, shown


class OperationTraits(TypedDict):
    """The settings of `choose` that follow from an operation's values."""

    exact: bool
    chained: bool
    rectified: bool


@dataclass(frozen=True)
class Traits:
    """The names of values: tops whose rounding an output shows, tops of products in a chain, bottoms half of 0."""

    exact: frozenset[str]
    chained: frozenset[str]
    rectified: frozenset[str]

    def of(self, operation: FlowStep) -> OperationTraits:
        """The facts of an operation that `choose` needs."""
        exact, in_chain = (not names.isdisjoint(operation.tops) for names in (self.exact, self.chained))
        first = operation.bottoms[:1]
        return {"exact": exact, "chained": in_chain, "rectified": bool(first) and first[0] in self.rectified}


def traits_of(flow: Flow) -> Traits:
    """The traits of a whole net."""
    return Traits(shown(flow), chained(flow), rectified(flow))
