"""Running the tail of a net: every layer as it is, each blob only as long as somebody still reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .graph import Step
from .kernels import Kernel


def run_tail(
    steps: tuple[Step, ...], outputs: tuple[str, ...], kernels: Mapping[str, Kernel], blobs: dict[str, Tensor]
) -> Any:
    """What the net returns, given the blobs that its tail reads."""
    for i, step in enumerate(steps):
        bottoms = [blobs[name] for name in step.bottoms]
        blobs[step.top] = kernels[step.name](*bottoms) if step.name in kernels else step.module(*bottoms)
        del bottoms
        wanted = {*outputs, *(name for later in steps[i + 1 :] for name in later.bottoms)}
        for name in blobs.keys() - wanted:
            del blobs[name]
    if len(outputs) == 1:
        return blobs[outputs[0]].contiguous()
    return {name: blobs[name].contiguous() for name in outputs}
