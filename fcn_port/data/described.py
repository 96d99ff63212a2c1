"""The data set that a description (description.py) describes: its classes, colours, files and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np

from weights.catalogue import datasets
from weights.records import IGNORE_LABEL, InputRecipe

from ..predict.palettes import PALETTES, palette
from .description import GIVEN, Description, SplitDescription, blaming, given, mean_of_file, read_description
from .drawings import DrawnFiles, read_drawings
from .errors import DataError
from .finding import FoundFiles, ListedFiles, ListedPair, files_by_stem, names_files, own_images, read_pairs
from .images import read_color
from .label_maps import LabelMapEntry, parse_colour, read_label_map
from .lists import read_list, split_file, split_name
from .masks import Colour, MaskReader
from .records import DataSet, Files
from .stored import is_hdf5, is_store, open_store, stored_images, stored_labels

OWN = "own"
"""The name of a data set that is none of the catalogue's."""


def open_described(path: Path, *, split: str | None = None) -> DataSet:
    """A split of the data set that a file describes; by default the one that it names.

    Raises FileNotFoundError where file, folder or list is missing, DataError for a description that does not fit, which
    is a GivenFieldError where fields that were given (`describing`) are at fault.
    """
    with blaming(path, lambda: _open_described(path, split)):
        return _open_described(path, split)


def _open_described(path: Path, split: str | None) -> DataSet:
    found = read_description(path)
    chosen = split or found.split
    name = split_name(chosen)
    places = _places(found, name)
    if places.list:
        places = replace(places, list=str(path.parent / places.list))
    if Path(chosen).suffix and Path(chosen).is_file():
        places = replace(places, list=chosen)
    elif places.list and not Path(places.list).is_file():
        places = replace(places, list=str(split_file(name, (Path(places.list).parent, path.parent))))
    return _Described(path, found, places, name).data_set()


def described(path: Path) -> DataSet:
    """The data set that a file describes without its files: classes, colours and the way to make inputs alone."""
    with blaming(path, lambda: _described(path)):
        return _described(path)


def _described(path: Path) -> DataSet:
    says = read_description(path)
    return _Described(path, says, _places(says, split_name(says.split)), says.split).without_files()


