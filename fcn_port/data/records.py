"""A data set on disk: which images, where they and their labels are, and how a net wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from weights.catalogue import datasets
from weights.records import IGNORE_LABEL, InputRecipe

from .errors import DataError
from .files import check_labels, check_size


@dataclass(frozen=True)
class Files:
    """Files of one kind, one for each image: `folder / name.format(id)`, and how one is read."""

    folder: Path
    name: str
    read: Callable[[Path], np.ndarray]

    def path(self, id_: str) -> Path:
        """The file of an image."""
        return self.folder / self.name.format(id_)

    def shown(self, id_: str) -> Path:
        """The name of what an image is read from, for messages: its file, or a record in one."""
        return self.path(id_)

    @property
    def source(self) -> str:
        """The place that all are read from, as text: what is in the files that `path` gives may depend on it."""
        return f"{self.folder}/{self.name}"

    def of(self, id_: str) -> np.ndarray:
        """The content of an image's file."""
        return self.read(self.path(id_))


@dataclass(frozen=True)
class Sample:
    """One image: `images` (h, w, c) by kind of input, values as stored; `labels` (h, w) uint8 by output blob."""

    id: str
    images: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class DataSet:
    """A split of a data set.

    `name` is the catalogue's (`weights.datasets()`), `kind` how the files lie ("sbd" is another layout of "voc"),
    `ids` the images in the order of the split's list. `images` by kind of input ("color", "hha", "depth"), `labels` and
    `classes` by output blob; `labels` is empty for a private test set. `complete`: the list was checked to be the
    published one. `single_precision_mean`: the release keeps the mean of this data set in float32. `void` are further
    labels that count as `ignore_label`. `inputs` and `palette`, for a set that is not the catalogue's, are how its
    inputs are made, by kind, and the colours of its classes (`fcn_port.predict.palettes.palette`). `listed`: a list
    names the images; else they are all that were found.
    """

    name: str
    kind: str
    title: str
    root: Path
    split: str
    ids: tuple[str, ...]
    images: Mapping[str, Files]
    labels: Mapping[str, Files]
    classes: Mapping[str, tuple[str, ...]]
    ignore_label: int = IGNORE_LABEL
    complete: bool = False
    single_precision_mean: bool = False
    void: tuple[int, ...] = ()
    inputs: Mapping[str, InputRecipe] = field(default_factory=dict)
    palette: str | None = None
    listed: bool = True

    @property
    def recipes(self) -> Mapping[str, InputRecipe]:
        """The ways to make a net's inputs, by kind of image: the set's own, else the catalogue's."""
        return self.inputs or datasets()[self.name].inputs

    @property
    def colours(self) -> str | None:
        """The palette of the classes, as a card keeps it."""
        return self.palette or (datasets()[self.name].palette if self.name in datasets() else None)

    def with_void(self, *labels: int) -> DataSet:
        """The data set with further labels that do not count, such as the `ignore_label` of a net's loss."""
        more = [label for label in labels if label != self.ignore_label and label not in self.void]
        return replace(self, void=(*self.void, *more)) if more else self

    def read(self, id_: str, *, kinds: Iterable[str] = ("color",)) -> Sample:
        """An image of each kind with its labels; DataError names the file that is missing, damaged or does not fit."""
        images = {kind: self._images(kind).of(id_) for kind in kinds}
        first_kind, first = next(iter(images.items()))
        for kind, image in images.items():  # colour and depth lie on the same pixels
            shown, beside = self._images(kind).shown(id_), self._images(first_kind).shown(id_)
            check_size(image[:, :, 0], first, path=shown, image_path=beside)
        labels = {}
        for head, files in self.labels.items():
            labels[head] = self.read_labels(id_, head)
            check_size(labels[head], first, path=files.shown(id_), image_path=self._images(first_kind).shown(id_))
        return Sample(id_, images, labels)

    def read_labels(self, id_: str, head: str) -> np.ndarray:
        """The labels (h, w) uint8 of an image for an output, void as `ignore_label`."""
        path = self.labels[head].shown(id_)
        found = self.labels[head].of(id_)
        if self.void:
            found = np.where(np.isin(found, self.void), self.ignore_label, found)
        return check_labels(found, path=path, classes=len(self.classes[head]), ignore_label=self.ignore_label)

    def image_path(self, id_: str, *, kind: str = "color") -> Path:
        """The file of an image."""
        return self._images(kind).path(id_)

    def shown(self, id_: str, *, kind: str = "color") -> Path:
        """The name of an image for messages: its file, or a record in one."""
        return self._images(kind).shown(id_)

    def files(self, id_: str, *, kinds: Iterable[str] = ("color",)) -> tuple[Path, ...]:
        """Every file that `read` reads."""
        paths = [self.image_path(id_, kind=kind) for kind in kinds]
        return (*paths, *(files.path(id_) for files in self.labels.values()))

    def recipe(self, recipe: InputRecipe) -> InputRecipe:
        """An input blob of one of this data set's images, to the last bit as the release did it."""
        if not self.single_precision_mean:
            return recipe
        return replace(recipe, mean=tuple(float(np.float32(value)) for value in recipe.mean))

    def _images(self, kind: str) -> Files:
        if kind == "grey" and kind not in self.images:
            kind = "color"  # of which it is made
        if kind not in self.images:
            known = ", ".join(self.images)
            raise DataError(f"{self.title} has no images of kind {kind!r}, only {known}", path=self.root)
        return self.images[kind]
