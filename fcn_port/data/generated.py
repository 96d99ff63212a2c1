"""Generated images in place of a data set's own: each is enlarged to its label map, which stays as it is."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from PIL import Image

from weights.records import IGNORE_LABEL

from ..predict.image_lists import is_there
from .errors import DataError
from .files import read_rgb
from .records import DataSet, Files, Sample

USUAL_SIZE = (256, 256)
"""The (h, w) of the images that the published scores are of."""


@dataclass(frozen=True)
class FlatFiles(Files):
    """Files in one folder; where there is none of the name, one with a JPEG's ending is taken."""

    def path(self, id_: str) -> Path:
        found = super().path(id_)
        if not is_there(found):
            for ending in (".jpg", ".jpeg"):
                if is_there(found.with_suffix(ending)):
                    return found.with_suffix(ending)
        return found


@dataclass(frozen=True)
class GeneratedImages(DataSet):
    """A data set whose images were made by a net: `generated` in the size that they have, read enlarged to the labels.

    The labels are those of `labelled`, whose classes are the first of this one's.
    Resized straight to (h, w) of the label map, whatever the shape, by Pillow's bilinear filter on bytes, which is what
    scipy.misc.imresize did in the published script (phillipi/pix2pix, scripts/eval_cityscapes/evaluate.py).
    """

    generated: Files = field(kw_only=True)
    labelled: DataSet = field(kw_only=True)

    def read(self, id_: str, *, kinds: Iterable[str] = ("color",)) -> Sample:
        """The generated image of a label map, with it; DataError names the file that is missing or damaged."""
        labels = {head: self.labelled.read_labels(id_, head) for head in self.labels}
        size = next(iter(labels.values())).shape
        image = self.generated.read(self.generated.path(id_))
        return Sample(id_, {kind: _resized(image, (size[0], size[1])) for kind in kinds}, labels)

    def image_path(self, id_: str, *, kind: str = "color") -> Path:
        return self.generated.path(id_)

    def shown(self, id_: str, *, kind: str = "color") -> Path:
        return self.generated.path(id_)


def generated_images(data: DataSet, folder: Path, *, outputs: int) -> GeneratedImages:
    """The images in `folder` for the labels of `data`; `outputs` is how many classes the net scores.

    An image is called after its label map: `<city>_<shot>_<frame>_leftImg8bit.png` for Cityscapes, else `<id>.png`. A
    net may score one class more than are labelled, for the rest. Raises FileNotFoundError where the folder is not
    there, DataError where it has none of the images.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    name = "{}_leftImg8bit.png" if data.name == "cityscapes" else "{}.png"
    generated = FlatFiles(folder, name, read_rgb)
    if not any(is_there(generated.path(id_)) for id_ in data.ids):
        raise DataError(
            f"none of the {len(data.ids)} images of {data.title}, {data.split}, is there",
            path=folder,
            hint=f"an image is called after its label map, such as {name.format(data.ids[0])}",
        )
    classes = {
        head: (*names, *(f"class {number}" for number in range(len(names), outputs)))
        for head, names in data.classes.items()
    }
    settings = {each.name: getattr(data, each.name) for each in fields(data)}
    changed = {"kind": f"generated {data.kind}", "root": folder, "classes": classes, "complete": False}
    return GeneratedImages(**{**settings, **changed}, generated=generated, labelled=data)


def missing_images(data: GeneratedImages) -> tuple[str, ...]:
    """The ids that have no generated image."""
    return tuple(id_ for id_ in data.ids if not is_there(data.generated.path(id_)))


def without(data: GeneratedImages, ids: Iterable[str]) -> GeneratedImages:
    """The data set without these images."""
    left_out = set(ids)
    return replace(data, ids=tuple(id_ for id_ in data.ids if id_ not in left_out))


def doubts(data: GeneratedImages) -> tuple[str, ...]:
    """The things about the images, seen in the first that can be read, that people got wrong; a sentence each."""
    head = next(iter(data.labels))
    for id_ in data.ids:
        with suppress(DataError):  # whoever needs the file says what is wrong with it
            image, labels = data.generated.of(id_), data.labelled.read_labels(id_, head)
            path, size = data.generated.path(id_), (image.shape[0], image.shape[1])
            return tuple(_doubts(path, size, (labels.shape[0], labels.shape[1]), labels, data))
    return ()


def _doubts(
    path: Path, size: tuple[int, int], labelled: tuple[int, int], labels: np.ndarray, data: DataSet
) -> Iterable[str]:
    h, w = size
    if path.suffix.lower() != ".png":
        yield f"{path.name} is a JPEG: its losses change the scores; generators' images are to be kept as PNG"
    if data.name == "cityscapes" and labelled != (1024, 2048):
        yield f"the label maps are {labelled[0]}x{labelled[1]}, not 1024x2048: they must be the originals, not resized"
    if size == labelled:
        yield (
            f"the images are as large as the label maps, {h}x{w}: the published scores are of 256x256, and the net was "
            "trained on such images, enlarged; real images of full size score far less"
        )
    elif size != USUAL_SIZE:
        yield f"the images are {h}x{w}; the published scores are of 256x256, and other sizes do not compare with them"
    if (labels == IGNORE_LABEL).all():
        yield f"no pixel of {path.name} is labelled with a class that is scored: are these label ids?"


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