@dataclass(frozen=True)
class _Described:
    """One split of a description, being opened."""

    path: Path
    says: Description
    places: SplitDescription
    split: str

    @property
    def root(self) -> Path:
        return self.path.parent

    def data_set(self) -> DataSet:
        known = self.without_files()
        self._check_names()
        if self.places.annotations:
            ids, images, labels, _ = self._drawn
            return replace(known, ids=ids, images=own_images(images), labels={"score": labels})
        classes, entries = self._classes()
        reader = self._reader(classes, entries)
        if is_store(self.root / self.places.images):
            return self._of_stores(known, reader)
        ids, images, labels = self._files(reader)
        return replace(known, ids=ids, images=own_images(images), labels={"score": labels})

    def _of_stores(self, known: DataSet, reader: MaskReader) -> DataSet:
        """The data set whose images, and label maps, lie in stores of Caffe's."""
        place, beside = self.root / self.places.images, self.root / self.places.labels
        if not is_store(beside):
            self._fail(f"{beside}: no LMDB, LevelDB or HDF5 of label maps, as {place} is of images",
                       hint='labels = "..." names it; a label of a whole image is not used')  # fmt: skip
        store = open_store(place, top=self.says.image_top)
        ids, images = stored_images(store, place)
        labels = stored_labels(open_store(beside, top=self.says.label_top), beside, store, ids, reader)
        if self.places.list:
            stored = set(ids)
            wanted = read_list(Path(self.places.list), there=stored)
            if missing := next((id_ for id_ in wanted if id_ not in stored), None):
                self._fail(f"{self.places.list} names {missing!r}, which is no record of {place}")
            ids = wanted
        return replace(known, ids=ids, images=images, labels={"score": labels})

    @cached_property
    def _drawn(self) -> tuple[tuple[str, ...], Files, Files, tuple[str, ...]]:
        """The images of drawings: those that a list names, else all whose files are there."""
        place = self.root / self.places.annotations
        drawings, names = read_drawings(place)
        classes = self.says.classes or self._classes_of(names)
        images = FoundFiles(self.root / self.places.images, self.says.image_name, read_color)
        there = files_by_stem(images.folder)
        if self.places.list:
            ids = read_list(Path(self.places.list), there=drawings)
        else:
            ids = tuple(id_ for id_ in drawings if id_ in there)
        missing = [id_ for id_ in ids if id_ not in drawings]
        if missing or not ids:
            what = f"{missing[0]} and {len(missing) - 1} more are not in it" if missing else "no image of it is here"
            self._fail(f"{place}: {what}", hint=f"images are looked for in {images.folder}")
        void = self.says.others == "void"
        reader = MaskReader(others_void=void)  # draws nothing; kept results are told apart by it
        return ids, images, DrawnFiles(place, "{}", reader, drawings, classes, void), classes

    def _classes_of(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The classes of drawings: what no shape covers first."""
        ground = next((name for name in names if name.strip("_ ").lower() in ("background", "ground")), "background")
        return (ground, *(name for name in names if name != ground))

    def without_files(self) -> DataSet:
        """The data set's names, colours and way to make inputs, without an image."""
        classes, entries = self._classes()
        like = self.says.like
        return DataSet(
            name=OWN,
            kind=OWN,
            title=self.says.title or self.root.resolve().name,
            root=self.root,
            split=self.split,
            ids=(),
            images={},
            labels={},
            classes={"score": classes},
            inputs={"color": self._recipe()},
            listed=bool(self.places.list),
            palette=self._palette_name(entries) or (datasets()[like].palette if like else "voc"),
        )

    # Classes

    def _classes(self) -> tuple[tuple[str, ...], tuple[LabelMapEntry, ...]]:
        """The names of the classes, and what a label map file says of them and of void."""
        says = self.says
        if says.like and says.like not in datasets():
            self._fail(f"like = '{says.like}'; there are {', '.join(datasets())}")
        entries = read_label_map(self.root / says.label_map) if says.label_map else ()
        classes = says.classes or tuple(entry.name for entry in self._scored(entries))
        if not classes and says.like:
            classes = next(iter(datasets()[says.like].heads.values()))
        drawn = not classes and bool(self.places.annotations)
        if drawn:
            classes = self._drawn[3]
        if not classes:
            self._fail('no classes: say classes = ["background", ...], label_map = "FILE" or like = "voc"')
        if len(classes) > IGNORE_LABEL:
            hint = 'name those that count: classes = ["background", ...], and others = "void"' if drawn else ""
            self._fail(f"{len(classes)} classes; expected at most {IGNORE_LABEL}: a label map holds bytes", hint=hint)
        if twice := next((name for name in classes if classes.count(name) > 1), None):
            self._fail(f"{len(classes)} classes, and two are called {twice!r:.60}; expected each once")
        return classes, entries

    def _scored(self, entries: tuple[LabelMapEntry, ...]) -> list[LabelMapEntry]:
        """The entries that are classes, by their ids where the file has some."""
        kept = [e for e in entries if not e.is_void and (e.id is None or e.id not in self.says.void)]
        return sorted(kept, key=lambda e: e.id) if all(e.id is not None for e in kept) else kept  # type: ignore[arg-type, return-value]

    def _reader(self, classes: tuple[str, ...], entries: tuple[LabelMapEntry, ...]) -> MaskReader:
        says, scored = self.says, self._scored(entries)
        ids = {self._id(key): value for key, value in says.ids.items()}
        if len(ids) < len(says.ids):
            self._fail(f"ids: {', '.join(list(says.ids)[:12])}: one of them stands there twice")
        void = says.void
        if not ids and any(entry.id is not None for entry in scored):
            if {entry.name for entry in scored} - set(classes):
                self._fail(f"{says.label_map} has classes that are not in classes")
            ids = {entry.id: classes.index(entry.name) for entry in scored if entry.id is not None}
            void = (*void, *(entry.id for entry in entries if entry.is_void and entry.id is not None))
        if not ids and says.others == "void":
            ids = {says.first_id + label: label for label in range(len(classes))}  # all else is void
        wrong = {value for value in ids.values() if not 0 <= value < len(classes) and value != IGNORE_LABEL}
        if wrong:
            self._fail(f"ids: class {min(wrong)}; classes are 0 to {len(classes) - 1}")
        return MaskReader(tuple(dict.fromkeys(void)), ids, says.first_id, self._colours(classes, entries),
                          says.others == "void")  # fmt: skip

    def _id(self, key: str) -> int:
        try:
            return int(key)
        except ValueError:
            self._fail(f"ids: {key!r:.40} is no number")

    def _colours(self, classes: tuple[str, ...], entries: tuple[LabelMapEntry, ...]) -> dict[Colour, int]:
        says = self.says
        found: dict[Colour, int] = {}
        if says.colours:
            if len(says.colours) != len(classes):
                self._fail(f"{len(says.colours)} colours for {len(classes)} classes")
            found = {self._colour(text): label for label, text in enumerate(says.colours)}
        elif says.palette:
            if says.palette not in PALETTES:
                self._fail(f"palette = '{says.palette}'; there are {', '.join(PALETTES)}")
            table = palette(says.palette)
            assert table is not None
            found = {_triple(table[label]): label for label in range(len(classes))}
            if _triple(table[IGNORE_LABEL]) not in found:
                found[_triple(table[IGNORE_LABEL])] = IGNORE_LABEL
        elif any(entry.colour is not None for entry in entries):
            for entry in entries:
                if entry.colour is not None:
                    void = entry.is_void or entry.name not in classes
                    found[entry.colour] = IGNORE_LABEL if void else classes.index(entry.name)
        return {**found, **{self._colour(text): IGNORE_LABEL for text in says.void_colours}}

    def _colour(self, text: str) -> Colour:
        colour = parse_colour(text)
        if colour is None:
            self._fail(f"'{text:.40}' is no colour: expected #rrggbb")
        return colour

    def _palette_name(self, entries: tuple[LabelMapEntry, ...]) -> str:
        """The colours for pictures of predictions, as a card keeps them."""
        if self.says.palette:
            return self.says.palette
        colours = [self._colour(text) for text in self.says.colours]
        if not colours and not self.says.classes:
            scored = self._scored(entries)
            colours = [entry.colour for entry in scored if entry.colour is not None]
            colours = colours if len(colours) == len(scored) else []
        return " ".join("#{:02x}{:02x}{:02x}".format(*colour) for colour in colours)

    # Inputs

    def _recipe(self) -> InputRecipe:
        says = self.says
        if says.channels == "all":
            given = says.mean or (mean_of_file(self.root / says.mean_file) if says.mean_file else (0.0,))
            return InputRecipe("data", "bands", "file", given, scale=says.scale)
        grey = says.channels == "grey"
        given = says.mean or (mean_of_file(self.root / says.mean_file) if says.mean_file else ())
        if given and len(given) not in ((1,) if grey else (1, 3)):
            self._fail(f"mean has {len(given)} numbers; expected {1 if grey else 3}, one for each channel")
        if not given and is_hdf5(self.root / self.places.images):
            given = (0.0,)  # Caffe's HDF5Data transforms nothing
        elif not given:
            like = datasets()[self.says.like or "voc"].inputs["color"].mean
            blue, green, red = like
            given = {"bgr": like, "rgb": like[::-1], "grey": (0.114 * blue + 0.587 * green + 0.299 * red,)}[
                says.channels
            ]
        mean = given if grey or len(given) == 3 else given * 3
        return InputRecipe("data", "color", "bgr" if says.channels == "bgr" else "file", mean, scale=says.scale)

    # Files

    def _check_names(self) -> None:
        for field in ("image_name", "label_name"):
            name: str = getattr(self.says, field)
            if name.count("{}") > 1 or set(name.replace("{}", "", 1)) & set("{}"):
                self._fail(f"{field} = '{name:.60}'; expected one {{}}, for the id of an image, and no other braces")

    def _files(self, reader: MaskReader) -> tuple[tuple[str, ...], Files, Files]:
        images, labels = self.root / self.places.images, self.root / self.places.labels
        color = FoundFiles(images, self.says.image_name, read_color)
        if self.places.list:
            path = Path(self.places.list)
            roots = (self.root, images)
            if names_files(path, roots=roots):
                return self._listed(read_pairs(path, roots=roots), labels, reader)
            ids = read_list(path, there=color.ids())
        else:
            ids = self._labelled(color, labels)
        return ids, color, FoundFiles(labels, self.says.label_name, reader, usual=".png")

    def _labelled(self, color: FoundFiles, labels: Path) -> tuple[str, ...]:
        """The images of a folder that have a label map."""
        images = color.folder
        for folder, what in ((images, "images"), (labels, "labels")):
            if not folder.is_dir():
                place = GIVEN if given(what) or not self.path.exists() else self.path
                hint = f'\n  {place} says where they are: {what} = "..."'
                raise FileNotFoundError(f"{folder}: there is no such folder of {what} for '{self.split}'{hint}")
        stems, there = files_by_stem(images), files_by_stem(labels)
        found = tuple(id_ for id_ in color.ids() if self.says.label_name.format(id_) in there)
        if not found:
            first = next(iter(there), None)
            seen = f"the first label map is {first!r}, the first image {next(iter(stems), None)!r}"
            self._fail(f"none of {len(stems)} images in {images} has a label map in {labels}: {seen}",
                       hint='label_name says what the label map of an image is called: "{}_mask"')  # fmt: skip
        return found

    def _listed(
        self, pairs: Mapping[str, ListedPair], labels: Path, reader: MaskReader
    ) -> tuple[tuple[str, ...], Files, Files]:
        """Files that a list names; where it names images only, label maps are found by their names."""
        beside = FoundFiles(labels, self.says.label_name, reader, usual=".png")
        masks = {id_: pair.label or beside.path(pair.image.stem) for id_, pair in pairs.items()}
        return (
            tuple(pairs),
            ListedFiles(self.root, "{}", read_color, {id_: pair.image for id_, pair in pairs.items()}),
            ListedFiles(labels, "{}", reader, masks),
        )

    def _fail(self, problem: str, *, hint: str = "") -> NoReturn:
        raise DataError(problem, path=self.path, hint=hint or None)


def _places(found: Description, split: str) -> SplitDescription:
    own = found.splits.get(split, SplitDescription())
    names = ("images", "labels", "list", "annotations")
    return SplitDescription(*((getattr(own, name) or getattr(found, name)).replace("{split}", split) for name in names))


def _triple(colour: np.ndarray) -> Colour:
    r, g, b = (int(value) for value in colour)
    return r, g, b
