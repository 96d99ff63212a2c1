"""`see`: whatever a net says of an image, each output as the record of what it is."""

from __future__ import annotations

from converters.cancelling import ProgressCallback
from weights.records import Preprocessing

from ..any_net import AnyNet
from ..detection import Detections, detect, finds_objects, refuse_unfinished
from .classifying import Classification, classify
from .images import ImageLike, read_image
from .meaning import names_images, outputs_of
from .running import preprocessing_of
from .segmentation import Segmentation
from .segmenting import ReadOptions, read_all
from .value_map import ValueMap

Seeing = Segmentation | ValueMap | Classification | Detections


def see(
    net: AnyNet,
    image: ImageLike,
    *,
    preprocessing: Preprocessing | None = None,
    threshold: float | None = None,
    tile: int | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, Seeing]:
    """The answer of a net for an image, by output blob; "" for the only one of a net that labels pixels or any other.

    A net that labels pixels gives a Segmentation, one with a map of values a ValueMap, one that names images a
    Classification, one that finds objects Detections. `threshold` is that of `segment`, or the least score of an
    object; `tile` and `progress` are those of `segment`. Raises what `segment`, `classify` and `detect` raise.
    """
    recipe = preprocessing_of(net, preprocessing)
    pixels = read_image(image, kind="color" if recipe is None else recipe.inputs[0].image)
    if finds_objects(net):
        return {"": detect(net, pixels, preprocessing=preprocessing, threshold=threshold or 0.0)}  # type: ignore[arg-type]
    refuse_unfinished(net)
    outputs = outputs_of(net)
    if names_images(net):
        return {"": classify(net, pixels, preprocessing=preprocessing, outputs=outputs)}
    options = ReadOptions(tile=tile, threshold=threshold)
    (found,) = read_all(net, [pixels], options, preprocessing=preprocessing, outputs=outputs, progress=progress)
    return dict(found)
