"""Best and worst images: what the net saw, what it should have said, what it said, and where these differ."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from PIL import Image

from ..evaluation.results import Evaluation
from ..evaluation.tasks import ScoringTask
from .html import Html, data_uri, name_text, section, text

_WIDTH = 360
"""Pixels of the longer side of a picture on the page."""
_RIGHT, _WRONG, _IGNORED = (222, 226, 222), (196, 55, 47), (250, 250, 248)


@dataclass(frozen=True, eq=False)
class Example:
    """An image (h, w, 3) uint8 RGB with its labels and predictions (h, w) uint8, and its own mean IU, 0 to 1."""

    id: str
    score: float
    image: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray


def ranked(evaluation: Evaluation, task: ScoringTask) -> list[tuple[str, float]]:
    """The images with their own mean IU over the classes in label or prediction, the best first."""
    scored = [
        (image.id, task.scores(image.histograms[task.head]).mean_iu)
        for image in evaluation.images
        if task.head in image.histograms
    ]
    return sorted((each for each in scored if not isnan(each[1])), key=lambda each: -each[1])


def gallery(
    id_: str, title: str, examples: Sequence[Example], *, palette: np.ndarray, classes: Sequence[str], ignore_label: int
) -> Html:
    """The section with the examples, four pictures each."""
    lead = (
        "Each with its own mean IU, over the classes in its label or prediction. Difference: red is wrong, white is "
        "ignored."
    )
    rows = "".join(_example(each, palette, classes, ignore_label) for each in examples)
    return section(id_, title, lead, rows)


def _example(example: Example, palette: np.ndarray, classes: Sequence[str], ignore_label: int) -> Html:
    pictures = (
        ("image", _embed(Image.fromarray(example.image), photograph=True)),
        ("label", _embed(Image.fromarray(palette[example.labels]))),
        ("prediction", _embed(Image.fromarray(palette[example.predictions]))),
        ("difference", _embed(Image.fromarray(difference(example, ignore_label)))),
    )
    figures = "".join(
        f'<figure><img src="{address}" alt="{text(what)} of {text(example.id)}" loading="lazy">'
        f"<figcaption>{text(what)}</figcaption></figure>"
        for what, address in pictures
    )
    found = np.union1d(example.labels, example.predictions)
    keys = "".join(_key(classes[i], palette[i]) for i in map(int, found) if i < len(classes) and i != ignore_label)
    return (
        f"<h3>{name_text(example.id)} <span class='quiet'>{100 * example.score:.1f}</span></h3>"
        f'<div class="pictures">{figures}</div><p class="keys swatches">{keys}</p>'
    )


def _key(name: str, colour: np.ndarray) -> Html:
    r, g, b = (int(value) for value in colour)
    return f'<span><i class="key" style="background:rgb({r},{g},{b})"></i>{name_text(name)}</span>'


def difference(example: Example, ignore_label: int) -> np.ndarray:
    """(h, w, 3) uint8: where the prediction is right, wrong, or does not count."""
    out = np.empty((*example.labels.shape, 3), np.uint8)
    out[:] = _RIGHT
    out[example.labels != example.predictions] = _WRONG
    out[example.labels == ignore_label] = _IGNORED
    return out


def _embed(picture: Image.Image, *, photograph: bool = False) -> str:
    """A picture of at most _WIDTH pixels a side as an address; label maps keep their pure colours."""
    scale = min(1.0, _WIDTH / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    method = Image.Resampling.LANCZOS if photograph else Image.Resampling.NEAREST
    small = picture.resize(size, method) if scale < 1 else picture
    out = io.BytesIO()
    if photograph:
        small.save(out, format="JPEG", quality=85)
        return data_uri(out.getvalue(), kind="jpeg")
    small.quantize(256).save(out, format="PNG", optimize=True)
    return data_uri(out.getvalue(), kind="png")
