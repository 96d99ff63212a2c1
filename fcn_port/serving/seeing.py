"""A net as a function: images of one size in, what it sees in each of them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from converters.errors import NetError

from ..detection import Detections, detect_all, finds_objects, refuse_unfinished
from ..detection.rows import run_heads, tells_images
from ..nets import Net
from ..predict.classifying import Classification, classify_all
from ..predict.meaning import names_images, outputs_of
from ..predict.running import kind_of, recipe_of, run_net
from ..predict.segmenting import OfPixels, ReadOptions, read_all
from .records import ServedNet

Sight = Mapping[str, OfPixels] | Classification | Detections
"""The labels or values of an image's pixels by output ("" for the only one), its classes, or its objects."""
ImageLook = Callable[[list[np.ndarray]], list[Sight]]
"""Images (h, w, 3) uint8 RGB, or of as many channels as the net takes, of one size to what is seen in each."""

_TRIAL = (64, 64)
"""The size (h, w) of the picture that is tried first where a net takes any."""
_ROUNDING = 0.03
"""Of the largest value: far more than numbers of few bits differ by in a batch, and less than what mixed images do."""


def look_through(net: Net, *, least: float = 0.3) -> ImageLook:
    """The function for a net; of objects only scores from `least` on are given."""
    if finds_objects(net):
        return lambda images: list(detect_all(net, images, threshold=least))
    refuse_unfinished(net)
    outputs = outputs_of(net)
    if names_images(net):
        return lambda images: list(classify_all(net, images, outputs=outputs))
    return lambda images: list(read_all(net, images, ReadOptions(keep_scores=False), outputs=outputs))


def keeps_apart(net: Net, size: tuple[int, int]) -> bool:
    """True where two pictures of a size that the net takes give together what each gives alone.

    Not so with a BatchNorm on its batch's own statistics, a Reshape to one image, or YOLO's heads: there what one
    person sees would depend on the images of others.
    """
    recipe = recipe_of(net, None)
    objects = finds_objects(net)
    if objects and not tells_images(net.spec):
        return False
    noise = np.random.default_rng(0).integers(0, 256, (2, *size, _channels(net)), np.uint8)
    pictures = [noise[0], noise[1] // 4]
    run = run_heads if objects else run_net
    try:
        together, alone = run(net, pictures, recipe), [run(net, [each], recipe) for each in pictures]
    except (NetError, ValueError, RuntimeError):
        return False
    return all(
        len(values) == 2 and _near(values, torch.cat([each[name] for each in alone]))
        for name, values in together.items()
    )


def _channels(net: Net) -> int:
    """The channels of the pictures that a net is given."""
    return len(net.preprocessing.inputs[0].mean) if net.preprocessing and kind_of(net) == "bands" else 3


def _near(one: torch.Tensor, other: torch.Tensor) -> bool:
    """True but for rounding."""
    if one.shape != other.shape:
        return False
    a, b = one.double(), other.double()
    return bool(torch.allclose(a, b, rtol=0, atol=_ROUNDING * max(1e-30, float(b.abs().max())), equal_nan=True))


def served_net(net: Net, name: str) -> ServedNet:
    """The record of a net that is served under `name`."""
    return ServedNet(
        name=name, finds=_finds(net), classes=dict(net.classes), engine=net.engine, kind=kind_of(net),
        outputs=tuple(net.outputs),
    )  # fmt: skip


def _finds(net: Net) -> str:
    if finds_objects(net):
        return "objects"
    if names_images(net):
        return "classes"
    return "values" if {each.kind for each in outputs_of(net).expected.values()} == {"map"} else "labels"


def try_out(net: Net, look: ImageLook) -> tuple[int, int]:
    """Let a net see a grey picture once, so that a net which cannot be served is told before anybody asks.

    The size (h, w) of what the net itself took. NetError where it says nothing of images; ValueError for one that does
    not say how its input is made.
    """
    own = next(((shape[2], shape[3]) for shape in net.inputs.values() if len(shape) == 4), _TRIAL)
    problems = []
    for h, w in (_TRIAL, own):
        try:
            look([np.full((h, w, _channels(net)), 128, np.uint8)])
        except NetError as error:
            problems.append(error)
            continue
        return own if finds_objects(net) or names_images(net) else (h, w)
    raise problems[-1]
