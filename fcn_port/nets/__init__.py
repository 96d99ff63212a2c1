"""The FCN nets of the releases, written out by hand: every module under its Caffe layer name.

`build` makes one by the name of its release. The files are meant to be read: begin with `fcn32s.py`, `fcn16s.py` and
`fcn8s.py`. `upsampling.py` has the other ways to upsample that the paper weighs.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from numbers import Integral
from typing import TYPE_CHECKING, Literal, overload

import torch

from converters.given import refuse_other_than
from converters.lazy import lazy_attributes
from converters.net import Shape

from .alexnet import FCNAlexNet
from .architectures import ARCHITECTURES, Family, NumClasses
from .fcn import DEPLOY_SIZE, FCN
from .fcn8s import FCN8s
from .fcn8s_atonce import FCN8sAtOnce
from .fcn16s import FCN16s
from .fcn32s import FCN32s
from .googlenet import FCNGoogLeNet
from .net import Net, as_net, definition
from .nyud import FCN32sColorDepth, FCN32sColorHHA
from .siftflow import SiftFlow, SiftFlowFCN8s, SiftFlowFCN16s, SiftFlowFCN32s
from .upsampling import with_upsampling
from .vgg16 import VGG16, Widths

if TYPE_CHECKING:
    from .published import NETS

__all__ = [
    "ARCHITECTURES",
    "DEPLOY_SIZE",
    "FCN",
    "NETS",
    "VGG16",
    "FCN8s",
    "FCN8sAtOnce",
    "FCN16s",
    "FCN32s",
    "FCN32sColorDepth",
    "FCN32sColorHHA",
    "FCNAlexNet",
    "FCNGoogLeNet",
    "Family",
    "Net",
    "NumClasses",
    "SiftFlow",
    "SiftFlowFCN8s",
    "SiftFlowFCN16s",
    "SiftFlowFCN32s",
    "SiftFlowName",
    "Widths",
    "as_net",
    "build",
    "definition",
    "recognise",
    "with_upsampling",
]

SiftFlowName = Literal["siftflow-fcn32s", "siftflow-fcn16s", "siftflow-fcn8s"]
"""The nets with two outputs, for type checkers."""

# The catalogue, from which it comes, takes a while to read, and most nets are made without it.
__getattr__, __dir__ = lazy_attributes(__name__, {"NETS": "published"})


@overload
def build(name: SiftFlowName, num_classes: Mapping[str, int] | None = ...) -> SiftFlow: ...
@overload
def build(name: str, num_classes: NumClasses | None = ...) -> FCN: ...
def build(name: str, num_classes: NumClasses | None = None) -> FCN:
    """The net called `name`, in eval mode, no file read; `num_classes` replaces the release's own.

    `num_classes` is a number, for the SIFT Flow nets one for each head: {"sem": 33, "geo": 3}. Deconvolutions are
    bilinear, skip scales at their constants; all other weights are PyTorch's initial ones. Raises ValueError for an
    unknown name, and for classes that are not the net's.
    """
    from .published import NETS

    refuse_other_than(str, name, "the name of a net, such as 'voc-fcn8s'")
    family = NETS.get(name)
    if family is None:
        close = get_close_matches(name, NETS, n=3, cutoff=0.5)
        meant = f"; did you mean {' or '.join(close)}? Known:" if close else "; known:"
        raise ValueError(f"there is no net '{name}'{meant} {', '.join(NETS)}")
    wanted = family.num_classes if num_classes is None else num_classes
    return family.make(num_classes=_classes(name, wanted, family.num_classes)).eval()


def _is_count(count: object) -> bool:
    """True for a whole number above 0, NumPy's too; True is none."""
    return isinstance(count, Integral) and not isinstance(count, bool) and int(count) > 0


def _classes(name: str, wanted: NumClasses, own: NumClasses) -> NumClasses:
    """The numbers `wanted` as ints, which have the form of `own` and are at least 1; ValueError for others."""
    heads = wanted if isinstance(wanted, Mapping) else {"": wanted}
    same_form = heads.keys() == (own.keys() if isinstance(own, Mapping) else {""})
    if not same_form or not all(_is_count(count) for count in heads.values()):
        raise ValueError(f"num_classes of '{name}': expected such as {own}, found {wanted!r}")
    return {head: int(count) for head, count in wanted.items()} if isinstance(wanted, Mapping) else int(wanted)


def recognise(shapes: Mapping[str, Shape]) -> FCN | None:
    """The hand-written net whose state dict has exactly these keys and shapes, on the meta device; None if none has.

    The number of classes and the widths are read off the shapes.
    """
    with torch.device("meta"):
        for net_class in ARCHITECTURES.values():
            try:
                net = net_class.of_shapes(shapes)
            except (KeyError, IndexError, RuntimeError, ValueError):  # no such layer; axes or sizes that no layer has
                continue
            if {key: tuple(value.shape) for key, value in net.state_dict().items()} == dict(shapes):
                return net.eval()
    return None
