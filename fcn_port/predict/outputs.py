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

from .class_table import png_text, sidecar
from .image_lists import MAP, MAPS, OUTPUTS, PROBABILITIES, SIDECAR
from .segmentation import Segmentation
from .value_map import ValueMap


def write_outputs(
    seen: Segmentation, base: Path, *, scores: bool = False, probabilities: bool = False
) -> dict[str, Path]:
    """Write the results of an image as `<base>.labels.png`, `<base>.overlay.png` and so on; their paths by kind.

    The labels carry their classes in the PNG's text and in `<base>.labels.json`. `scores` adds an .npz with `scores`
    (classes, h, w) float32 and `classes`; `probabilities` a folder with a grey picture for each class, 255 for
    certainty. Both need a Segmentation that kept its scores, and are left out where the net tells labels only.
    """
    paths = {
        kind: base.with_name(base.name + end)
        for kind, end in zip(("labels", "overlay", "scores"), OUTPUTS, strict=True)
    }
    with whole_file(paths["labels"], durable=False, follow=False) as file:
        seen.label_image().save(file, format="PNG", pnginfo=png_text(seen))
    paths["classes"] = base.with_name(base.name + SIDECAR)
    with whole_file(paths["classes"], durable=False, follow=False) as file:
        file.write(sidecar(seen).encode())
    with whole_file(paths["overlay"], durable=False, follow=False) as file:
        seen.picture().save(file, format="PNG")
    if seen.kind == "independent" and seen.scores is not None and len(seen.scores) == 1:
        paths |= write_map(ValueMap(seen.scores, seen.bounded, seen.image), base)
    if scores and seen.kind != "labels":
        assert seen.scores is not None
        _write_scores(seen.scores, seen.classes, paths["scores"])
    else:
        del paths["scores"]
    if probabilities and seen.kind != "labels":
        paths["probabilities"] = base.with_name(base.name + PROBABILITIES)
        _write_probabilities(seen, paths["probabilities"])
    return paths


def write_map(seen: ValueMap, base: Path, *, scores: bool = False) -> dict[str, Path]:
    """Write a map as `<base>.map.png`, in greys, or a picture of each channel into `<base>.maps`; paths by kind.

    `scores` adds the values themselves, as the `scores` (channels, h, w) float32 of an .npz.
    """
    several = len(seen.values) > 1
    place = base.with_name(base.name + (MAPS if several else MAP))
    digits = len(str(len(seen.values) - 1))
    for channel in range(len(seen.values)):
        name = f"{channel:0{digits}d}{_file_part(seen.name(channel)) if channel < len(seen.names) else ''}.png"
        with whole_file(place / name if several else place, durable=False, follow=False) as file:
            seen.picture(channel).save(file, format="PNG")
    paths = {"map": place}
    if scores:
        paths["scores"] = base.with_name(base.name + OUTPUTS[2])
        _write_scores(seen.values, seen.names, paths["scores"])
    return paths


def _write_scores(values: np.ndarray, classes: tuple[str, ...], path: Path) -> None:
    with whole_file(path, durable=False, follow=False) as file:
        np.savez_compressed(file, scores=values, classes=np.array(classes, dtype=str))


def _write_probabilities(seen: Segmentation, folder: Path) -> None:
    for name, each in zip(_file_names(seen), probability_maps(seen), strict=True):
        with whole_file(folder / name, durable=False, follow=False) as file:
            _save_grey(each, file)


def probability_maps(seen: Segmentation) -> Iterable[np.ndarray]:
    """The probability of each channel of the scores, as (h, w) uint8: 255 is certainty.

    It is the softmax of plain scores, and the scores themselves where they are probabilities.
    """
    assert seen.scores is not None
    scores = seen.scores
    if seen.kind != "scores":
        for each in scores:
            yield (each.clip(0, 1) * 255).round().astype(np.uint8)
        return
    largest = scores.max(axis=0)
    total = sum(np.exp(each - largest, dtype=np.float32) for each in scores)
    for each in scores:
        yield (np.exp(each - largest, dtype=np.float32) / total * 255).round().astype(np.uint8)


def _file_names(seen: Segmentation) -> Iterable[str]:
    """A name for each channel, with the number of its label; of independent ones the first label is 1."""
    assert seen.scores is not None
    first = 1 if seen.kind == "independent" else 0
    digits = len(str(len(seen.scores) - 1 + first))
    for label in range(first, len(seen.scores) + first):
        yield f"{label:0{digits}d}{_file_part(seen.classes[label]) if label < len(seen.classes) else ''}.png"


def _file_part(name: str) -> str:
    """A name as a part of a file's name, after a dash; nothing for one of no letters."""
    clean = re.sub(r"[^\w-]+", "-", name).strip("-")
    return f"-{file_name(clean)}" if clean else ""


def _save_grey(values: np.ndarray, file: BinaryIO) -> None:
    Image.fromarray(values).save(file, format="PNG")
