"""A net as a function: images of one size in, what it sees in each of them out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from converters.errors import NetError

from ..detection import Detections, detect, finds_objects
from ..nets import Net
from ..predict import Segmentation, segment_all
from .records import ServedNet

Sight = Segmentation | dict[str, Segmentation] | Detections
"""The labels of an image's pixels, those of a net with several outputs by output, or the objects."""
ImageLook = Callable[[list[np.ndarray]], list[Sight]]
"""Images (h, w, 3) uint8 RGB of one size to what is seen in each."""

_TRIAL = (64, 64)
"""The size (h, w) of the picture that is tried first where a net takes any."""


def look_through(net: Net, *, least: float = 0.3) -> ImageLook:
    """The function for a net; of objects only scores from `least` on are given."""
    if finds_objects(net):
        return lambda images: [detect(net, image, threshold=least) for image in images]
    return lambda images: list(segment_all(net, images, keep_scores=False))


def served_net(net: Net, name: str) -> ServedNet:
    """The record of a net that is served under `name`."""
    kind = "objects" if finds_objects(net) else "labels"
    return ServedNet(name=name, finds=kind, classes=dict(net.classes), engine=net.engine)


def try_out(net: Net, look: ImageLook) -> None:
    """Let a net see a grey picture once, so that a net which cannot be served is told before anybody asks.

    NetError where it labels no pixels and finds no objects; ValueError for one that does not say how its input is made.
    """
    own = next((shape[2:] for shape in net.inputs.values() if len(shape) == 4), _TRIAL)
    problems = []
    for h, w in (_TRIAL, own):
        try:
            look([np.full((h, w, 3), 128, np.uint8)])
        except NetError as error:
            problems.append(error)
            continue
        return
    raise problems[-1]
