"""The contents of a data set as they are: ids, pixels, files without partners, and everything that looks off.

Scores and losses cannot tell that labels were misread; a table of what is in them can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ImageError
from ..predict.image_lists import is_there
from .errors import DataError
from .files import packed
from .finding import FoundFiles, ListedFiles, files_by_stem
from .masks import MaskReader, read_mask
from .records import DataSet

SAMPLE = 32
"""The label maps that are looked at before training and evaluating, spread over the split."""
_MOSTLY = 0.5
_SMOOTHED = 24
"""Ids beyond the classes in one grey map from which on it looks smoothed, or grey made of colours."""


@dataclass(frozen=True)
class Findings:
    """The result of a check of `images` of `total` images, for one output, `head`.

    `pixels` of each class and `maps` that have it, `ignored` pixels; `stored`, the ids or colours in the files that
    became each class and, last, void, where they are known (() else); `bad` files by image, one line each; files that
    have no partner; the `doubts`, a sentence each, that a person should settle before trusting a number; and what to do
    about the first bad file, `hint`.
    """

    head: str
    classes: tuple[str, ...]
    images: int
    total: int
    pixels: tuple[int, ...]
    maps: tuple[int, ...]
    ignored: int
    bad: dict[str, str]
    without_label: tuple[str, ...]
    without_image: tuple[str, ...]
    doubts: tuple[str, ...]
    hint: str = ""
    stored: tuple[tuple[str, ...], ...] = ()

    @property
    def share_ignored(self) -> float:
        """The share of all pixels that are ignored."""
        return self.ignored / max(1, self.ignored + sum(self.pixels))

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """The classes without a pixel."""
        return tuple(name for name, count in zip(self.classes, self.pixels, strict=True) if not count)


def check(
    data: DataSet, *, sample: int | None = None, images: bool = True, progress: Callable[[int, int], None] | None = None
) -> tuple[Findings, ...]:
    """Read the label maps of a split, and with `images` the images, and say what is there, for each output.

    `sample` looks at so many images only, spread over the split. Nothing is raised for a bad file: it is in `bad`.
    """
    ids = _spread(data.ids, sample)
    counts = {head: np.zeros((2, 256), np.int64) for head in data.labels}
    stored: dict[str, dict[int, set[int]]] = {head: {} for head in data.labels}
    bad: dict[str, str] = {}
    hint = ""
    for number, id_ in enumerate(ids, start=1):
        try:
            for head, labels in _labels(data, id_, images=images):
                found = np.bincount(labels.ravel(), minlength=256)
                counts[head] += np.stack([found, found > 0])
                _remember(data, id_, head, labels, stored[head])
        except (DataError, ImageError) as error:
            bad[id_], *rest = str(error).splitlines()
            hint = hint or " ".join(line.strip() for line in rest)
        if progress is not None:
            progress(number, len(ids))
    return tuple(
        _findings(data, head, counts[head], _stored(data, head, stored[head]), ids, bad, hint) for head in data.labels
    )


def _remember(data: DataSet, id_: str, head: str, labels: np.ndarray, seen: dict[int, set[int]]) -> None:
    """Add the ids, or colours as one number, that a map holds to those seen of each label."""
    files = data.labels[head]
    if not isinstance(files, FoundFiles | ListedFiles) or not isinstance(files.read, MaskReader):
        return
    found = read_mask(files.path(id_), colours=bool(files.read.colours))
    if found.ndim == 3:
        found = packed(found).astype(np.int64)
    for pair in np.unique(found.astype(np.int64) * 256 + labels).tolist():
        seen.setdefault(pair % 256, set()).add(pair // 256)


def _stored(data: DataSet, head: str, seen: dict[int, set[int]]) -> tuple[tuple[str, ...], ...]:
    """The ids or colours of each class, and of void, as text."""
    reader = data.labels[head].read
    if not seen or not isinstance(reader, MaskReader):
        return ()
    form = "#{:06x}" if reader.colours else "{}"
    order = [*range(len(data.classes[head])), data.ignore_label]
    return tuple(tuple(form.format(value) for value in sorted(seen.get(label, ()))) for label in order)


def _labels(data: DataSet, id_: str, *, images: bool) -> Iterator[tuple[str, np.ndarray]]:
    if images:
        yield from data.read(id_, kinds=list(data.images)[:1]).labels.items()
        return
    for head in data.labels:
        yield head, data.read_labels(id_, head)


def _findings(
    data: DataSet,
    head: str,
    counts: np.ndarray,
    stored: tuple[tuple[str, ...], ...],
    ids: Sequence[str],
    bad: dict[str, str],
    hint: str,
) -> Findings:
    names = data.classes[head]
    without_label, without_image = _partners(data, head)
    found = Findings(
        head=head,
        classes=names,
        images=len(ids),
        total=len(data.ids),
        pixels=tuple(counts[0, : len(names)].tolist()),
        maps=tuple(counts[1, : len(names)].tolist()),
        ignored=int(counts[0].sum() - counts[0, : len(names)].sum()),
        bad=bad,
        without_label=without_label,
        without_image=without_image,
        doubts=(),
        hint=hint,
        stored=stored,
    )
    return replace(found, doubts=tuple(_doubts(data, found, ids)))


def _doubts(data: DataSet, found: Findings, ids: Sequence[str]) -> Iterator[str]:
    whole = found.images == found.total
    labelled = [name for name, count in zip(found.classes, found.pixels, strict=True) if count]
    if found.bad:
        yield f"{len(found.bad)} of {found.images} images cannot be used, the first: {next(iter(found.bad.values()))}"
    if len(found.bad) < found.images and not labelled:
        yield "no pixel is labelled with a class: everything is ignored"
    if len(labelled) == 1 and len(found.classes) > 1:
        extra = ""
        if found.ignored and (data.kind != "own" or found.stored[-1:] == (("255",),)):
            extra = (
                f"; the rest is {data.ignore_label}, which is void here: masks of 0 and 255 need void = [] and "
                "ids = { 0 = 0, 255 = 1 } in a dataset.toml"
            )
        yield f"only one class is labelled, {labelled[0]!r}: any net that says so everywhere scores 100{extra}"
    if found.share_ignored > _MOSTLY:
        yield f"{found.share_ignored:.0%} of the pixels are ignored"
    if whole and len(labelled) > 1 and found.unlabelled and not data.complete:
        named = ", ".join(found.unlabelled[:6]) + (" ..." if len(found.unlabelled) > 6 else "")
        several = len(found.unlabelled) > 1
        yield f"{len(found.unlabelled)} class{'es are' if several else ' is'} never labelled: {named}"
    if found.without_label:
        yield f"{_counted(found.without_label, 'image')} no label map, such as {found.without_label[0]}"
    if found.without_image:
        yield f"{_counted(found.without_image, 'label map')} no image, such as {found.without_image[0]}"
    yield from _smoothed(data, found.head, found.bad)


def _counted(names: Sequence[str], what: str) -> str:
    return f"1 {what} has" if len(names) == 1 else f"{len(names)} {what}s have"


def _smoothed(data: DataSet, head: str, bad: dict[str, str]) -> Iterator[str]:
    """The reason why maps were refused, where it shows: smoothing, or grey made of a palette, leaves many values."""
    for id_ in list(bad)[:4]:
        path = data.labels[head].shown(id_)
        if path.suffix.lower() not in (".png", ".bmp", ".tif", ".tiff", ".npy") or not is_there(path):
            continue
        try:
            stored = read_mask(path)
        except (DataError, ImageError):
            continue
        values = np.unique(stored)
        beyond = [value for value in values.tolist() if value >= len(data.classes[head])]
        if len(beyond) > _SMOOTHED and stored.dtype == np.uint8:
            yield f"{path.name} holds {len(values)} different values: it was resized with smoothing, or is a photograph"
            return


def _partners(data: DataSet, head: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of images without a label map, and of label maps without an image, where both are folders."""
    images, labels = next(iter(data.images.values())), data.labels[head]
    if not isinstance(images, FoundFiles) or not isinstance(labels, FoundFiles):
        return (), ()
    pictures, maps = files_by_stem(images.folder), files_by_stem(labels.folder)
    if data.listed:
        return tuple(id_ for id_ in data.ids if labels.name.format(id_) not in maps), ()
    known = {images.name.format(id_) for id_ in data.ids}
    used = {labels.name.format(id_) for id_ in data.ids}
    return tuple(stem for stem in pictures if stem not in known), tuple(stem for stem in maps if stem not in used)


def _spread(ids: Sequence[str], sample: int | None) -> tuple[str, ...]:
    if sample is None or sample >= len(ids):
        return tuple(ids)
    return tuple(ids[i * len(ids) // sample] for i in range(sample))
