"""An image, or several of one size: one label for each pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, overload

import numpy as np

from converters.cancelling import ProgressCallback, ProgressSteps
from converters.errors import NetError
from converters.given import refuse_other_than, whole_number
from weights.records import InputRecipe, Preprocessing

from ..any_net import AnyNet
from ..carded import refuse_no_net
from .dense_crf import DenseCrf
from .images import ImageLike, read_image, rgb_of
from .meaning import NetOutputs, OutputMeaning, outputs_of
from .palettes import visible_palette, voc_palette
from .reading import ReadOutput, label_type, read_output
from .running import recipe_of, refuse_training, run_net
from .segmentation import Segmentation
from .tiles import ImageTile, tiles_of
from .value_map import ValueMap
from .values import to_numpy
from .views import AS_IT_IS, Views

if TYPE_CHECKING:
    from ..nets import SiftFlow

Seen = Segmentation | dict[str, Segmentation]
"""The segmentation by a net with one output, or those by one with several, by output."""
OfPixels = Segmentation | ValueMap
"""The record of what one output says of an image's pixels."""


@overload
def segment(  # type: ignore[overload-overlap]  # a SiftFlow is an nn.Module, too
    net: SiftFlow,
    image: ImageLike,
    *,
    preprocessing: Preprocessing | None = ...,
    tile: int | None = ...,
    keep_scores: bool = ...,
    threshold: float | None = ...,
    flip: bool = ...,
    scales: Sequence[float] = ...,
    crf: bool | DenseCrf = ...,
    progress: ProgressCallback | None = ...,
) -> dict[str, Segmentation]: ...
@overload
def segment(
    net: AnyNet,
    image: ImageLike,
    *,
    preprocessing: Preprocessing | None = ...,
    tile: int | None = ...,
    keep_scores: bool = ...,
    threshold: float | None = ...,
    flip: bool = ...,
    scales: Sequence[float] = ...,
    crf: bool | DenseCrf = ...,
    progress: ProgressCallback | None = ...,
) -> Segmentation: ...
def segment(
    net: AnyNet,
    image: ImageLike,
    *,
    preprocessing: Preprocessing | None = None,
    tile: int | None = None,
    keep_scores: bool = True,
    threshold: float | None = None,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    crf: bool | DenseCrf = False,
    progress: ProgressCallback | None = None,
) -> Seen:
    """Segment a Pillow image, an image file, or an (h, w, 3) uint8 RGB array, in its own size.

    `net` comes from `load`, or `preprocessing` says how its input is made. A net with several outputs gives one
    Segmentation for each, by name; type checkers know so of SIFT Flow's nets (`load` and `build` of their names), and
    take every other for one with one output: `cast` the result where a file holds another. With `tile` the net sees at
    most tile x tile pixels at a time, and the result is that of the whole image but for rounding; `keep_scores=False`
    then saves most of the memory. `threshold` is the probability from which on a pixel is of a class, where the net
    ends in a Sigmoid (0.5), or the value, where it gives a map. An output that is coarser than the image is upsampled
    bilinearly. `flip` and `scales` average probabilities over the mirrored image and other sizes (views.py has the
    formula), `crf` refines them by a dense CRF (DenseCrf() or its settings); neither goes with `tile`. `progress` is
    told (done, total) of tiles or views, and may end the call (`stop_when`). Raises FileNotFoundError, ImageError for
    an image that cannot be read or is none, NetError for a net that labels no pixels, ValueError for one that does not
    say how its input is made, takes several or is in train mode, and for tiles that are too small.
    """
    return segment_all(
        net, [image], preprocessing=preprocessing, tile=tile, keep_scores=keep_scores, threshold=threshold, flip=flip,
        scales=scales, crf=crf, progress=progress,
    )[0]  # fmt: skip


