"""An image, or several of one size: one label for each pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from torch import Tensor, nn

from converters.errors import CaffeFormatError, NetError
from converters.execution import CaffeNet
from weights.records import InputRecipe, Preprocessing

from .images import ImageLike, read_image, to_input
from .palettes import voc_palette
from .segmentation import Segmentation
from .tiles import tiles_of

if TYPE_CHECKING:
    from ..nets import SiftFlow

_RANDOM = (CaffeNet, nn.Dropout, nn.Dropout2d)
"""Modules whose own mode changes what they compute; that of a wrapper means nothing."""

Seen = Segmentation | dict[str, Segmentation]
"""The segmentation by a net with one output, or those by one with several, by output."""


@overload
def segment(  # type: ignore[overload-overlap]  # a SiftFlow is an nn.Module, too
    net: SiftFlow,
    image: ImageLike,
    *,
    preprocessing: Preprocessing | None = ...,
    tile: int | None = ...,
    keep_scores: bool = ...,
) -> dict[str, Segmentation]: ...
@overload
def segment(
    net: nn.Module,
    image: ImageLike,
    *,
    preprocessing: Preprocessing | None = ...,
    tile: int | None = ...,
    keep_scores: bool = ...,
) -> Segmentation: ...
def segment(
    net: nn.Module,
    image: ImageLike,
    *,
    preprocessing: Preprocessing | None = None,
    tile: int | None = None,
    keep_scores: bool = True,
) -> Seen:
    """Segment a Pillow image, an image file, or an (h, w, 3) uint8 RGB array, in its own size.

    `net` comes from `load`, or `preprocessing` says how its input is made. A net with several outputs gives one
    Segmentation for each, by name; type checkers know so of SIFT Flow's nets (`load` and `build` of their names), and
    take every other for one with one output: `cast` the result where a file holds another. With `tile` the net sees at
    most tile x tile pixels at a time, and the result is that of the whole image but for rounding; `keep_scores=False`
    then saves most of the memory. Raises ImageError for an image that cannot be read or is none, ValueError for a
    net that does not say how its input is made, takes several or is in train mode, and for tiles that are too small.
    """
    return segment_all(net, [image], preprocessing=preprocessing, tile=tile, keep_scores=keep_scores)[0]


def segment_all(
    net: nn.Module,
    images: Sequence[ImageLike],
    *,
    preprocessing: Preprocessing | None = None,
    tile: int | None = None,
    keep_scores: bool = True,
) -> list[Seen]:
    """Segment images of one size in one pass of the net; otherwise as `segment`. ValueError if sizes differ."""
    if any(part.training and isinstance(part, _RANDOM) for part in net.modules()):
        raise ValueError("the net is in train mode, in which dropout is random: call net.eval() first")
    work = _Work(net, _recipe(net, preprocessing), keep_scores)
    pixels = [read_image(image) for image in images]
    if len({each.shape for each in pixels}) > 1:
        raise ValueError("images of one pass are of one size; segment them one by one")
    if tile is not None:
        return [work.tiled(each, tile) for each in pixels]
    return work.whole(pixels)


@dataclass(frozen=True)
class _Work:
    """The settings that are the same for all images."""

    net: nn.Module
    recipe: InputRecipe
    keep_scores: bool

    def whole(self, pixels: list[np.ndarray]) -> list[Seen]:
        if not pixels:
            return []
        outputs = self._run(pixels)
        found = []
        for i, each in enumerate(pixels):
            heads = {
                head: (_labels(scores[i]), _to_numpy(scores[i]) if self.keep_scores else None)
                for head, scores in outputs.items()
            }
            found.append(self._seen(heads, each))
        return found

    def tiled(self, pixels: np.ndarray, tile: int) -> Seen:
        h, w = pixels.shape[:2]
        heads: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
        for rows, columns in tiles_of(self.net, (h, w), tile):
            part = pixels[rows.seen.lo : rows.seen.hi, columns.seen.lo : columns.seen.hi]
            own = (rows.core.within(rows.seen), columns.core.within(columns.seen))
            place = (slice(*rows.core), slice(*columns.core))
            for head, whole in self._run([part]).items():
                if tuple(whole.shape[2:]) != part.shape[:2]:
                    raise ValueError(f"scores of {tuple(whole.shape[2:])} for a tile of {part.shape[:2]}: no tiling")
                scores = whole[0][:, own[0], own[1]]
                if head not in heads:
                    kept = np.empty((len(scores), h, w), np.float32) if self.keep_scores else None
                    heads[head] = np.empty((h, w), _label_type(len(scores))), kept
                labels, kept = heads[head]
                labels[place] = _labels(scores)
                if kept is not None:
                    kept[:, place[0], place[1]] = _to_numpy(scores)
        return self._seen(heads, pixels)

    def _run(self, pixels: list[np.ndarray]) -> dict[str, Tensor]:
        """Scores (n, classes, h, w) by output, "" for the only one; NetError for a net that does not give such."""
        parameter = next(self.net.parameters(), torch.empty(0))
        x = torch.cat([to_input(each, self.recipe) for each in pixels]).to(parameter.device, parameter.dtype)
        try:
            with torch.inference_mode():
                output = self.net(x)
        except ValueError as error:  # the input does not fit
            if isinstance(error, CaffeFormatError) and not isinstance(error, NetError):
                raise
            raise NetError(f"this net does not take an image of {_size(x)} pixels: {error}") from error
        found = output if isinstance(output, dict) else {"": output}
        _check_scores(found, x)
        return found

    def _seen(self, heads: Mapping[str, tuple[np.ndarray, np.ndarray | None]], pixels: np.ndarray) -> Seen:
        classes: Mapping[str, tuple[str, ...]] = getattr(self.net, "classes", None) or {}
        colours = getattr(self.net, "palette", None)
        colours = voc_palette() if colours is None else colours
        only = next(iter(classes.values()), ())
        found = {
            head: Segmentation(labels, scores, pixels, classes.get(head, ()) if head else only, colours)
            for head, (labels, scores) in heads.items()
        }
        return found[""] if list(found) == [""] else found


def _recipe(net: nn.Module, preprocessing: Preprocessing | None) -> InputRecipe:
    recipe = preprocessing or getattr(net, "preprocessing", None)
    if recipe is None:
        raise ValueError(
            "this net does not say how its input is made; pass preprocessing=, such as that of a release: "
            'weights.release("voc-fcn8s").preprocessing'
        )
    if len(recipe.inputs) != 1:
        names = ", ".join(each.name for each in recipe.inputs)
        raise ValueError(f"this net has {len(recipe.inputs)} inputs ({names}); segment takes nets with one image")
    return recipe.inputs[0]


def _check_scores(found: Mapping[str, Tensor], x: Tensor) -> None:
    """NetError unless each output scores every pixel of every image."""
    for name, scores in found.items():
        if scores.ndim != 4 or len(scores) != len(x) or scores.shape[2:] != x.shape[2:] or not scores.shape[1]:
            raise NetError(
                f"its output{f' {name!r}' if name else ''} is {tuple(scores.shape)} for an image of {_size(x)} pixels; "
                f"expected scores of each pixel, ({len(x)}, classes, {x.shape[2]}, {x.shape[3]})",
                hint="segmenting takes nets that label pixels; run another one as a module: net(x)",
            )
    if not found:
        raise NetError("this net has no output")


def _size(x: Tensor) -> str:
    return f"{x.shape[2]}x{x.shape[3]}"


def _labels(scores: Tensor) -> np.ndarray:
    """The first of the best classes at each position of (classes, h, w)."""
    best = scores.max(dim=0).indices  # argmax gives the same and takes five times as long on a CPU
    return best.cpu().numpy().astype(_label_type(len(scores)))


def _label_type(classes: int) -> type[np.integer]:
    return np.uint8 if classes <= 256 else np.int64


def _to_numpy(scores: Tensor) -> np.ndarray:
    return scores.float().cpu().numpy()
