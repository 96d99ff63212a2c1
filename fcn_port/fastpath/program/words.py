"""Kernels as people read of them."""

from __future__ import annotations

from .choice import KernelChoice

ENDINGS = {"small": ", small tiles", "pieces": ", in pieces", "lean": ", kernels as they are"}
OF_WINDOWS = {
    "product": "product", "pool_max": "maximum", "pool_places": "maximum and its place", "pool_average": "average",
}  # fmt: skip
"""The kernels whose window is told, by their names in the C code; those not here have that name for people, too."""
OF_PLACES = {
    "pointwise": "channel by channel", "operands": "channel by channel", "move": "numbers moved", "softmax": "softmax",
    "unit": "divided by a norm", "standardize": "divided by its own deviation", "normalize": "normalize",
    "unpool": "values put where maxima were", "resample": "mixed of four pixels",
    "recurrent": "step by step over time",
}  # fmt: skip


def in_words(kernel: KernelChoice) -> str:
    """A kernel as `explain` names it: its window, how it goes and, where there are several, the groups."""
    if kernel.name in OF_PLACES:
        return OF_PLACES[kernel.name]
    size = "x".join(map(str, (kernel.window if kernel.depth is None else (kernel.depth[0], *kernel.window))))
    if kernel.name.startswith("winograd"):
        return f"{size} by Winograd's filtering" + ENDINGS.get(kernel.name.split("_")[-1], "")
    groups = f" in {kernel.groups} groups" if kernel.groups > 1 else ""
    if kernel.name.startswith("strassen"):
        return f"{size} product by Strassen's algorithm" + (", twice" if kernel.name[-1] == "2" else "")
    return f"{size} {OF_WINDOWS.get(kernel.name, kernel.name)}{groups}"
