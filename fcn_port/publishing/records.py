"""The records in a published net's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from converters.errors import CaffeFormatError
from converters.safety import read_json, to_record
from weights.card import Card
from weights.records import Preprocessing

FORMAT = "fcn-port published net, 1"
CONFIG, WEIGHTS, ONNX, GOLDEN, CARD = "config.json", "model.safetensors", "onnx/model.onnx", "golden.npz", "README.md"
"""The files of a published net."""


def is_published(folder: Path) -> bool:
    """True for a folder with a published net's config.json, whatever is in that."""
    return (folder / CONFIG).is_file()


@dataclass(frozen=True)
class PublishedFile:
    """A file's size in bytes and its SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class PublishedSource:
    """The file that the weights were taken from, as it was called, with its digest and where it was published."""

    file: str
    sha256: str
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedNet:
    """A net's config.json: what it is, how its inputs are made, what its classes are, and the files beside it.

    `inputs` and `outputs` are shapes by blob, at any height and width where `any_size` is true. `files` has all but the
    model card, which people may edit, and config.json itself. `prototxt_sha256` is the digest of a definition that was
    given beside the source.
    """

    format: str
    name: str
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    any_size: bool
    parameters: int
    files: Mapping[str, PublishedFile]
    tolerance: float
    made_by: str
    net: str | None = None
    source: PublishedSource | None = None
    preprocessing: Preprocessing | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    palette: str | None = None
    licence: str | None = None
    prototxt_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The record in JSON's types; what is not known is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def read(cls, folder: Path) -> PublishedNet:
        """The record of a folder; CaffeFormatError that names config.json where it is damaged or of another kind."""
        path = folder / CONFIG
        found = read_json(path)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            said = found.get("format") if isinstance(found, dict) else None
            raise CaffeFormatError(f"its format is {said!r:.60}; expected {FORMAT!r}", path=path)
        try:
            return to_record(found, cls, ignore_unknown=True)
        except CaffeFormatError as error:
            raise error.in_file(path) from None

    def says_what(self, card: Card) -> bool:
        """True where classes and ways to make inputs are those of the card that travels with the weights."""
        return self.preprocessing == card.preprocessing and dict(self.classes) == dict(card.classes)
