"""Values that follow from the inputs' sizes alone, such as SSD's priors: a plan computes them once."""

from __future__ import annotations

from converters.net import Nothing

from ..flow import Flow, FlowLayer


def of_sizes(flow: Flow) -> frozenset[str]:
    """The values that no number of an input changes, and no weight."""
    found: set[str] = set()
    for operation in flow.operations:
        part = operation.main
        read = [name for place, name in enumerate(part.bottoms) if name not in found and _reads(part, place)]
        if part.bottoms and len(operation.parts) == 1 and not part.blobs and not read:
            found.update(operation.tops)
    return frozenset(found)


def read_by_others(flow: Flow, constants: frozenset[str]) -> frozenset[str]:
    """The constants that an output shows or an operation reads that is none."""
    others = [operation for operation in flow.operations if constants.isdisjoint(operation.tops)]
    return constants & {*flow.outputs.values(), *(name for operation in others for name in operation.bottoms)}


def _reads(part: FlowLayer, bottom: int) -> bool:
    """True where a top holds more of this bottom than its sizes."""
    ways = [(axis, top) for axis in (2, 3) for top in range(len(part.tops))]
    return not all(isinstance(part.params.reach(axis=axis, bottom=bottom, top=top), Nothing) for axis, top in ways)
