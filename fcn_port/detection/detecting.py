"""`detect`: the objects in an image, by any of the nets that find some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from converters.lazy import import_or_say
from converters.net import NetSpec
from weights.records import Preprocessing

from ..any_net import AnyNet
from ..predict.classifying import class_name
from ..predict.images import ImageLike, read_image, rgb_of
from ..predict.palettes import voc_palette
from ..predict.running import known_preprocessing
from .heads import head_of, refusal, runs_a_definition
from .raw import Raw
from .records import Detection, Detections
from .rows import from_rows, row_outputs, tells_images

if TYPE_CHECKING:
    from torch import nn

    from ..nets import Net


def detects(spec: NetSpec) -> bool:
    """True for the nets that `detect` takes."""
    return bool(row_outputs(spec)) or head_of(spec) is not None


def finds_objects(net: AnyNet) -> bool:
    """True for a net that `detect` takes, whose answers are boxes and no labels of pixels."""
    return runs_a_definition(net) and detects(net.spec)


def detect(
    net: nn.Module | Sequence[nn.Module],
    image: ImageLike,
    *,
    preprocessing: Preprocessing | None = None,
    threshold: float = 0.0,
    names: Sequence[str] | None = None,
) -> Detections:
    """The objects in a Pillow image, an image file, or an (h, w, 3) uint8 RGB array, in pixels of the image.

    `net` is from `load`, an SSD, a YOLO (`with_anchors` where it ends before its boxes), a Faster R-CNN, an R-FCN, a
    Cascade R-CNN, an MS-CNN, an SSH or a CTPN, or the three nets of MTCNN. `preprocessing` says how its input is made,
    where the net does not (MTCNN's is known); the image is scaled as the net's project does, and `im_info` made where
    it is asked for. `names` are the classes by number, the background included; by default those that come with the
    net. Only scores from `threshold` on are given. Raises FileNotFoundError, ImageError for an image that cannot be
    read, NetError for a net that finds no objects, ValueError for one that does not say how its input is made.
    """
    if not isinstance(net, Sequence) or isinstance(net, str):
        return detect_all(net, [image], preprocessing=preprocessing, threshold=threshold, names=names)[0]
    as_net = import_or_say("fcn_port.nets.net", "finding objects").as_net
    from .cascade import from_cascade

    pixels = read_image(image)
    found = from_cascade([as_net(each) for each in net], pixels)
    return _detections(found, pixels, threshold, ("background", "face") if names is None else names, None)


def detect_all(
    net: nn.Module,
    images: Sequence[ImageLike],
    *,
    preprocessing: Preprocessing | None = None,
    threshold: float = 0.0,
    names: Sequence[str] | None = None,
) -> list[Detections]:
    """The objects in several images of any sizes, in one pass where the net's rows say which is whose; see `detect`."""
    one: Net = import_or_say("fcn_port.nets.net", "finding objects").as_net(net)
    spec = one.spec
    head = head_of(spec)
    if not row_outputs(spec) and head is None:
        raise refusal(spec)
    recipe = known_preprocessing(one, preprocessing).inputs[0]
    pixels = [read_image(image, kind="grey" if recipe.image == "grey" else "color") for image in images]
    if head is not None and not row_outputs(spec):
        found = [list(head.find(one, each, recipe)) for each in pixels]
    elif tells_images(spec) and pixels:
        found = from_rows(one, pixels, recipe)
    else:
        found = [from_rows(one, [each], recipe)[0] for each in pixels]
    usual = () if head is None else head.names
    known = next(iter(one.classes.values()), usual) if names is None else names
    return [
        _detections(each, rgb_of(image), threshold, known, one.palette)
        for each, image in zip(found, pixels, strict=True)
    ]


def _detections(
    found: Iterable[Raw], pixels: np.ndarray, threshold: float, names: Sequence[str], palette: np.ndarray | None
) -> Detections:
    records = [
        Detection(each.label, class_name(names, each.label), each.score, _box(each), each.points)
        for each in found
        if each.score >= threshold
    ]
    records.sort(key=lambda each: -each.score)
    return Detections(tuple(records), pixels, voc_palette() if palette is None else palette)


def _box(raw: Raw) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = raw.box
    return xmin, ymin, xmax, ymax
