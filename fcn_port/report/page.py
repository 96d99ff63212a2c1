"""The page: what is known about a net, from its definition to its mistakes, in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from converters.net import NetSpec
from converters.version import VERSION
from weights.records import IGNORE_LABEL

from ..evaluation.results import Evaluation
from .blobs import blob_section
from .confusion import confusion
from .diagram import diagram
from .gallery import Example, gallery
from .html import Html, document, text
from .parity import parity
from .scores import classes, summary


@dataclass(frozen=True)
class Parity:
    """The distance of each blob from the recording `golden`, and what is allowed."""

    golden: str
    errors: Mapping[str, float]
    tolerance: float


@dataclass(frozen=True, eq=False)
class BlobPictures:
    """The pictures of blobs for the image of this name."""

    image: str
    pictures: Mapping[str, Image.Image]


@dataclass(frozen=True, eq=False)
class Page:
    """The contents of a page; what is None or empty is left out.

    `size` (h, w) is that of the diagram, None for the net's own; `best` and `worst` are examples of the evaluation's
    first task, whose labels have `palette` and ignore `ignore_label`.
    """

    title: str
    spec: NetSpec | None
    size: tuple[int, int] | None
    palette: np.ndarray
    parity: Parity | None = None
    blobs: BlobPictures | None = None
    evaluation: Evaluation | None = None
    best: Sequence[Example] = ()
    worst: Sequence[Example] = ()
    ignore_label: int = IGNORE_LABEL


def to_html(page: Page) -> Html:
    """The whole page; nothing in it is loaded from elsewhere."""
    parts = [_head(page)]
    if page.evaluation is not None:
        parts += _scores(page.evaluation)
        names = page.evaluation.tasks[0].classes if page.evaluation.tasks else ()
        for id_, title, examples in (
            ("best", "Where it does best", page.best),
            ("worst", "Where it does worst", page.worst),
        ):
            if examples:
                shown = gallery(
                    id_, title, examples, palette=page.palette, classes=names, ignore_label=page.ignore_label
                )
                parts.append(shown)
    if page.spec is not None:
        parts.append(diagram(page.spec, page.size))
    if page.parity is not None:
        each = page.parity
        parts.append(parity(each.errors, tolerance=each.tolerance, golden=each.golden))
    if page.blobs is not None:
        parts.append(blob_section(page.blobs.image, page.blobs.pictures))
    return document(page.title, "".join(parts))


def _head(page: Page) -> Html:
    found = page.evaluation
    about = f"fcn-port {VERSION}"
    if found is not None:
        settings = ", ".join(f"{name} {value}" for name, value in found.settings.items())
        about = f"{found.title}, {found.split}: {len(found.images)} images; {settings}"
        if found.skipped:
            about += f"; {len(found.skipped)} skipped"
    cards = "" if found is None else summary(found)
    return f'<h1>{text(page.title)}</h1><p class="lead">{text(about)}</p>{cards}\n'


def _scores(evaluation: Evaluation) -> list[Html]:
    parts = []
    for task in evaluation.tasks:
        counts = evaluation.histogram(task.head).copy()
        counts[list(task.without)] = 0
        parts.append(classes(evaluation, task))
        title = task.title if len(evaluation.tasks) > 1 else ""
        parts.append(confusion(counts, task.classes, title=title))
    return parts