def segment_all(
    net: AnyNet,
    images: Sequence[ImageLike],
    *,
    preprocessing: Preprocessing | None = None,
    tile: int | None = None,
    keep_scores: bool = True,
    threshold: float | None = None,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    crf: bool | DenseCrf = False,
    progress: ProgressCallback | None = None,
) -> list[Seen]:
    """Segment images of one size in one pass of the net; otherwise as `segment`. ValueError if sizes differ."""
    refuse_other_than((bool, DenseCrf, type(None)), crf, "crf=True, False or a DenseCrf")
    refining = (DenseCrf() if crf else None) if isinstance(crf, bool) else crf
    asked = (scales,) if isinstance(scales, int | float) else tuple(scales)
    options = ReadOptions(tile, keep_scores, threshold, Views(flip, asked), refining)
    found = read_all(net, images, options, preprocessing=preprocessing, progress=progress)
    return [_segmentations(each) for each in found]


@dataclass(frozen=True)
class ReadOptions:
    """The settings of `segment` that are the same for all images."""

    tile: int | None = None
    keep_scores: bool = True
    threshold: float | None = None
    views: Views = AS_IT_IS
    crf: DenseCrf | None = None

    def __post_init__(self) -> None:
        if self.tile is not None:
            whole_number(self.tile, "tile")
        refuse_other_than((Real, type(None)), self.threshold, "threshold as a number")
        if self.tile is not None and (self.views.several or self.crf is not None):
            raise ValueError("tiles go without flips, scales and CRFs, which look at the whole image")


def read_all(
    net: AnyNet,
    images: Sequence[ImageLike],
    options: ReadOptions = ReadOptions(),
    *,
    preprocessing: Preprocessing | None = None,
    outputs: NetOutputs | None = None,
    progress: ProgressCallback | None = None,
) -> list[dict[str, OfPixels]]:
    """The answers of a net's outputs for the pixels of images of one size, by output, "" for the only one.

    `outputs` are the net's, where they are known already. Outputs that say nothing of pixels are left out; NetError
    where none does. Otherwise as `segment_all`.
    """
    refuse_no_net(net)
    refuse_training(net)
    recipe = recipe_of(net, preprocessing)
    pixels = [read_image(image, kind=recipe.image) for image in images]
    if len({each.shape for each in pixels}) > 1:
        raise ValueError("images of one pass are of one size; segment them one by one")
    if not pixels:
        return []
    shape = (int(pixels[0].shape[0]), int(pixels[0].shape[1]))
    tiles = None if options.tile is None else list(tiles_of(net, shape, options.tile))
    passed = ProgressSteps(progress, options.views.count if tiles is None else len(tiles) * len(pixels))
    work = _Work(net, recipe, outputs or outputs_of(net), options, passed)
    return work.whole(pixels) if tiles is None else [work.tiled(each, tiles) for each in pixels]


def _segmentations(found: Mapping[str, OfPixels]) -> Seen:
    """The segmentations alone; NetError where there is none."""
    kept = {name: each for name, each in found.items() if isinstance(each, Segmentation)}
    if not kept:
        raise NetError(
            "its output is a map of values, which are no classes",
            hint="fcn_port.see gives the map; threshold=VALUE makes two classes of it",
        )
    return kept[""] if list(kept) == [""] else kept


