"""The words that messages and tables have in common: a shape, and the first of many names."""

from __future__ import annotations

from collections.abc import Sequence


def shape_text(shape: Sequence[int]) -> str:
    """A shape in words: 1x21x100x100."""
    return "x".join(map(str, shape)) or "scalar"


def first_of(names: Sequence[str], most: int) -> str:
    """The first `most` names, and how many more there are: fc6, fc7 and 3 more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
