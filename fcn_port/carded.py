"""Carded: what every net says of its weights and its images, whether it takes tensors or arrays."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from converters.given import found_in_words

from .predict.palettes import palette

if TYPE_CHECKING:
    from weights.card import Card
    from weights.records import Preprocessing


class Carded:
    """A net with a `card`, which says all that is known beside its weights; the properties are read off it."""

    if TYPE_CHECKING:
        card: Card

    @property
    def release(self) -> str | None:
        """The release that the weights are of."""
        return self.card.release

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The way in which the inputs are made of images."""
        return self.card.preprocessing

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the classes by output blob, {} if they are not known."""
        return self.card.classes

    @property
    def palette(self) -> np.ndarray | None:
        """The colours of the classes, (256, 3) uint8 RGB."""
        return palette(self.card.palette)


def refuse_no_net(net: object) -> None:
    """ValueError for what is no net at all, such as the name of one."""
    torch = sys.modules.get("torch")  # where nobody has imported it, nothing can be a module of its
    if not isinstance(net, Carded) and (torch is None or not isinstance(net, torch.nn.Module)):
        how = "fcn_port.load, fcn_port.build and converters.CaffeNet make such, without PyTorch fcn_port.numpy_net"
        raise ValueError(f"expected a net; found {found_in_words(net)}; {how}")


def refuse_no_module(net: object) -> None:
    """ValueError for what is no net of PyTorch, such as one that is run on arrays."""
    refuse_no_net(net)
    if getattr(net, "takes_arrays", False):
        raise ValueError("expected a net of PyTorch, as fcn_port.load gives it of the same file; found a NumpyNet")
