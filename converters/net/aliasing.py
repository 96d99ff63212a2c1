"""Blobs that are one memory under several names, so that a layer which works in place changes them all (net.cpp)."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from .layer import LayerSpec
from .shapes import known_params
from .spec import NetSpec

Alias = tuple[str, str]
"""A blob, and the blob with which it changes."""


def aliases(spec: NetSpec, *, outputs: Container[str] | None = None) -> tuple[tuple[Alias, ...], ...]:
    """For each layer of the net, what must follow the blobs that it changes in place, before somebody looks at it.

    Flatten, Reshape and Split give their bottom another name and do not copy it. A name follows the last change before
    a layer reads it, and the last of all, so that there are no more aliases than bottoms and names. With `outputs` the
    last change is for these blobs only.
    """
    found: list[list[Alias]] = [[] for _ in spec.layers]
    memories: dict[str, _Memory] = {}
    for index, layer in enumerate(spec.layers):
        for bottom in layer.bottoms:
            if bottom in memories:
                memories[bottom].look(bottom, found)
        if known_params(layer).shares_memory(bottoms=len(layer.bottoms), tops=len(layer.tops)):
            _share(layer, memories)
            continue
        for top in layer.tops:
            if top in memories and top in layer.bottoms:
                memories[top].change(top, index)
    for memory in dict.fromkeys(memories.values()):
        for name in sorted(memory.names):
            if outputs is None or name in outputs:
                memory.look(name, found)
    return tuple(map(tuple, found))


@dataclass(eq=False)
class _Memory:
    """The names of one memory; `current` are those that hold what the layer of number `changer` made of `changed`."""

    names: set[str] = field(default_factory=set)
    current: set[str] = field(default_factory=set)
    changed: str = ""
    changer: int = -1

    def look(self, name: str, found: list[list[Alias]]) -> None:
        """Let `name` follow the last change, if it does not yet."""
        if self.changer >= 0 and name not in self.current:
            found[self.changer].append((name, self.changed))
            self.current.add(name)

    def change(self, name: str, layer: int) -> None:
        """`name` has been changed in place; of several names in one layer the first counts."""
        if layer != self.changer:
            self.changed, self.changer, self.current = name, layer, {name}


def _share(layer: LayerSpec, memories: dict[str, _Memory]) -> None:
    names = {layer.bottoms[0], *layer.tops}
    memory = memories.setdefault(layer.bottoms[0], _Memory())
    memory.names |= names
    memory.current |= names
    memories.update(dict.fromkeys(layer.tops, memory))
