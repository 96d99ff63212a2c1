"""Caffe's transform_param, by which a net's data layer makes its input (data_transformer.cpp)."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor
from torch.nn.functional import interpolate, pad

from converters.formats import read_mean
from converters.net import LayerSpec, NetSpec
from converters.safety import path_text
from weights.records import InputRecipe

from ..data.description import mean_of_file
from .data_layer import TRANSFORMING, LayerReading, data_layers, image_size_of, mean_tensor, setting
from .errors import TrainingError
from .task import in_training


@dataclass(frozen=True)
class Transform:
    """The settings of a data layer: means of its channels (() for none), factor, side of a crop (0: none), mirror.

    `mean_image` (channels, h, w) is what a mean_file holds, `size` (h, w) what ImageData resizes images to.
    """

    mean: tuple[float, ...] = ()
    scale: float = 1.0
    crop: int = 0
    mirror: bool = False
    mean_image: Tensor | None = field(default=None, compare=False)
    size: tuple[int, int] | None = None

    def recipe(self, recipe: InputRecipe) -> InputRecipe:
        """The way to make an input as the layer does: (value - mean) * scale, BGR, without a mean where none is said.

        TrainingError where the means are neither one nor one for each channel.
        """
        channels = len(recipe.mean)
        mean = self.mean or (0.0,)
        if len(mean) not in (1, channels):
            raise TrainingError(f"transform_param: {len(mean)} means for an input of {channels} channels")
        order = "bgr" if channels == 3 else recipe.channels
        return replace(recipe, mean=mean * channels if len(mean) == 1 else mean, scale=self.scale, channels=order)


def transforms_of(spec: NetSpec) -> Mapping[str, Transform]:
    """The transforms of a net to train, by the first top of each data layer that has or is meant to have one.

    Data and ImageData without a transform_param give their images as they are, as in Caffe; of a Python layer the means
    are its own code's, and of Input nobody says any: those of the data set stand in.
    A `mean_file` is looked for where Caffe does, from the working directory, and beside the prototxt. TrainingError
    where it is missing.
    """
    return transforms_in(in_training(spec))


def transforms_in(spec: NetSpec) -> Mapping[str, Transform]:
    """The transforms of a net that is of one phase already, as `transforms_of` says."""
    return {
        layer.tops[0]: _transform(layer, spec)
        for layer in data_layers(spec)
        if layer.message.HasField("transform_param") or layer.type in TRANSFORMING
    }


def _transform(layer: LayerSpec, spec: NetSpec) -> Transform:
    param = layer.message.transform_param
    if layer.type == "HDF5Data" and layer.message.HasField("transform_param"):  # hdf5_data_layer.cpp, LayerSetUp
        raise TrainingError(f"layer '{layer.name}': HDF5Data transforms nothing, and Caffe stops at a transform_param")
    for extra in layer.extra:
        if extra.name.startswith("transform_param."):
            raise TrainingError(
                f"layer '{layer.name}': field '{extra.name[:80]}' is unknown to BVLC Caffe, and varies no images here\n"
                "  is its name mistyped? Else take it out; --mirror, --crop and --scales vary images"
            )
    for one, other in (("mean_value", "mean_file"), ("force_color", "force_gray")):
        if getattr(param, one) and getattr(param, other):
            raise TrainingError(f"layer '{layer.name}': {one} and {other}, of which Caffe takes only one")
    sides = [bool(setting(layer, name)) for name in ("new_height", "new_width")]
    if any(sides) and not all(sides):
        raise TrainingError(f"layer '{layer.name}': new_height and new_width; Caffe takes both or none")
    mean, image = tuple(float(value) for value in param.mean_value), None
    if param.mean_file:
        path = _mean_file(path_text(param.mean_file), spec, layer.name)
        mean, image = mean_of_file(path), mean_tensor(read_mean(path))
    return Transform(mean, float(param.scale), int(param.crop_size), bool(param.mirror), image, image_size_of(layer))


def reading_of(transforms: Mapping[str, Transform], inputs: Collection[str]) -> LayerReading:
    """The part of the transforms of these inputs that is not in their recipes.

    TrainingError where the layer of other blobs, which are labels, changes them.
    """
    own = {name: each for name, each in transforms.items() if name in inputs}
    size = next((each.size for each in own.values() if each.size), None)
    for name, each in transforms.items():
        if name in own:
            continue
        if each.mean or each.scale != 1:
            raise TrainingError(f"transform_param of '{name}': less a mean or times a scale, its labels are no classes")
        if each.size not in (None, size):
            raise TrainingError(f"new_height and new_width of '{name}', whose labels are not of the images' size then")
    means = {name: each.mean_image for name, each in own.items() if each.mean_image is not None}
    return LayerReading(size, means)


@dataclass(frozen=True)
class Variation:
    """The chance in each image: the side of a cut (0: none), whether half are mirrored, the range of its factor.

    Before that each image is brought to `size` (h, w), where one is given.
    """

    crop: int = 0
    mirror: bool = False
    scales: tuple[float, float] = (1.0, 1.0)
    size: tuple[int, int] | None = None


def variation_in(transforms: Mapping[str, Transform], inputs: Collection[str]) -> Variation:
    """The crop and the mirror that the layers of these inputs say, by which labels are cut and mirrored with them.

    TrainingError where data layers do not agree: each of Caffe's draws for itself (data_transformer.cpp).
    """
    own = {name: (each.crop, each.mirror) for name, each in transforms.items() if name in inputs}
    crop, mirror = next(iter(own.values()), (0, False))
    for name, each in transforms.items():
        said = each.crop, each.mirror
        if said != (crop, mirror) and (name in own or said != (0, False)):
            raise TrainingError(
                f"transform_param of '{name}': crop_size {said[0]} and mirror {said[1]}; another data layer has "
                f"{crop} and {mirror}\n  images and labels are cut and mirrored alike here: say the same in each"
            )
    return Variation(crop, mirror)


def varied(
    blobs: Mapping[str, Tensor],
    variation: Variation,
    *,
    labels: Collection[str] = (),
    fill: Callable[[str], int] = lambda name: 0,
    seed: int,
    position: int,
) -> dict[str, Tensor]:
    """The blobs (..., h, w) of one image scaled and mirrored by chance and cut to crop x crop somewhere, all alike.

    What is drawn depends on `seed` and `position` alone, in Caffe's order: mirror, row, column (data_transformer.cpp);
    the factor of the size, which Caffe does not have, comes before. It is drawn so that halving is as likely as
    doubling. Inputs are scaled bilinearly, `labels` by the nearest pixel. An image smaller than the crop is filled up
    with `fill` of each blob, on the right and below, as DeepLab's fork does; Caffe would stop.
    """
    draw = random.Random(f"{seed}:{position}")
    if variation.size is not None:
        blobs = {name: _resized(blob, variation.size, nearest=name in labels) for name, blob in blobs.items()}
    low, high = variation.scales
    if low != high:
        factor = low * (high / low) ** draw.random()
        blobs = {name: _scaled(blob, factor, nearest=name in labels) for name, blob in blobs.items()}
    elif low != 1:
        blobs = {name: _scaled(blob, low, nearest=name in labels) for name, blob in blobs.items()}
    flipped = variation.mirror and draw.random() < 0.5
    crop = variation.crop
    shape = next(iter(blobs.values())).shape
    h, w = max(shape[-2], crop), max(shape[-1], crop)
    top, left = (draw.randrange(size - crop + 1) if crop else 0 for size in (h, w))
    found = {}
    for name, blob in blobs.items():
        right, below = w - blob.shape[-1], h - blob.shape[-2]
        whole = pad(blob, (0, right, 0, below), value=fill(name)) if right or below else blob
        cut = whole[..., top : top + crop, left : left + crop] if crop else whole
        found[name] = cut.flip(-1) if flipped else cut
    return found


def _scaled(blob: Tensor, factor: float, *, nearest: bool) -> Tensor:
    """A blob (..., h, w) at another size, of at least 1x1."""
    h, w = (max(1, round(size * factor)) for size in blob.shape[-2:])
    return _resized(blob, (h, w), nearest=nearest)


def _resized(blob: Tensor, size: tuple[int, int], *, nearest: bool) -> Tensor:
    """A blob (..., h, w) at a size: labels by the nearest pixel, others bilinearly, smoothed where it is less."""
    h, w = size
    planes = blob.reshape(1, -1, *blob.shape[-2:])
    if nearest:
        made = interpolate(planes.double(), (h, w), mode="nearest-exact").to(blob.dtype)
    else:
        made = interpolate(planes, (h, w), mode="bilinear", antialias=h < blob.shape[-2] or w < blob.shape[-1])
    return made.reshape(*blob.shape[:-2], h, w)


def _mean_file(name: str, spec: NetSpec, layer: str) -> Path:
    beside = Path(spec.path).parent if spec.path else Path()
    for place in (Path(name), beside / name, beside / Path(name).name):
        if place.is_file():
            return place
    raise TrainingError(f"layer '{layer}': transform_param.mean_file '{name}' is not there, nor beside the prototxt")
