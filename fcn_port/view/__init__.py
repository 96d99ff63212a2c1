"""A net as a graph to look at, in viewers of others: Google's Model Explorer, and Netron.

graph.py       the net as Model Explorer's graph
overlays.py    a number for each layer: multiply-adds, memory, milliseconds, distance from a recording
viewers.py     the viewers, on loopback
main.py        the adapter with which Model Explorer opens Caffe's files by itself
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .graph import to_graph
    from .overlays import Overlay, costs, milliseconds, parity

__all__ = ["Overlay", "costs", "milliseconds", "parity", "to_graph"]

__getattr__, __dir__ = lazy_attributes(
    __name__, {"to_graph": "graph", **dict.fromkeys(("Overlay", "costs", "milliseconds", "parity"), "overlays")}
)
