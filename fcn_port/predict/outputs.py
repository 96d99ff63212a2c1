"""The files that prediction writes for an image, each whole or not there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from converters.escaping import file_name
from converters.safety import whole_file

from .image_lists import OUTPUTS, PROBABILITIES
from .segmentation import Segmentation


def write_outputs(
    seen: Segmentation, base: Path, *, scores: bool = False, probabilities: bool = False
) -> dict[str, Path]:
    """Write the results of an image as `<base>.labels.png`, `<base>.overlay.png` and so on; their paths by kind.

    `scores` adds an .npz with `scores` (classes, h, w) float32 and `classes`; `probabilities` a folder with a grey
    picture for each class, 255 for certainty. Both need a Segmentation that kept its scores.
    """
    paths = {
        kind: base.with_name(base.name + end)
        for kind, end in zip(("labels", "overlay", "scores"), OUTPUTS, strict=True)
    }
    with whole_file(paths["labels"], durable=False, follow=False) as file:
        seen.label_image().save(file, format="PNG")
    with whole_file(paths["overlay"], durable=False, follow=False) as file:
        seen.picture().save(file, format="PNG")
    if scores:
        assert seen.scores is not None
        with whole_file(paths["scores"], durable=False, follow=False) as file:
            np.savez_compressed(file, scores=seen.scores, classes=np.array(seen.classes, dtype=str))
    else:
        del paths["scores"]
    if probabilities:
        paths["probabilities"] = base.with_name(base.name + PROBABILITIES)
        _write_probabilities(seen, paths["probabilities"])
    return paths


def _write_probabilities(seen: Segmentation, folder: Path) -> None:
    for name, each in zip(_file_names(seen), probability_maps(seen), strict=True):
        with whole_file(folder / name, durable=False, follow=False) as file:
            _save_grey(each, file)


def probability_maps(seen: Segmentation) -> Iterable[np.ndarray]:
    """The softmax of the scores, class by class, as (h, w) uint8: 255 is certainty."""
    assert seen.scores is not None
    scores = seen.scores
    largest = scores.max(axis=0)
    total = sum(np.exp(each - largest, dtype=np.float32) for each in scores)
    for each in scores:
        yield (np.exp(each - largest, dtype=np.float32) / total * 255).round().astype(np.uint8)


def _file_names(seen: Segmentation) -> Iterable[str]:
    assert seen.scores is not None
    digits = len(str(len(seen.scores) - 1))
    for label in range(len(seen.scores)):
        name = re.sub(r"[^\w-]+", "-", seen.classes[label]).strip("-") if label < len(seen.classes) else ""
        yield f"{label:0{digits}d}{'-' + file_name(name) if name else ''}.png"


def _save_grey(values: np.ndarray, file: BinaryIO) -> None:
    Image.fromarray(values).save(file, format="PNG")
