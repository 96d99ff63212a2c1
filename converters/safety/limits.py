"""The limits on what a stranger's file may ask for: in proportion to its size, plus 64 MiB; and one way to allow more.

Where a few bytes can ask for much (compression, shapes, references, names that multiply), a reader counts what would
be needed before it takes it, and `check_limit` or `check_memory` refuses what is too much. Each such error names the
limit, and the factor for the environment variable FCN_PORT_LIMITS by which every limit grows.
"""

from __future__ import annotations

import math
import os

from ..errors import LimitError

VARIABLE = "FCN_PORT_LIMITS"
"""The environment variable with the factor by which all limits are raised, 1 if it is not set."""

SPARE = 64 << 20
"""Bytes that any file may ask for, however small it is."""


def scaled(limit: int) -> int:
    """A limit as the user allows it; LimitError where FCN_PORT_LIMITS is not a number from 1 on."""
    text = os.environ.get(VARIABLE, "").strip()
    try:
        factor = float(text or 1)
    except ValueError:
        factor = math.nan
    if not 1 <= factor < math.inf:
        raise LimitError(f"the environment variable {VARIABLE} is {text[:40]!r}; expected a number from 1 on")
    return int(limit * factor)


def check_limit(needed: int, limit: int, *, what: str, unit: str = "bytes", where: str | None = None) -> None:
    """LimitError if `needed` is more than `limit`, as the user allows it; `what` is said before both numbers."""
    allowed = scaled(limit)
    if needed > allowed:
        factor = -(-needed // max(1, limit))
        raise LimitError(
            f"{what} {needed} {unit}, and the limit is {allowed}",
            where=where,
            hint=f"if you trust the file, set {VARIABLE}={factor}, which raises all limits by that factor",
        )


def check_memory(
    needed: int, *, file_size: int, expansion: int = 1, what: str = "it would take", where: str | None = None
) -> None:
    """LimitError if `needed` bytes are more than 64 MiB plus `expansion` times the size of the file that asks."""
    check_limit(needed, memory_limit(file_size, expansion=expansion), what=what, where=where)


def memory_limit(file_size: int, *, expansion: int = 1) -> int:
    """The bytes that a file may ask for before FCN_PORT_LIMITS: 64 MiB plus `expansion` times its size."""
    return SPARE + expansion * file_size
