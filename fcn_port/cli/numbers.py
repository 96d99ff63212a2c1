"""Numbers on the command line: what is none, nan, or has no end, inf, is wrong use, and no number to compute with."""

from __future__ import annotations

import math
from typing import Any

import click

LARGEST = 3.4e38
"""Nets compute in float32, which holds no more."""
MOST_THREADS = 1024
"""More than any machine of today has use for; a hundred thousand cannot be begun."""
WORKERS = click.IntRange(0, MOST_THREADS)
"""Threads beside the one that works; 0 for none."""


class Number(click.FloatRange):
    """A finite number, between bounds where some are given; click's own FloatRange lets nan through all of them."""

    def __init__(self, min: float | None = None, max: float | None = None, *, min_open: bool = False) -> None:
        super().__init__(min, max, min_open=min_open)
        if min is None and max is None:
            self.name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; wrong use where it is none, or outside."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"'{value}' is no number", param, ctx)
        if math.isinf(found):
            self.fail(f"'{value}' is not finite", param, ctx)
        if abs(found) >= LARGEST:
            self.fail(f"'{value}' is more than a float32 holds", param, ctx)
        return found

    def _describe_range(self) -> str:
        return super()._describe_range() if self.name != "float" else ""
