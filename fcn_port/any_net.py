"""AnyNet: a PyTorch module, which takes tensors, or a NumpyNet, which takes arrays and needs no PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from converters.net import NetSpec
from weights.card import Card

from .carded import Carded

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import TypeIs

    from .fastpath.numpy_net import NumpyNet
    from .nets.net import Net

AnyNet: TypeAlias = "nn.Module | NumpyNet"
LoadedNet: TypeAlias = "Net | NumpyNet"


def takes_arrays(net: object) -> TypeIs[NumpyNet]:
    """True for a NumpyNet."""
    return getattr(net, "takes_arrays", False) is True


def spec_of(net: AnyNet) -> NetSpec:
    """The definition of a net; ValueError for a module of which no layers are known."""
    if takes_arrays(net):
        return net.spec
    from .nets.net import definition

    return definition(net)


def attach(net: AnyNet, card: Card) -> None:
    """Give a net a card, and so what it says: `release`, `preprocessing`, `classes` and `palette`."""
    if not isinstance(net, Carded):
        from converters.execution import CaffeNet

        from .nets.net import CaffeNetWithCard

        if type(net) is CaffeNet:
            net.__class__ = CaffeNetWithCard
    net.card = card
