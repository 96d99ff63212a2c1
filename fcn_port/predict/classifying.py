"""`classify`: the classes of an image as a whole, by nets that end in scores of classes for one position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from converters.errors import NetError
from converters.escaping import shortened
from weights.records import Preprocessing

from ..any_net import AnyNet
from ..carded import refuse_no_net
from .images import ImageLike, read_image, rgb_of
from .meaning import NetOutputs, outputs_of
from .resizing import resize
from .running import recipe_of, run_net
from .values import Values, to_numpy

MOST_NAMED = 5
"""Classes that are named of an image, as Caffe's classification example does."""


@dataclass(frozen=True)
class ClassScore:
    """A class of an image: its number, its name ("class 7" where none is known), and its score, None if it has none."""

    label: int
    name: str
    score: float | None

    def to_json(self) -> dict[str, Any]:
        """The record in JSON's types."""
        return {"label": self.label, "name": self.name, "score": self.score}


@dataclass(frozen=True, eq=False)
class Classification:
    """The classes of an image, the best first; a sequence of `ClassScore`.

    `probabilities` is True where the scores are from 0 to 1, as after a Softmax or a Sigmoid; `image` (h, w, 3) uint8
    RGB is what the net looked at.
    """

    found: tuple[ClassScore, ...]
    probabilities: bool
    image: np.ndarray

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[ClassScore]:
        return iter(self.found)

    def __getitem__(self, index: int) -> ClassScore:
        return self.found[index]

    def __repr__(self) -> str:
        said = ", ".join(f"{shortened(each.name)} {self.shown(each)}".rstrip() for each in self.found[:MOST_NAMED])
        return f"Classification({said})"

    def shown(self, each: ClassScore) -> str:
        """A score in words: 97.1% for a probability, 12.34 for a plain score, nothing where there is none."""
        if each.score is None:
            return ""
        return f"{each.score:.1%}" if self.probabilities else f"{each.score:.4g}"

    def to_json(self) -> dict[str, Any]:
        """Height, width and the best classes in JSON's types."""
        h, w = self.image.shape[:2]
        top = [each.to_json() for each in self.found[:MOST_NAMED]]
        return {"height": h, "width": w, "probabilities": self.probabilities, "classes": top}


def classify(
    net: AnyNet,
    image: ImageLike,
    *,
    preprocessing: Preprocessing | None = None,
    names: tuple[str, ...] | None = None,
    outputs: NetOutputs | None = None,
) -> Classification:
    """The classes of a Pillow image, an image file, or an (h, w, 3) uint8 RGB array, the best first.

    The image is resized to the net's own input, bilinearly and to both its sides, as Caffe's classification.cpp does;
    where its recipe has a `resize`, to that, and the net's input is cut from the centre, as published scores were.
    `names` are the classes by number, by default those that come with the net; `outputs` are the net's, where they are
    known already. Raises FileNotFoundError, ImageError for an image that cannot be read, NetError for a net that gives
    no classes of an image, ValueError for one that does not say how its input is made.
    """
    return classify_all(net, [image], preprocessing=preprocessing, names=names, outputs=outputs)[0]


def classify_all(
    net: AnyNet,
    images: Sequence[ImageLike],
    *,
    preprocessing: Preprocessing | None = None,
    names: tuple[str, ...] | None = None,
    outputs: NetOutputs | None = None,
) -> list[Classification]:
    """The classes of several images in one pass of the net; otherwise as `classify`.

    Images of any sizes, since each is resized to the net's input; of one size for a net that has none.
    """
    refuse_no_net(net)
    outputs = outputs or outputs_of(net)
    recipe = recipe_of(net, preprocessing)
    pixels = [read_image(image, kind=recipe.image) for image in images]
    size = _input_size(net)
    given = run_net(net, [each if size is None else fitted(each, size, recipe.resize) for each in pixels], recipe)
    for name, output in given.items():
        meaning = outputs.meaning(name, output.shape)
        if meaning.kind == "classes":
            if output.ndim == 0 or len(output) != len(pixels):
                raise NetError(f"its output {name or 'blob'} is {tuple(output.shape)} for {len(pixels)} images")
            known = getattr(net, "classes", None) or {}
            own = names if names is not None else known.get(name) or next(iter(known.values()), ())
            rank = _ranked if meaning.layer == "ArgMax" else _scored
            return [
                Classification(rank(each, own), meaning.bounded, rgb_of(image))
                for each, image in zip(output, pixels, strict=True)
            ]
    raise NetError(
        f"its output is {outputs.meaning(name, output.shape).said}",
        hint="segment takes nets that label pixels, detect ones that find objects",
    )


def fitted(pixels: np.ndarray, size: tuple[int, int], sides: tuple[int, ...]) -> np.ndarray:
    """An image (h, w, 3) at a net's `size`: scaled to that, or to `sides`, as `InputRecipe.resize` has them, and cut.

    A side that comes out shorter than the net's is scaled to the net's.
    """
    if not sides:
        return resize(pixels, size)
    h, w = pixels.shape[:2]
    scale = sides[0] / min(h, w)
    scaled = (round(h * scale), round(w * scale)) if len(sides) == 1 else (sides[0], sides[1])
    scaled = (max(scaled[0], size[0]), max(scaled[1], size[1]))
    top, left = (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2
    return resize(pixels, scaled)[top : top + size[0], left : left + size[1]]


def _input_size(net: AnyNet) -> tuple[int, int] | None:
    """The size (h, w) of the net's first input, None where it does not say."""
    shape: Sequence[int] = next(iter(getattr(net, "inputs", {}).values()), ())
    return (int(shape[2]), int(shape[3])) if len(shape) == 4 else None


def _scored(output: Values, names: tuple[str, ...]) -> tuple[ClassScore, ...]:
    scores = to_numpy(output).reshape(-1)
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    return tuple(ClassScore(int(i), class_name(names, int(i)), float(scores[i])) for i in order)


def _ranked(output: Values, names: tuple[str, ...]) -> tuple[ClassScore, ...]:
    """The classes that an ArgMax over the whole image gives, with its values where it has them (argmax_layer.cpp)."""
    rows = to_numpy(output).reshape(len(output), -1)
    scores = rows[1] if len(rows) == 2 else None
    return tuple(
        ClassScore(int(label), class_name(names, int(label)), None if scores is None else float(scores[i]))
        for i, label in enumerate(rows[0])
    )


def class_name(names: Sequence[str], label: int) -> str:
    """The name of a class, "class 7" where none is known."""
    return names[label] if 0 <= label < len(names) else f"class {label}"
