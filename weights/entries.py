"""Entries as they stand in releases.toml and famous.toml, where they refer to each other by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from converters.errors import CaffeFormatError
from weights.records import Channels, InputRecipe, Licence, PublishedFigure, Score, Task


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The entries of both files by section; CaffeFormatError for one that is in both."""
    found = dict(first)
    for section, entries in second.items():
        already = found.get(section, {})
        if isinstance(already, dict) and isinstance(entries, dict):
            twice = ", ".join(already.keys() & entries.keys())
            if twice:
                raise CaffeFormatError("is in releases.toml and in famous.toml", where=f"{section}.{twice}")
            found[section] = {**already, **entries}
        else:
            found[section] = entries
    return found


@dataclass(frozen=True)
class InputEntry:
    """A kind of input; each release fills in the blob that it feeds."""

    channels: Channels
    mean: tuple[float, ...]
    log: bool = False
    scale: float = 1.0
    resize: tuple[int, ...] = ()

    def recipe(self, name: str, kind: str) -> InputRecipe:
        """The recipe of the input blob `name`."""
        return InputRecipe(name, kind, self.channels, self.mean, self.log, self.scale, self.resize)


@dataclass(frozen=True)
class DatasetEntry:
    """A data set; `labels` is the file in labels/ that has the classes of its one head, `prob`, a line each."""

    title: str
    inputs: Mapping[str, InputEntry] = field(default_factory=dict)
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: str | None = None
    palette: str | None = None
    ignore_label: int | None = None
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True)
class ReleaseEntry:
    """A file of weights, with its data set, licence and architecture by their keys."""

    file: str
    dataset: str
    licence: str
    urls: tuple[str, ...] = ()
    prototxts: tuple[str, ...] = ()
    size: int | None = None
    blob_bytes: int | None = None
    sha256: str | None = None
    sha1: str | None = None
    md5: str | None = None
    git: str | None = None
    architecture: str | None = None
    bundled: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True)
class FamousEntry(ReleaseEntry):
    """An entry of famous.toml: besides the file, what `About` holds; `recipes` where inputs are not the data set's."""

    title: str = ""
    task: Task = "classify"
    purpose: str = ""
    running: str = ""
    papers: tuple[str, ...] = ()
    figures: tuple[PublishedFigure, ...] = ()
    by_hand: str | None = None
    recipes: Mapping[str, InputEntry] = field(default_factory=dict)
    read: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class CatalogueFile:
    """Both files, section by section."""

    sources: Mapping[str, str] = field(default_factory=dict)
    licences: Mapping[str, Licence] = field(default_factory=dict)
    datasets: Mapping[str, DatasetEntry] = field(default_factory=dict)
    releases: Mapping[str, ReleaseEntry] = field(default_factory=dict)
    bundled: Mapping[str, ReleaseEntry] = field(default_factory=dict)
    init: Mapping[str, ReleaseEntry] = field(default_factory=dict)
    famous: Mapping[str, FamousEntry] = field(default_factory=dict)


def refuse_empty_texts(found: Any, where: str = "") -> None:
    """CaffeFormatError for a text without a word in it, wherever it is."""
    if isinstance(found, str):
        if not found.strip():
            raise CaffeFormatError("is empty", where=where)
        return
    inner: Iterable[tuple[Any, Any]] = ()
    if is_dataclass(found):
        inner = vars(found).items()
    elif isinstance(found, Mapping):
        inner = found.items()
    elif isinstance(found, tuple):
        inner = enumerate(found)
    for name, each in inner:
        refuse_empty_texts(each, f"{where}[{name}]" if isinstance(name, int) else f"{where}.{name}".lstrip("."))
