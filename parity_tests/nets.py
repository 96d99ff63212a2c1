"""The hand-written nets, filled by the rule of the goldens."""

from __future__ import annotations

import functools

import torch
from torch import nn

from fcn_port.nets import NETS
from parity_tests.fill import fcn_layer_types, fill_blob, input_blob
from parity_tests.goldens import GoldenId, Shape, shapes


def filled_net(id_: GoldenId) -> nn.Module:
    """The net of a recording with the recording's weights, in eval mode. `voc-fcn8s-deploy` is `voc-fcn8s` again."""
    family = NETS[id_.net.removesuffix("-deploy")]
    with torch.device("meta"):
        net = family.make(num_classes=family.num_classes)
    types = fcn_layer_types(list(shapes()[id_.net].params))
    state = {
        f"{layer}.{('weight', 'bias')[i]}": _filled(layer, types[layer], i, shape, id_.fill)
        for layer, own in shapes()[id_.net].params.items()
        for i, shape in enumerate(own)
    }
    net.load_state_dict(state, assign=True)
    return net.eval()


def filled_inputs(id_: GoldenId) -> dict[str, torch.Tensor]:
    """The inputs of a recording by blob name."""
    net_inputs = NETS[id_.net.removesuffix("-deploy")].make.inputs
    return {name: torch.from_numpy(input_blob(name, (1, c, *id_.size))) for name, c in net_inputs.items()}


@functools.lru_cache(maxsize=64)
def _filled(layer: str, kind: str, position: int, shape: Shape, fill: str) -> torch.Tensor:
    """One blob, shared by all nets that have it: VGG-16's trunk takes seconds and half a gigabyte."""
    return torch.from_numpy(fill_blob(layer, kind, position, shape, deconvolution=fill))
