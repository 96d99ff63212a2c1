"""The net that an ONNX file with weights of 16 bits holds: the judge of that file, and how far it is from the original.

A program must compute what the rounded weights say, to the last digits as always; what the rounding itself changes is
a number to be told, and not a fault of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING

from converters.export import difference, kept_whole, random_inputs, run_module

if TYPE_CHECKING:
    from torch import nn

    from converters.export import Limit
    from converters.net import Shape


def rounded(module: nn.Module) -> nn.Module:
    """A copy of the module with the weights that a file of 16 bits has; vectors and numbers beyond 65504 stay."""
    import torch

    found = deepcopy(module)
    state = {
        key: tensor if kept_whole(tensor.numpy(force=True), tuple(tensor.shape)) else tensor.half().to(tensor.dtype)
        for key, tensor in found.state_dict().items()
    }
    with torch.no_grad():
        found.load_state_dict(state)
    return found


def lost(
    module: nn.Module,
    half: nn.Module,
    shapes: Sequence[Mapping[str, Shape]],
    *,
    outputs: Sequence[str],
    indices: Mapping[str, Limit],
) -> float:
    """The largest difference that the rounding makes to an output, of its largest magnitude, on seeded noise."""
    worst = 0.0
    for seed, each in enumerate(shapes):
        inputs = random_inputs(each, seed=seed, indices=indices)
        right, found = (run_module(net, inputs, outputs) for net in (module, half))
        worst = max(worst, *(difference(found[name].numpy(), right[name].numpy()) for name in right))
    return worst
