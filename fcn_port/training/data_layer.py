"""The settings of Caffe's data layers, and images as a layer makes them: at ImageData's size, less a mean image.

Sources: image_data_layer.cpp and io.cpp (ReadImageToCVMat) of BVLC Caffe, data_transformer.cpp (Transform), and
dense_image_data_layer.cpp of SegNet's Caffe, whose label maps are resized with the images, by the nearest pixel.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from converters.net import LayerSpec, NetSpec
from weights.records import InputRecipe, Preprocessing

from ..data.errors import DataError
from ..data.inputs import net_inputs
from ..data.records import DataSet, Sample
from ..predict.images import grey_of
from ..predict.resizing import resize
from .choices import Order

_log = logging.getLogger(__name__)
_SETTINGS = ("data_param", "image_data_param", "memory_data_param", "hdf5_data_param", "window_data_param")
TRANSFORMING = ("Data", "ImageData", "DenseImageData", "HDF5Data", "MemoryData")
"""The types of Caffe's whose images are what transform_param says, or as they are."""
_told: set[tuple[int, ...]] = set()
"""Sizes of mean images that were told of."""


def data_layers(spec: NetSpec) -> Iterator[LayerSpec]:
    """The layers of a net that make blobs of no others."""
    return (layer for layer in spec.layers if not layer.bottoms and layer.tops)


def setting(layer: LayerSpec, name: str) -> Any:
    """A field of a data layer's own parameters, also of a fork's (dense_image_data_param); None if it is not said.

    A word of a fork's text is a str: `is_on` reads true and false.
    """
    for message in _SETTINGS:
        if layer.message.HasField(message):
            found = getattr(layer.message, message)
            if name in found.DESCRIPTOR.fields_by_name and found.HasField(name):
                return getattr(found, name)
    for extra in layer.extra:
        if extra.name.endswith("_param") and isinstance(extra.value, tuple) and name in extra.children():
            return extra.children()[name][-1]
        if extra.name.endswith(f"_param.{name}"):
            return extra.value
    return None


def is_on(value: Any) -> bool:
    """True for a setting that is true, as a text or a file has it."""
    return str(value).lower() in ("true", "t", "1")


def batch_size_of(net: NetSpec) -> int:
    """The images that the data layer of a net to train gives at once; 1 where it does not say, as the release's."""
    for layer in data_layers(net):
        if (found := setting(layer, "batch_size")) is not None:
            return max(1, int(found))
        if layer.type == "Input" and layer.message.input_param.shape and layer.message.input_param.shape[0].dim:
            return max(1, int(layer.message.input_param.shape[0].dim[0]))
    return 1


def order_of(net: NetSpec) -> Order:
    """The order in which a net's data layer gives images: that of their list, with `shuffle` another one each time.

    A Python layer's is the release's, with replacement, which also stands for layers that do not say.
    """
    for layer in data_layers(net):
        if layer.type in TRANSFORMING:
            return "shuffled" if is_on(setting(layer, "shuffle")) else "listed"
    return "replacement"


def image_size_of(layer: LayerSpec) -> tuple[int, int] | None:
    """(new_height, new_width) of an ImageData layer or a fork's; None where they are not said."""
    h, w = (int(setting(layer, name) or 0) for name in ("new_height", "new_width"))
    return (h, w) if min(h, w) > 0 else None


@dataclass(frozen=True, eq=False)
class LayerReading:
    """The part of a data layer that is not an `InputRecipe`: `size` (h, w) of images, and means of each pixel.

    `means` (channels, h, w) by input are subtracted from images of that size, before they are cut; from others, where
    Caffe would stop, the mean of each channel is, which is told.
    """

    size: tuple[int, int] | None = None
    means: Mapping[str, Tensor] = field(default_factory=dict)

    def blobs(
        self, data: DataSet, sample: Sample, preprocessing: Preprocessing
    ) -> tuple[dict[str, Tensor], Mapping[str, np.ndarray]]:
        """The inputs (c, h, w) float32 of a sample by name, and its labels (h, w) by output."""
        blobs = {}
        for each in preprocessing.inputs:
            image = self._sized(data, sample, each)
            mean = self.means.get(each.name)
            own = Sample(sample.id, {each.image: image}, {})
            if mean is not None and self._fits(mean, image):
                raw = replace(each, mean=(0.0,) * len(each.mean), scale=1.0)
                blobs[each.name] = (_blob(data, own, raw) - mean) * each.scale
            else:
                blobs[each.name] = _blob(data, own, each)
        if self.size is None:
            return blobs, sample.labels
        return blobs, {head: _nearest(labels, self.size) for head, labels in sample.labels.items()}

    def _sized(self, data: DataSet, sample: Sample, recipe: InputRecipe) -> np.ndarray:
        """The image of an input at the layer's size, as cv2.resize makes it; a grey one is grey before that."""
        image = sample.images[recipe.image]
        if self.size is None or image.shape[:2] == self.size:
            return image
        if image.dtype != np.uint8:
            problem = f"values of {image.dtype} at new_height and new_width; expected bytes"
            raise DataError(problem, path=data.shown(sample.id, kind=recipe.image))
        if recipe.image == "grey":
            image = grey_of(image)
        return resize(image, self.size)

    def _fits(self, mean: Tensor, image: np.ndarray) -> bool:
        sizes = (*mean.shape[1:], *image.shape[:2])
        if sizes[:2] == sizes[2:]:
            return True
        if sizes not in _told:
            _told.add(sizes)
            _log.warning(
                "the mean_file is of %dx%d and an image of %dx%d: where they differ, the mean of each channel is "
                "subtracted; Caffe would stop", *sizes,
            )  # fmt: skip
        return False


def _blob(data: DataSet, sample: Sample, recipe: InputRecipe) -> Tensor:
    return net_inputs(data, sample, Preprocessing((recipe,)))[recipe.name][0]


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels (h, w) at a size, as cv2.INTER_NEAREST has them: pixel i is that at floor(i / (size / h)), in doubles."""
    rows, columns = (
        np.minimum(np.arange(new) * (1 / (new / old)), old - 1).astype(np.int64)
        for old, new in zip(labels.shape, size, strict=True)
    )
    return np.ascontiguousarray(labels[rows[:, None], columns])


def mean_tensor(image: np.ndarray | None) -> Tensor | None:
    """A mean image (1, c, h, w) or (c, h, w) as (c, h, w) float32; None for none, and for one of a single pixel."""
    if image is None or image.ndim < 3 or image.shape[-2:] == (1, 1):
        return None
    return torch.from_numpy(np.array(image, np.float32).reshape(-1, *image.shape[-2:]))
