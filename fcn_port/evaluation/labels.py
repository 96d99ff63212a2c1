"""Predicted label maps as files: indexed PNGs in VOC's palette."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from converters.escaping import file_name
from converters.safety import whole_file

from ..predict.palettes import voc_palette


def saved_path(folder: Path, id_: str, head: str, heads: Sequence[str]) -> Path:
    """The path of an image's label map: `<id>.png`, in a folder for each output where there are several."""
    return (folder / file_name(head) if len(heads) > 1 else folder) / f"{id_}.png"


def save_labels(folder: Path, id_: str, labels: Mapping[str, np.ndarray]) -> None:
    """Write the label maps (h, w) uint8 of an image by output blob; a file under its name is always whole."""
    for head, each in labels.items():
        path = saved_path(folder, id_, head, list(labels))
        with whole_file(path, durable=False, follow=False) as file:
            indexed_image(each).save(file, format="PNG")


def indexed_image(labels: np.ndarray) -> Image.Image:
    """A label map (h, w) uint8 as an indexed picture: its values are the labels, the palette is VOC's."""
    picture = Image.fromarray(np.ascontiguousarray(labels))
    picture.putpalette(voc_palette().tobytes())
    return picture
