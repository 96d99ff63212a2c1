"""The published data sets, a module each, whose `KINDS` say how one is found and opened; a new module is found here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules

from .kind import DatasetKind

__all__ = ["KINDS", "DatasetKind"]


def _kinds() -> Iterator[DatasetKind]:
    for module in iter_modules(__path__):
        yield from getattr(import_module(f"{__name__}.{module.name}"), "KINDS", ())


KINDS: Mapping[str, DatasetKind] = {kind.name: kind for kind in sorted(_kinds(), key=lambda kind: kind.elsewhere)}
"""By name, in the order in which a folder is looked at."""
