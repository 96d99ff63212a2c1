"""Blobs that are one memory under several names, so that a layer which works in place changes them all (net.cpp)."""

from __future__ import annotations

from .net import LayerSpec, NetSpec
from .shapes import known_params

Echo = tuple[str, str]
"""A blob, and the blob with which it changes."""


def echoes(spec: NetSpec) -> tuple[tuple[Echo, ...], ...]:
    """For each layer of the net, what else changes with the blobs that it changes in place.

    Flatten, Reshape and Split give their bottom another name and do not copy it.
    """
    same: dict[str, frozenset[str]] = {}
    return tuple(_echoes(layer, same) for layer in spec.layers)


def _echoes(layer: LayerSpec, same: dict[str, frozenset[str]]) -> tuple[Echo, ...]:
    """The echoes of one layer; `same` has the names of each blob's memory, and is brought up to date."""
    if known_params(layer).shares_memory(bottoms=len(layer.bottoms), tops=len(layer.tops)):
        names = same.get(layer.bottoms[0], frozenset()) | {layer.bottoms[0], *layer.tops}
        same.update((name, names) for name in names)
        return ()
    changed = [top for top in layer.tops if top in layer.bottoms]
    return tuple((name, top) for top in changed for name in sorted(same.get(top, frozenset()) - {top}))
