"""The hand-written nets, filled by the rule of the goldens."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from fcn_port.nets import FCN, NETS, FCNGoogLeNet, Widths
from fcn_port.nets.parts import CropLike
from parity_tests.fill import SCALE_CONSTANTS, fcn_layer_types, fill_blob, input_blob
from parity_tests.goldens import GoldenId, Shape, shapes


def filled_net(id_: GoldenId) -> nn.Module:
    """The net of a recording with the recording's weights, in eval mode. `voc-fcn8s-deploy` is `voc-fcn8s` again."""
    family = NETS[id_.net.removesuffix("-deploy")]
    with torch.device("meta"):
        net = family.make(num_classes=family.num_classes)
    types = fcn_layer_types(list(shapes()[id_.net].params))
    state = {
        f"{layer}.{('weight', 'bias')[i]}": _filled(layer, types[layer], i, shape, _fill_of(types[layer], id_.fill))
        for layer, own in shapes()[id_.net].params.items()
        for i, shape in enumerate(own)
    }
    net.load_state_dict(state, assign=True)
    return net.eval()


def narrow_net(name: str, *, most_classes: int | None = None) -> FCN:
    """A net of the family with few channels (GoogLeNet, which is small, as it is), as `build` would make it.

    `most_classes` is the most of each head, by default what the net has.
    """
    family = NETS[name]
    classes = family.num_classes
    if most_classes is not None:
        few = {head: min(count, most_classes) for head, count in classes.items()} if isinstance(classes, dict) else {}
        classes = few or min(most_classes, classes)
    settings = {} if family.make is FCNGoogLeNet else {"widths": Widths(4, 4, 8, 8, 8, 16, 16)}
    return family.make(num_classes=classes, **settings).eval()


def with_random_weights(net: FCN) -> FCN:
    """The same net; all its weights are drawn with a seed, so that no deconvolution and no scale is at its constant."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in net.parameters():
            spread = (2 / weight[0].numel()) ** 0.5 if weight.ndim == 4 else 0.1
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    return net


def random_inputs(net: FCN, size: tuple[int, int], *, batch: int = 1) -> dict[str, torch.Tensor]:
    """Inputs (batch, c, h, w) with the spread of an image, drawn with a seed, by blob name."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(batch, c, *size, generator=generator) * 50 for name, (_, c, *_) in net.inputs.items()}


def filled_inputs(id_: GoldenId) -> dict[str, torch.Tensor]:
    """The inputs of a recording by blob name."""
    net_inputs = NETS[id_.net.removesuffix("-deploy")].make.channels
    return {name: torch.from_numpy(input_blob(name, (1, c, *id_.size))) for name, c in net_inputs.items()}


def _fill_of(kind: str, fill: str) -> str:
    """The same for all layers but deconvolutions, on which alone the two fills differ: fc6 is made once for both."""
    return fill if kind == "Deconvolution" else "bilinear"


@functools.lru_cache(maxsize=128)
def _filled(layer: str, kind: str, position: int, shape: Shape, fill: str) -> torch.Tensor:
    """One blob, shared by all nets that have it: VGG-16's trunk takes seconds and half a gigabyte."""
    return torch.from_numpy(
        fill_blob(layer, kind, position, shape, deconvolution=fill, constant=SCALE_CONSTANTS.get(layer))
    )


class CentredCrop(CropLike):
    """Crops the middle, as many ports do: right at no recorded size."""

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        h, w = reference.shape[-2:]
        return x.narrow(-2, (x.shape[-2] - h) // 2, h).narrow(-1, (x.shape[-1] - w) // 2, w)
