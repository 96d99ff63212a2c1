"""Layer types that a net misspells."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def similar_type(name: str, types: Iterable[str]) -> str | None:
    """The one of the `types` of which a name is a misspelling, whatever its capitals; None where there is none.

    One with a word before or behind is another layer, as RegionLoss is to Region; so is OuterProduct to InnerProduct.
    Of a Python layer the class's own name counts, without the Layer at its end that all have.
    """
    beside = name.startswith("Python:")
    by_small = {_stem(known): known for known in types if known.startswith("Python:") == beside}
    small = _stem(name)
    if small not in by_small and small.rstrip("0123456789") in by_small:
        return None
    near = [
        each
        for each in get_close_matches(small, by_small, n=3, cutoff=0.78 if beside else 0.85)
        if each == small or not (small.endswith(each) or each.endswith(small) or _is_longer(small, each, beside))
    ]
    return by_small[near[0]] if near else None


def _is_longer(name: str, known: str, python: bool) -> bool:
    """True for a known name with a number or, but of a Python class, a word behind."""
    more = name.removeprefix(known).strip("_")
    return name.startswith(known) and (more.isdigit() or (len(more) > 2 and not python))


def _stem(name: str) -> str:
    python, small = name.startswith("Python:"), name.lower()
    return small.removeprefix("python:").removesuffix("layer") if python else small
