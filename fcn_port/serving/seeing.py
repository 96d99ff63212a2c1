"""A net as a function: images of one size in, what it sees in each of them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from converters.errors import NetError

from ..detection import Detections, detect, finds_objects
from ..nets import Net
from ..predict.classifying import Classification, classify_all
from ..predict.meaning import names_images, outputs_of
from ..predict.segmenting import OfPixels, ReadOptions, read_all
from .records import ServedNet

Sight = Mapping[str, OfPixels] | Classification | Detections
"""The labels or values of an image's pixels by output ("" for the only one), its classes, or its objects."""
ImageLook = Callable[[list[np.ndarray]], list[Sight]]
"""Images (h, w, 3) uint8 RGB of one size to what is seen in each."""

_TRIAL = (64, 64)
"""The size (h, w) of the picture that is tried first where a net takes any."""


def look_through(net: Net, *, least: float = 0.3) -> ImageLook:
    """The function for a net; of objects only scores from `least` on are given."""
    if finds_objects(net):
        return lambda images: [detect(net, image, threshold=least) for image in images]
    outputs = outputs_of(net)
    if names_images(net):
        return lambda images: list(classify_all(net, images, outputs=outputs))
    return lambda images: list(read_all(net, images, ReadOptions(keep_scores=False), outputs=outputs))


def served_net(net: Net, name: str) -> ServedNet:
    """The record of a net that is served under `name`."""
    return ServedNet(name=name, finds=_finds(net), classes=dict(net.classes), engine=net.engine)


def _finds(net: Net) -> str:
    if finds_objects(net):
        return "objects"
    if names_images(net):
        return "classes"
    return "values" if {each.kind for each in outputs_of(net).expected.values()} == {"map"} else "labels"


def try_out(net: Net, look: ImageLook) -> None:
    """Let a net see a grey picture once, so that a net which cannot be served is told before anybody asks.

    NetError where it says nothing of images; ValueError for one that does not say how its input is made.
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
