"""Facts of a net's values that the choice of kernels needs beside their shapes; the same for every size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from ..flow import Flow, FlowStep
from .rectified import shares
from .rounding import chained, shown


class OperationTraits(TypedDict):
    """The settings of `choose` that follow from an operation's values."""

    exact: bool
    chained: bool
    share: float


@dataclass(frozen=True)
class Traits:
    """The names of values: tops whose rounding an output shows, tops of products in a chain; shares (rectified.py)."""

    exact: frozenset[str]
    chained: frozenset[str]
    shares: Mapping[str, float]

    def of(self, operation: FlowStep) -> OperationTraits:
        """The facts of an operation that `choose` needs."""
        exact, in_chain = (not names.isdisjoint(operation.tops) for names in (self.exact, self.chained))
        share = self.shares.get(operation.bottoms[0], 1) if operation.bottoms else 1
        return {"exact": exact, "chained": in_chain, "share": share}


def traits_of(flow: Flow) -> Traits:
    """The traits of a whole net."""
    return Traits(shown(flow), chained(flow), shares(flow))
