"""The records of the catalogue: a release, its data set, how its inputs are made, and what it scored.

All are frozen; `catalogue.py` reads them from releases.toml. `Preprocessing` also travels in the metadata of converted
files, as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from converters.errors import CaffeFormatError
from converters.lazy import lazy_attributes
from converters.safety import to_record

Channels = Literal["bgr", "file"]
PALETTES = ("voc", "cityscapes", "camvid", "ade20k")
"""Colours of label maps that have a name; others are written out, "#rrggbb #rrggbb ...", a colour for each class."""
Kind = Literal["fcn", "init", "bundled", "famous"]
Task = Literal["segment", "classify", "detect", "edges", "pose", "flow", "colour", "enlarge"]

TASKS: Mapping[Task, str] = MappingProxyType(
    {
        "segment": "label every pixel",
        "classify": "say what an image is of",
        "detect": "find objects and faces",
        "edges": "find edges",
        "pose": "find the joints of people",
        "flow": "see motion between two images",
        "colour": "colour a grey image",
        "enlarge": "make an image larger",
    }
)
"""The tasks of nets in words, by the key that the catalogue uses."""

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "overall_accuracy": "overall accuracy",
        "mean_accuracy": "mean accuracy",
        "mean_iu": "mean IU",
        "fwavacc": "f.w. IU",
    }
)
"""The paper's metrics (section 5): the names of fields, and what people call them; "f.w." is frequency weighted."""

IGNORE_LABEL = 255
"""The label of pixels that do not count, in PASCAL VOC's label maps and so everywhere here."""

_COLOURS = re.compile(r"#[0-9a-fA-F]{6}( #[0-9a-fA-F]{6}){0,255}")
_LARGEST = 3.4e38
_LARGEST_SIDE = 1 << 16


def check_palette(text: str) -> None:
    """Raise CaffeFormatError for what is no palette: neither one of PALETTES nor colours."""
    if text not in PALETTES and not _COLOURS.fullmatch(text):
        known = ", ".join(PALETTES)
        raise CaffeFormatError(f"'{text:.40}' is none of {known} or #rrggbb #rrggbb ...", where="palette")


@dataclass(frozen=True)
class Checksum:
    """A published digest: `algorithm` as hashlib names it, or "git" for git's id of a file; `digest` in lower-case hex.

    git's id is the SHA-1 of `blob <size>`, a zero byte, and the file: a file in a repository has it published.
    """

    algorithm: Literal["sha256", "sha1", "md5", "git"]
    digest: str

    def __str__(self) -> str:
        return f"{self.algorithm} {self.digest}"


@dataclass(frozen=True)
class InputRecipe:
    """The way to make one input blob of a stored image with values as stored (0 to 255 for colour and HHA).

    `x = (log(image) if log else image)[channels] - mean) * scale`, float32, laid out (1, channels, h, w), never
    resized. `channels` "bgr" reverses an RGB image, "file" leaves the stored order; `mean` is in the net's order.
    `resize` is for nets that see an image of one size, and says how it is made before that size is cut from its centre:
    (256,) scales the shorter side to that, (256, 256) height and width; empty scales both sides to the net's.
    """

    name: str
    kind: str
    channels: Channels
    mean: tuple[float, ...]
    log: bool = False
    scale: float = 1.0
    resize: tuple[int, ...] = ()

    @property
    def image(self) -> str:
        """The kind of image that is read for it: `kind`, or "grey" where one channel is made of colours."""
        return "grey" if self.kind == "color" and len(self.mean) == 1 else self.kind

    def __post_init__(self) -> None:
        if self.channels not in get_args(Channels):
            raise CaffeFormatError(f"expected bgr or file; found {self.channels!r:.40}", where="channels")
        if not self.mean:
            raise CaffeFormatError("expected a number for each channel, found none", where="mean")
        if len(self.resize) > 2 or not all(0 < side <= _LARGEST_SIDE for side in self.resize):
            raise CaffeFormatError("expected the shorter side, or height and width, in pixels", where="resize")
        for number in (*self.mean, self.scale):
            if not -_LARGEST < number < _LARGEST:
                raise CaffeFormatError(f"expected means and a scale that a float32 holds, found {number:g}")


@dataclass(frozen=True)
class Augmentation:
    """The variation of images while a net learned: transform_param's crop_size (0: none) and mirror, a range of scales.

    `resize` is the height and width that images were brought to before that; empty for their own. A net that is run
    does none of this.
    """

    crop_size: int = 0
    mirror: bool = False
    scales: tuple[float, float] = (1.0, 1.0)
    resize: tuple[int, ...] = ()


