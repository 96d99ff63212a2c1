"""`detect`: the objects in an image, by any of the nets that find some."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from converters.errors import NetError
from converters.execution import CaffeNet
from converters.net import NetSpec
from weights.records import InputRecipe, Preprocessing

from ..nets import Net, as_net
from ..predict.images import ImageLike, read_image
from ..predict.palettes import voc_palette
from .cascade import from_cascade
from .raw import Raw
from .records import Detection, Detections
from .regions import from_regions, scores_regions
from .rows import from_rows, row_outputs


def detects(spec: NetSpec) -> bool:
    """True for the nets that `detect` takes."""
    return bool(row_outputs(spec)) or scores_regions(spec)


def finds_objects(net: nn.Module) -> bool:
    """True for a net that `detect` takes, whose answers are boxes and no labels of pixels."""
    return isinstance(net, CaffeNet) and detects(net.spec)


def detect(
    net: nn.Module | Sequence[nn.Module],
    image: ImageLike,
    *,
    preprocessing: Preprocessing | None = None,
    threshold: float = 0.0,
    names: Sequence[str] | None = None,
) -> Detections:
    """The objects in a Pillow image, an image file, or an (h, w, 3) uint8 RGB array, in pixels of the image.

    `net` is an SSD, a YOLO, a Faster R-CNN or an R-FCN from `load`, or the three nets of MTCNN. `preprocessing` says
    how its input is made, where the net does not (MTCNN's is known); the image is scaled as the net's project does, and
    `im_info` made where it is asked for. `names` are the classes by number, the background included; by default those
    that come with the net. Only scores from `threshold` on are given. Raises ImageError for an image that cannot be
    read, NetError for a net that finds no objects, ValueError for one that does not say how its input is made.
    """
    pixels = read_image(image)
    if isinstance(net, Sequence):
        nets = [as_net(each) for each in net]
        found = list(from_cascade(nets, pixels))
        known: Sequence[str] = ("background", "face")
        palette = None
    else:
        one = as_net(net)
        found = _found(one, pixels, preprocessing)
        known = next(iter(one.classes.values()), ())
        palette = one.palette
    names = known if names is None else names
    records = [
        Detection(each.label, _name(names, each.label), each.score, _box(each), each.points)
        for each in found
        if each.score >= threshold
    ]
    records.sort(key=lambda each: -each.score)
    return Detections(tuple(records), pixels, voc_palette() if palette is None else palette)


def _found(net: Net, pixels: np.ndarray, preprocessing: Preprocessing | None) -> list[Raw]:
    spec = net.spec
    if not detects(spec):
        raise NetError(
            "this net finds no objects: it has neither a DetectionOutput nor im_info and the blobs rois, cls_prob and "
            "bbox_pred",
            hint="segment takes nets that label pixels; run another one as a module: net(x)",
        )
    recipe = _recipe(preprocessing or net.preprocessing)
    return list((from_rows if row_outputs(spec) else from_regions)(net, pixels, recipe))


def _recipe(preprocessing: Preprocessing | None) -> InputRecipe:
    if preprocessing is None:
        raise ValueError(
            "this net does not say how its input is made; pass preprocessing=, such as that of a release: "
            'weights.release("voc-fcn8s").preprocessing'
        )
    return preprocessing.inputs[0]


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if 0 <= label < len(names) else f"class {label}"


def _box(raw: Raw) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = raw.box
    return xmin, ymin, xmax, ymax
