"""Facts of a net's values that a plan needs beside their shapes; the same for every size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from ..flow import Flow, FlowStep
from .constants import of_sizes, read_by_others
from .rectified import shares
from .rounding import chained, shown


class OperationTraits(TypedDict):
    """The settings of `choose` that follow from an operation's values."""

    exact: bool
    chained: bool
    share: float


@dataclass(frozen=True)
class Traits:
    """The names of values: tops whose rounding an output shows, tops of products in a chain; shares (rectified.py).

    `constant` are those that sizes alone say (constants.py), `wanted` those of them that others read.
    """

    exact: frozenset[str]
    chained: frozenset[str]
    shares: Mapping[str, float]
    constant: frozenset[str]
    wanted: frozenset[str]

    def of(self, operation: FlowStep) -> OperationTraits:
        """The facts of an operation that `choose` needs."""
        tops, bottoms = operation.tops, operation.bottoms
        share = self.shares.get(bottoms[0], 1) if bottoms else 1
        return {"exact": not self.exact.isdisjoint(tops), "chained": not self.chained.isdisjoint(tops), "share": share}


def traits_of(flow: Flow) -> Traits:
    """The traits of a whole net."""
    constant = of_sizes(flow)
    return Traits(shown(flow), chained(flow), shares(flow), constant, read_by_others(flow, constant))


def traits_behind(whole: Traits, rest: Flow) -> Traits:
    """Those of the last operations of a net with such traits; what is constant before them is an input to them."""
    constant = of_sizes(rest)
    return replace(whole, constant=constant, wanted=read_by_others(rest, constant))
