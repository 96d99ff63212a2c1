"""Kernels as people read of them."""

from __future__ import annotations

from .choice import KernelChoice

ENDINGS = {"small": ", small tiles", "pieces": ", in pieces", "lean": ", kernels as they are"}


def in_words(kernel: KernelChoice) -> str:
    """A kernel as `explain` names it: its window, how it goes and, where there are several, the groups."""
    size = "x".join(map(str, (kernel.window if kernel.depth is None else (kernel.depth[0], *kernel.window))))
    names = {
        "product": "product", "pool_max": "maximum", "pool_places": "maximum and its place", "pool_average": "average",
        "pointwise": "channel by channel", "operands": "channel by channel",
        "move": "numbers moved", "unit": "divided by a norm",
        "standardize": "divided by its own deviation", "unpool": "values put where maxima were",
    }  # fmt: skip
    if kernel.name.startswith("winograd"):
        return f"{size} by Winograd's filtering" + ENDINGS.get(kernel.name.split("_")[-1], "")
    if kernel.name in ("pointwise", "operands", "move", "unit", "standardize", "normalize", "softmax", "unpool"):
        return names.get(kernel.name, kernel.name)
    groups = f" in {kernel.groups} groups" if kernel.groups > 1 else ""
    if kernel.name.startswith("strassen"):
        return f"{size} product by Strassen's algorithm" + (", twice" if kernel.name[-1] == "2" else "")
    return f"{size} {names.get(kernel.name, kernel.name)}{groups}"
