"""Blobs as each layer makes them: a layer in place makes its blob anew, in the memory of the one before (net.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .layer import LayerSpec, params_if_valid
from .spec import NetSpec


@dataclass(frozen=True, eq=False)
class BlobVersion:
    """A blob as one layer makes it; `before` is what it overwrites or is another name of, None where it is new."""

    name: str
    before: BlobVersion | None = None

    def comes_from(self, other: BlobVersion) -> bool:
        """True for the other one itself and for what follows it in the same memory."""
        each: BlobVersion | None = self
        while each is not None and each is not other:
            each = each.before
        return each is other

    @property
    def memory(self) -> BlobVersion:
        """The first version in the same memory."""
        return self if self.before is None else self.before.memory


Versions = Sequence[tuple[list[BlobVersion], list[BlobVersion]]]
"""The bottoms and the tops of each layer."""


def versions(spec: NetSpec) -> Versions:
    """The blobs of each layer; a bottom that no layer makes is new."""
    latest: dict[str, BlobVersion] = {}
    found = []
    for layer in spec.layers:
        bottoms = [latest.setdefault(bottom, BlobVersion(bottom)) for bottom in layer.bottoms]
        names_anew = is_another_name(layer)
        tops = [
            BlobVersion(top, bottoms[0] if names_anew else latest[top] if top in layer.bottoms else None)
            for top in layer.tops
        ]
        latest.update(zip(layer.tops, tops, strict=True))
        found.append((bottoms, tops))
    return found


def is_another_name(layer: LayerSpec) -> bool:
    """True for a layer whose tops are its bottom's memory, such as a Reshape."""
    params = params_if_valid(layer) if layer.bottoms else None
    return params is not None and params.shares_memory(bottoms=len(layer.bottoms), tops=len(layer.tops))