@dataclass(frozen=True, eq=False)
class _OutputOfImage:
    """An output's answer for one image: labels (h, w) if it tells some, values (channels, h, w) if they are kept."""

    meaning: OutputMeaning
    labels: np.ndarray | None
    values: np.ndarray | None
    coarse: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Work:
    """The settings that are the same for all images."""

    net: AnyNet
    recipe: InputRecipe
    outputs: NetOutputs
    options: ReadOptions
    passed: ProgressSteps

    def whole(self, pixels: list[np.ndarray]) -> list[dict[str, OfPixels]]:
        several = self.options.views.several
        outputs = self.options.views.average(self._run, pixels) if several else self._run(pixels)
        if self.options.crf is not None:
            crf = self.options.crf
            outputs = {
                head: [crf.refined(each, rgb_of(image)) for each, image in zip(found, pixels, strict=True)]
                for head, found in outputs.items()
            }
        return [
            self._seen({head: self._head(found[i]) for head, found in outputs.items()}, rgb_of(each))
            for i, each in enumerate(pixels)
        ]

    def tiled(self, pixels: np.ndarray, tiles: Sequence[tuple[ImageTile, ImageTile]]) -> dict[str, OfPixels]:
        h, w = pixels.shape[:2]
        heads: dict[str, _OutputOfImage] = {}
        for rows, columns in tiles:
            part = pixels[rows.seen.lo : rows.seen.hi, columns.seen.lo : columns.seen.hi]
            own = (rows.core.within(rows.seen), columns.core.within(columns.seen))
            place = (Ellipsis, slice(*rows.core), slice(*columns.core))
            for head, (read,) in self._run([part]).items():
                if read.coarse is not None:
                    raise ValueError(f"scores of {read.coarse} for a tile of {part.shape[:2]}: no tiling")
                found = self._head(ReadOutput(read.meaning, read.values[:, own[0], own[1]]))
                if head not in heads:
                    heads[head] = _OutputOfImage(read.meaning, _room(found.labels, (h, w)), _room(found.values, (h, w)))
                for whole, each in ((heads[head].labels, found.labels), (heads[head].values, found.values)):
                    if whole is not None and each is not None:
                        whole[place] = each
        return self._seen(heads, rgb_of(pixels))

    def _head(self, read: ReadOutput) -> _OutputOfImage:
        """The labels of an output, and its values where they are wanted or are all that there is."""
        meaning, threshold = read.meaning, self.options.threshold
        labelled = meaning.kind != "map" or (threshold is not None and meaning.channels == 1)
        labels = to_numpy(read.labels(threshold=threshold)) if labelled else None
        if labels is not None:
            labels = labels.astype(label_type(meaning.labels or int(labels.max(initial=0)) + 1))
        small = meaning.kind in ("map", "independent") and meaning.channels == 1
        kept = small or labels is None or (self.options.keep_scores and meaning.kind != "labels")
        return _OutputOfImage(meaning, labels, to_numpy(read.values) if kept else None, read.coarse)

    def _run(self, pixels: list[np.ndarray]) -> dict[str, list[ReadOutput]]:
        """Each output of the net that tells of pixels, for each image; NetError for a net that gives none."""
        given = run_net(self.net, pixels, self.recipe)
        size = (int(pixels[0].shape[0]), int(pixels[0].shape[1]))
        found, problem = {}, NetError("this net has no output")
        for name, each in given.items():
            try:
                if each.ndim == 0 or len(each) != len(pixels):
                    raise NetError(f"its output {name or 'blob'} is {tuple(each.shape)} for {len(pixels)} images")
                found[name] = read_output(self.outputs, name, each, size)
            except NetError as error:
                problem = error
        if not found:
            raise problem
        self.passed()
        return found

    def _seen(self, heads: Mapping[str, _OutputOfImage], pixels: np.ndarray) -> dict[str, OfPixels]:
        classes: Mapping[str, tuple[str, ...]] = getattr(self.net, "classes", None) or {}
        colours = getattr(self.net, "palette", None)
        colours = voc_palette() if colours is None else colours
        only = next(iter(classes.values()), ())
        return {
            head: _record(each, pixels, classes.get(head, ()) if head else only, colours)
            for head, each in heads.items()
        }


def _record(head: _OutputOfImage, pixels: np.ndarray, names: tuple[str, ...], colours: np.ndarray) -> OfPixels:
    meaning = head.meaning
    if head.labels is None:
        assert head.values is not None
        return ValueMap(head.values, meaning.bounded, pixels, names, head.coarse)
    kind = meaning.kind if meaning.kind in ("scores", "probabilities", "labels") else "independent"
    if kind == "independent":
        names = _with_none(names, meaning.channels)
    bounded = kind != "independent" or meaning.bounded
    colours = visible_palette(colours, names)
    return Segmentation(head.labels, head.values, pixels, names, colours, kind, head.coarse, bounded)


def _with_none(names: tuple[str, ...], channels: int) -> tuple[str, ...]:
    """The names of labels 0 to `channels`, of which 0 is no class: as given if they are so many, else with one more."""
    return names if len(names) == channels + 1 else ("background", *names)


def _room(like: np.ndarray | None, size: tuple[int, int]) -> np.ndarray | None:
    return None if like is None else np.zeros(like.shape[:-2] + size, like.dtype)