@dataclass(frozen=True)
class Preprocessing:
    """The ways to make the inputs of a net; one `Input` for each input blob."""

    inputs: tuple[InputRecipe, ...]

    def __post_init__(self) -> None:
        if not self.inputs:
            raise CaffeFormatError("expected one for each input blob of the net, found none", where="inputs")

    def to_json(self) -> dict[str, Any]:
        """The record in JSON's types, as it stands in the metadata of a converted file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Preprocessing:
        """The record that `to_json` wrote; CaffeFormatError (a ValueError) names what is missing or wrong."""
        return to_record(data, cls, where="preprocessing", ignore_unknown=True)


@dataclass(frozen=True)
class Score:
    """One published or measured result, in percent; None where the source does not give the number.

    The four metrics are the paper's (section 5): overall (pixel) accuracy, mean accuracy, mean IU, and frequency
    weighted IU. `model` names what was run if it is not a release, `head` the output if there are several, `seconds`
    is the time for an image.
    """

    split: str
    source: str
    model: str | None = None
    head: str | None = None
    overall_accuracy: float | None = None
    mean_accuracy: float | None = None
    mean_iu: float | None = None
    fwavacc: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [value for name in METRICS if (value := getattr(self, name)) is not None]
        if not given or not all(0 <= value <= 100 for value in given):
            raise CaffeFormatError(f"a score needs at least one of {', '.join(METRICS)}, in percent")


@dataclass(frozen=True)
class PublishedFigure:
    """One published result that is not a segmentation's: `metric` in its own words, and what it was measured `on`."""

    metric: str
    value: float
    on: str


@dataclass(frozen=True)
class About:
    """The knowledge of a famous net besides its file: what it is for, how it is run, and where each fact was read.

    `sources` has a place for each fact that the entry gives, by its name in the catalogue ("urls", "sha1", "inputs",
    "licence", "figures", ...). `by_hand` says how to come by a file that no program can fetch, for it lies in an
    archive or behind a page; None where it can be fetched.
    """

    title: str
    task: Task
    purpose: str
    running: str
    papers: tuple[str, ...]
    figures: tuple[PublishedFigure, ...]
    by_hand: str | None
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Licence:
    """The terms that a file was published under, as far as they are known, and whom to cite."""

    name: str
    url: str
    note: str
    attribution: str


@dataclass(frozen=True)
class Dataset:
    """A data set, as its releases share it: kinds of input, class names by output blob, palette, ignored label."""

    name: str
    title: str
    inputs: Mapping[str, InputRecipe]
    heads: Mapping[str, tuple[str, ...]]
    palette: str | None
    ignore_label: int | None
    scores: tuple[Score, ...]

    @property
    def num_classes(self) -> int | dict[str, int]:
        """As `fcn_port.build` takes it: a number, or `{"sem": 33, "geo": 3}` for several outputs."""
        if set(self.heads) == {"score"}:
            return len(self.heads["score"])
        return {blob.removeprefix("score_"): len(names) for blob, names in self.heads.items()}


@dataclass(frozen=True)
class Release:
    """One published caffemodel: where it is, how it is checked, what it is and what it scored.

    `kind` is "fcn", "init" for a classification net to start from, "bundled" for one that comes with this project,
    as the file `bundled` in the package `weights`, or "famous" for one of Caffe's other nets, of which `about` says
    more; `architecture` is the net written out for it, by its name in `fcn_port.nets.ARCHITECTURES`; `preprocessing` is
    None where nobody said how inputs are made. `size` is in bytes, `blob_bytes` what its float32 blobs alone take; None
    where unknown.
    """

    name: str
    kind: Kind
    file: str
    urls: tuple[str, ...]
    prototxts: tuple[str, ...]
    size: int | None
    blob_bytes: int | None
    checksums: tuple[Checksum, ...]
    architecture: str | None
    bundled: str | None
    dataset: Dataset
    preprocessing: Preprocessing | None
    licence: Licence
    scores: tuple[Score, ...]
    about: About | None = None

    @property
    def net(self) -> str | None:
        """The name under which `fcn_port.build` makes it; None where no net of this project's is written out for it."""
        return self.name if self.architecture is not None else None

    @property
    def task(self) -> Task:
        """The task that the net is for."""
        if self.about is not None:
            return self.about.task
        return "classify" if self.kind == "init" else "segment"

    @property
    def checksum(self) -> Checksum | None:
        """The strongest checksum that was published, or None."""
        return self.checksums[0] if self.checksums else None

    @property
    def expected_bytes(self) -> int | None:
        """The size if known, else that of the blobs, a few kilobytes less; for disk space and time, not for checks."""
        return self.size if self.size is not None else self.blob_bytes

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """Class names in output order, by output blob: `score`, or `score_sem` and `score_geo`."""
        return self.dataset.heads

    @property
    def num_classes(self) -> int | dict[str, int]:
        """As `fcn_port.build` takes it: a number, or `{"sem": 33, "geo": 3}` for several outputs."""
        return self.dataset.num_classes


__getattr__, __dir__ = lazy_attributes(__name__, {}, renamed={"Input": "InputRecipe"})
