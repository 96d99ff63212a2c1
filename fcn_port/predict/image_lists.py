"""The images that files, folders and lists mean, and the name under which the results of each go."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from converters.given import without_ending
from converters.safety import read_lines

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".npy")
"""Of images and label maps, in small letters: Pillow's formats of `pictures.FORMATS`, and arrays."""
_NO_PICTURES = ("BUFR", "GRIB", "HDF5", "MPEG", "PDF")
"""Formats with endings that Pillow knows beside those of pictures: such files, as weights in an .h5, are no images."""
_SPACED = re.compile(rf"(.*?(?:{'|'.join(map(re.escape, ENDINGS))}))(?:\s+(.*))?$", re.IGNORECASE)
"""A file's name, and what comes after it and spaces."""
OUTPUTS = (".labels.png", ".overlay.png", ".scores.npz")
"""The endings of an image's results; such files are not taken for images of a folder."""
DETECTIONS = (".detections.png", ".detections.json")
"""The endings of the results of an image in which a net finds objects."""
SIDECAR = ".labels.json"
"""The ending of the table of classes beside an image's labels."""
CLASSIFICATION = ".classes.json"
"""The ending of the classes that a net gives an image as a whole."""
GEOTIFF, POLYGONS = ".labels.tif", ".polygons.geojson"
"""The endings of an image's labels as a GeoTIFF, and of their outlines."""
MAP = ".map.png"
"""The ending of a map of values."""
EDGES = (".edges.png", ".soft.png")
"""The endings of an image's edges, and of how certain they are."""
PROBABILITIES, MAPS, FRAMES = ".probabilities", ".maps", ".frames"
"""The endings of the folders of an image's probabilities, of its maps of values, and of a video's frames."""


@dataclass(frozen=True)
class ImageSource:
    """An image: its file, its name below the folder of results, without an ending, and which picture of the file.

    Of a data set `stored` gives the image of a kind of input, "color" or "bands", and `path` is its name for messages.
    """

    path: Path
    name: Path
    frame: int | None = None
    stored: Callable[[str], np.ndarray] | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The file and, where one picture of several is meant, its number."""
        return {"image": self.path, **({} if self.frame is None else {"frame": self.frame})}


def gather(given: Sequence[Path]) -> tuple[ImageSource, ...]:
    """The images that are meant, in order; a file that comes up twice is there once.

    A folder stands for all images below it, in the order of their names, numbers as numbers, so that frames of a video
    follow each other; links to folders are not followed. A `.txt` file is a list with a path on each line, seen from
    the list's own folder; of a list of pairs the first of each is an image. The name of an image keeps its folders:
    below the folder that was given, or below what all paths of a list share. Where several were given, each folder's
    name comes first. Images whose names differ only in their ending keep it, so that no two write the same file.
    FileNotFoundError where nothing is; ValueError where two images would still have one name, or where there is no
    image.
    """
    found: dict[Path, Path] = {}
    for each in given:
        root = Path(each.resolve().name) if len(given) > 1 and each.is_dir() else Path()
        for path, name in _images(each):
            found.setdefault(_absolute(path), root / name)
    if not found:
        raise ValueError(f"no image in {', '.join(map(str, given))}")
    names = _without_endings(list(found.values()))
    _refuse_equal(list(found), names)
    return tuple(ImageSource(path, name) for path, name in zip(found, names, strict=True))


def check_is_there(sources: Sequence[ImageSource]) -> None:
    """OSError where the only image is no file that can be reached: said before a net is fetched for it."""
    if len(sources) == 1 and sources[0].stored is None:
        sources[0].path.stat()


def is_single(given: Sequence[Path]) -> bool:
    """True where one image file is meant."""
    return len(given) == 1 and not given[0].is_dir() and given[0].suffix.lower() != ".txt"


def _images(given: Path) -> Iterator[tuple[Path, Path]]:
    """Each image with its name, ending included."""
    if given.is_dir():
        for path in _below(given):
            yield path, path.relative_to(given)
    elif given.suffix.lower() == ".txt":
        paths = _listed(given)
        shared = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
        for path in paths:
            yield path, path.relative_to(shared)
    else:
        yield given, Path(given.name)


def _below(folder: Path) -> Iterator[Path]:
    known = Image.registered_extensions()
    endings = frozenset((*(ending for ending in known if known[ending] not in _NO_PICTURES), ".npy"))

    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=fail):
        folders[:] = sorted(
            (f for f in folders if not f.startswith(".") and not f.endswith((PROBABILITIES, MAPS, FRAMES))), key=_order
        )
        for file in sorted(files, key=_order):
            if (
                not file.startswith(".")
                and not file.endswith((*OUTPUTS, *DETECTIONS, *EDGES, MAP, GEOTIFF))
                and Path(file).suffix.lower() in endings
            ):
                yield Path(place, file)


def _listed(path: Path) -> list[Path]:
    lines = (line.strip() for line in read_lines(path, errors="surrogateescape"))
    return [_absolute(_located(path.parent, line)) for line in lines if line]


def _located(folder: Path, line: str) -> Path:
    """The image of a line: the file that the whole line names, else its first column, also with Windows' slashes."""
    whole = folder / line
    if is_there(whole):
        return whole
    first = folder / row_of(line)[0]
    turned = Path(str(first).replace("\\", "/"))
    return turned if not is_there(first) and is_there(turned) else first


def is_there(path: Path) -> bool:
    """True for a file or a folder that is there; False also for a name that is too long for one, as a line may be."""
    try:
        return path.exists()
    except OSError:  # before Python 3.14
        return False


def row_of(line: str) -> tuple[str, ...]:
    """The columns of a line of a list: parted by a tab, a semicolon, a comma or, where there is none, by spaces."""
    text = line.strip()
    for mark in ("\t", ";", ","):
        if mark in text:
            return tuple(part.strip().strip('"') for part in text.split(mark))
    if found := _SPACED.match(text):  # names may have spaces, which end no name before its ending
        return tuple(part for part in found.groups() if part)
    return tuple(text.split())


def _absolute(path: Path) -> Path:
    """Without `..`, and with links as they are: a link's own name is what people know an image by."""
    found = os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links
    return Path(found[1:] if found.startswith("//") else found)  # POSIX keeps two, and what folders share has one


def _order(name: str) -> tuple[tuple[int, int | str], ...]:
    """Numbers as numbers: frame 9 before frame 10."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((0, int(part)) if i % 2 else (1, part) for i, part in enumerate(parts))


def _without_endings(names: list[Path]) -> list[Path]:
    """The names without their endings, but for those that would then be another's."""
    short = [without_ending(name) for name in names]
    while True:
        count = Counter(short)
        longer = [name if count[cut] > 1 else cut for name, cut in zip(names, short, strict=True)]
        if longer == short:
            return short
        short = longer


def _refuse_equal(paths: list[Path], names: list[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path, name in zip(paths, names, strict=True):
        if name in seen:
            raise ValueError(
                f"{seen[name]} and {path} would both write {name}{OUTPUTS[0]}; give the folder above them, or one at "
                "a time"
            )
        seen[name] = path
