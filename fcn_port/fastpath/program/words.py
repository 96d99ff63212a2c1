"""Kernels as people read of them."""

from __future__ import annotations

from ..flow import FlowStep
from .choice import KernelChoice

ENDINGS = {"small": ", small tiles", "pieces": ", in pieces", "lean": ", kernels as they are"}
OF_WINDOWS = {
    "product": "product", "sparse": "product without zeros", "amx": "product by AMX", "pool_max": "maximum",
    "pool_places": "maximum and its place", "pool_average": "average",
}  # fmt: skip
"""The kernels whose window is told, by their names in the C code; those not here have that name for people, too."""
OF_PLACES = {
    "pointwise": "channel by channel", "operands": "channel by channel", "move": "numbers moved", "softmax": "softmax",
    "largest": "the greatest channel",
    "unit": "divided by a norm", "standardize": "divided by its own deviation", "normalize": "normalize",
    "unpool": "values put where maxima were", "resample": "mixed of four pixels",
    "recurrent": "step by step over time",
}  # fmt: skip


def in_words(operation: FlowStep, kernel: KernelChoice) -> str:
    """The kernel of an operation as `explain` names it: its window, how it goes and, where it has any, its groups.

    Of groups that are computed several at a time it says so: infinity and NaN in one make NaN of the others.
    """
    if kernel.name in OF_PLACES:
        return OF_PLACES[kernel.name]
    size = "x".join(map(str, (kernel.window if kernel.depth is None else (kernel.depth[0], *kernel.window))))
    groups = _groups(operation, kernel)
    if kernel.name.startswith("winograd"):
        return f"{size} by Winograd's filtering" + ENDINGS.get(kernel.name.split("_")[-1], "") + groups
    if kernel.name.startswith("strassen"):
        return f"{size} product by Strassen's algorithm" + (", twice" if kernel.name[-1] == "2" else "") + groups
    return f"{size} {OF_WINDOWS.get(kernel.name, kernel.name)}{groups}"


def _groups(operation: FlowStep, kernel: KernelChoice) -> str:
    count = getattr(operation.weighted, "group", 1)
    if count == 1 or kernel.name == "depthwise":
        return ""
    return f" in {count} groups" + (f", {count // kernel.groups} at a time" if count > kernel.groups else "")
