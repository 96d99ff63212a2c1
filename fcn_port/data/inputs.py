"""From a sample to the input blobs of a net."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from converters.net import Shape
from weights.records import InputRecipe, Preprocessing

from ..errors import ImageError
from ..predict.images import to_input
from .errors import DataError
from .records import DataSet, Sample

if TYPE_CHECKING:
    from torch import Tensor


def net_inputs(data: DataSet, sample: Sample, preprocessing: Preprocessing) -> dict[str, Tensor]:
    """The input blobs (1, c, h, w) float32 by name, equal to the last bit to what the release's data layers make.

    `sample` was read with `kinds=input_kinds(preprocessing)`.
    """
    made = {}
    for each in preprocessing.inputs:
        try:
            made[each.name] = to_input(sample.images[each.image], data.recipe(each))
        except ImageError as error:
            raise DataError(str(error), path=data.shown(sample.id, kind=each.image)) from None
    return made


def input_kinds(preprocessing: Preprocessing) -> tuple[str, ...]:
    """The kinds of image that a net looks at."""
    return tuple(dict.fromkeys(each.image for each in preprocessing.inputs))


def inputs_of(data: DataSet, inputs: Mapping[str, Shape] | Iterable[str]) -> Preprocessing:
    """The data set's recipes for the inputs of a net, by their names and, where shapes are given, their channels.

    An input that is not called after a kind of image ("hha", "depth") is the colour image; one of a single channel is
    its grey, one of other numbers every channel that is stored. Raises DataError for a kind of image with other
    channels.
    """
    shapes = inputs if isinstance(inputs, Mapping) else {}
    known = data.recipes
    return Preprocessing(
        tuple(
            replace(with_channels(known.get(name, known["color"]), _channels(shapes.get(name)), data), name=name)
            for name in inputs
        )
    )


def with_channels(recipe: InputRecipe, channels: int | None, data: DataSet) -> InputRecipe:
    """A recipe for an input of so many channels: the luminance of ITU-R 601 for one, with the same of its mean."""
    own = len(recipe.mean)
    if channels in (None, own):
        return recipe
    if channels == 1 and own == 3:
        blue, green, red = recipe.mean if recipe.channels == "bgr" else recipe.mean[::-1]
        return replace(recipe, channels="file", mean=(0.114 * blue + 0.587 * green + 0.299 * red,))
    if own == 1:
        kind = recipe.kind if channels == 3 else "bands"
        return replace(recipe, kind=kind, mean=recipe.mean * (channels or 1))
    if recipe.kind == "color" and "bands" in data.images:  # nobody said the means of these: none is subtracted
        return replace(recipe, kind="bands", channels="file", mean=(0.0,) * (channels or 1))
    raise DataError(f"the net's input has {channels} channels; images of {data.title} have {own}", path=data.root)


@dataclass(frozen=True)
class InputChange:
    """Another way to make the colour inputs of a net; None leaves each part as it is.

    `mean` is in the order of the channels, one number for all of them or one for each; `channels` "bgr" or "rgb".
    """

    mean: tuple[float, ...] | None = None
    scale: float | None = None
    channels: Literal["bgr", "rgb"] | None = None

    def applied(self, preprocessing: Preprocessing) -> Preprocessing:
        """The ways to make inputs, changed; DataError where the means are neither one nor one for each channel."""
        made = (self._changed(each) if each.kind in ("color", "bands") else each for each in preprocessing.inputs)
        return Preprocessing(tuple(made))

    def _changed(self, recipe: InputRecipe) -> InputRecipe:
        count, mean = len(recipe.mean), recipe.mean
        order = recipe.channels
        if self.channels is not None and count == 3:
            order = "bgr" if self.channels == "bgr" else "file"
            mean = mean if order == recipe.channels else mean[::-1]
        if self.mean is not None:
            if len(self.mean) not in (1, count):
                raise DataError(f"{len(self.mean)} means for an input '{recipe.name}' of {count} channels")
            mean = self.mean * count if len(self.mean) == 1 else self.mean
        return replace(recipe, mean=mean, channels=order, scale=recipe.scale if self.scale is None else self.scale)


def _channels(shape: Shape | None) -> int | None:
    return int(shape[1]) if shape is not None and len(shape) == 4 and shape[1] else None
