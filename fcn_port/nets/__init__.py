"""The FCN nets of the releases, written out by hand: every module under its Caffe layer name.

`build` makes one by name. `fcn32s.py`, `fcn16s.py` and `fcn8s.py` are meant to be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import torch

from converters.net import Shape

from .fcn8s import FCN8s
from .fcn16s import FCN16s
from .fcn32s import FCN32s
from .parts import FCN
from .vgg16 import VGG16, Widths

__all__ = ["NETS", "VGG16", "FCN8s", "FCN16s", "FCN32s", "Family", "Widths", "build", "recognise"]


@dataclass(frozen=True)
class Family:
    """How to make the net of a release: its class and how many classes it scores."""

    make: type[FCN]
    num_classes: int


NETS: Mapping[str, Family] = {
    "voc-fcn32s": Family(FCN32s, 21),
    "voc-fcn16s": Family(FCN16s, 21),
    "voc-fcn8s": Family(FCN8s, 21),
    "pascalcontext-fcn32s": Family(FCN32s, 60),
    "pascalcontext-fcn16s": Family(FCN16s, 60),
    "pascalcontext-fcn8s": Family(FCN8s, 60),
    "nyud-fcn32s-color": Family(FCN32s, 40),
    "nyud-fcn32s-hha": Family(FCN32s, 40),
}


def build(name: str, num_classes: int | None = None) -> FCN:
    """The net called `name`, in eval mode, no file read; `num_classes` replaces the release's own.

    Deconvolutions are bilinear; all other weights are PyTorch's initial ones. Raises ValueError for an unknown name.
    """
    family = NETS.get(name)
    if family is None:
        close = get_close_matches(name, NETS, n=3, cutoff=0.5)
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"there is no net '{name}'{meant} Known: {', '.join(NETS)}")
    return family.make(num_classes=family.num_classes if num_classes is None else num_classes).eval()


def recognise(shapes: Mapping[str, Shape]) -> FCN | None:
    """The hand-written net whose state dict has exactly these keys and shapes, on the meta device; None if none has.

    The number of classes and the widths are read off the shapes.
    """
    classes = {family.make for family in NETS.values()}
    with torch.device("meta"):
        for net_class in classes:
            try:
                net = net_class.of_shapes(shapes)
            except KeyError:
                continue
            if {key: tuple(value.shape) for key, value in net.state_dict().items()} == dict(shapes):
                return net.eval()
    return None
