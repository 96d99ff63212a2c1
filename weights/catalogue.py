"""The catalogue: `releases.toml` read into records, and looked up by name.

    releases()                 the 14 FCN releases, by name
    init_nets()                classification nets to start from
    datasets()                 what the releases of a data set share
    release("voc-fcn8s")       one of the first two; a typo gets the closest names
    parse_catalogue(text)      any catalogue, checked: every field's type, every reference, no unknown field

releases.toml explains its fields itself.
"""

from __future__ import annotations

import difflib
import functools
import importlib.resources
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from converters.errors import CaffeFormatError, place
from converters.safety import to_record
from weights.errors import CatalogueError, UnknownReleaseError
from weights.records import (
    Channels,
    Checksum,
    Dataset,
    InputRecipe,
    Kind,
    Licence,
    Palette,
    Preprocessing,
    Release,
    Score,
)

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

T = TypeVar("T")

DIGEST_LENGTHS: Mapping[Literal["sha256", "sha1", "md5"], int] = MappingProxyType({"sha256": 64, "sha1": 40, "md5": 32})
"""Algorithms from the strongest to the weakest, with the length of their digests in hex."""


@dataclass(frozen=True)
class Catalogue:
    """Everything that releases.toml says."""

    releases: Mapping[str, Release]
    init_nets: Mapping[str, Release]
    bundled: Mapping[str, Release]
    datasets: Mapping[str, Dataset]


def releases() -> Mapping[str, Release]:
    """The published FCN releases by name, in the order of the catalogue."""
    return _catalogue().releases


def init_nets() -> Mapping[str, Release]:
    """Published classification nets to start from, by name; they are fetched like releases."""
    return _catalogue().init_nets


def bundled() -> Mapping[str, Release]:
    """The releases that come with this project, by name; `fetch` takes them from the package."""
    return _catalogue().bundled


def datasets() -> Mapping[str, Dataset]:
    """The data sets, by the key that releases use."""
    return _catalogue().datasets


def release(name: str) -> Release:
    """The release, bundled release or init net called `name`; UnknownReleaseError offers the closest names."""
    known = {**releases(), **bundled(), **init_nets()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=0.5)
    offer = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"
    raise UnknownReleaseError(f"there is no release called {name!r}: {offer}")


def mentions(text: str) -> bool:
    """True where the catalogue's file has this text anywhere: a look that takes no parsing."""
    return text in _text()


@functools.cache
def _catalogue() -> Catalogue:
    return parse_catalogue(_text())


@functools.cache
def _text() -> str:
    return importlib.resources.files("weights").joinpath("releases.toml").read_text(encoding="utf-8")


def parse_catalogue(text: str) -> Catalogue:
    """A catalogue from the text of its TOML file; CatalogueError names the entry and the field that is wrong."""
    try:
        found = to_record(tomllib.loads(text), _CatalogueFile)
        _refuse_empty_texts(found)
        sets = {name: _dataset(name, entry, found.sources) for name, entry in found.datasets.items()}
        fcn = {name: _release(name, entry, "fcn", found, sets) for name, entry in found.releases.items()}
        init = {name: _release(name, entry, "init", found, sets) for name, entry in found.init.items()}
        own = {name: _release(name, entry, "bundled", found, sets) for name, entry in found.bundled.items()}
        _refuse_shared_files([*fcn.values(), *init.values(), *own.values()])
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"releases.toml: not TOML: {error}") from None
    except CaffeFormatError as error:
        raise CatalogueError(f"releases.toml: {error}") from None
    return Catalogue(MappingProxyType(fcn), MappingProxyType(init), MappingProxyType(own), MappingProxyType(sets))


# Entries as they stand in the file, where they refer to each other by key


@dataclass(frozen=True)
class _InputEntry:
    """A kind of input; each release fills in the blob that it feeds."""

    channels: Channels
    mean: tuple[float, ...]
    log: bool = False


@dataclass(frozen=True)
class _DatasetEntry:
    title: str
    inputs: Mapping[str, _InputEntry] = field(default_factory=dict)
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    palette: Palette | None = None
    ignore_label: int | None = None
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True)
class _ReleaseEntry:
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
    net: str | None = None
    bundled: str | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True)
class _CatalogueFile:
    sources: Mapping[str, str] = field(default_factory=dict)
    licences: Mapping[str, Licence] = field(default_factory=dict)
    datasets: Mapping[str, _DatasetEntry] = field(default_factory=dict)
    releases: Mapping[str, _ReleaseEntry] = field(default_factory=dict)
    bundled: Mapping[str, _ReleaseEntry] = field(default_factory=dict)
    init: Mapping[str, _ReleaseEntry] = field(default_factory=dict)


def _refuse_empty_texts(found: Any, where: str = "") -> None:
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
        _refuse_empty_texts(each, f"{where}[{name}]" if isinstance(name, int) else f"{where}.{name}".lstrip("."))


# What they refer to


def _dataset(name: str, entry: _DatasetEntry, sources: Mapping[str, str]) -> Dataset:
    where = f"datasets.{name}"
    for blob, names in entry.heads.items():
        if not names or len(set(names)) != len(names):
            raise CaffeFormatError("expected the names of its classes, each once", where=f"{where}.heads.{blob}")
    inputs = {}
    for kind, each in entry.inputs.items():
        with place(f"{where}.inputs.{kind}"):
            inputs[kind] = InputRecipe(name=kind, kind=kind, channels=each.channels, mean=each.mean, log=each.log)
    return Dataset(
        name=name,
        title=entry.title,
        inputs=MappingProxyType(inputs),
        heads=MappingProxyType(entry.heads),
        palette=entry.palette,
        ignore_label=entry.ignore_label,
        scores=_scores(entry.scores, f"{where}.scores", sources, entry.heads),
    )


def _scores(
    rows: Sequence[Score], where: str, sources: Mapping[str, str], heads: Mapping[str, object]
) -> tuple[Score, ...]:
    """Scores with the sources that they name by key."""
    found = []
    for index, row in enumerate(rows):
        with place(f"{where}[{index}]"):
            if row.head is not None:
                _known("head", row.head, heads)
            found.append(replace(row, source=_known("source", row.source, sources)))
    return tuple(found)


def _release(
    name: str, entry: _ReleaseEntry, kind: Kind, found: _CatalogueFile, sets: Mapping[str, Dataset]
) -> Release:
    section = {"fcn": "releases", "init": "init", "bundled": "bundled"}[kind]
    with place(f"{section}.{name}"):
        dataset = _known("dataset", entry.dataset, sets)
        _check(entry, kind, dataset)
        return Release(
            name=_file_name(name),
            kind=kind,
            file=_file_name(entry.file),
            urls=_urls("urls", entry.urls),
            prototxts=_urls("prototxts", entry.prototxts),
            size=_count("size", entry.size),
            blob_bytes=_count("blob_bytes", entry.blob_bytes),
            checksums=_checksums(entry),
            net=entry.net if kind == "fcn" else None,
            bundled=entry.bundled if kind == "bundled" else None,
            dataset=dataset,
            preprocessing=_preprocessing(entry, dataset),
            licence=_known("licence", entry.licence, found.licences),
            scores=_scores(entry.scores, "scores", found.sources, dataset.heads),
        )


def _check(entry: _ReleaseEntry, kind: Kind, dataset: Dataset) -> None:
    """CaffeFormatError for what an entry of this kind needs and has not, or has and may not have."""
    if kind != "init" and not dataset.heads:
        raise CaffeFormatError(f"data set '{dataset.name}' has no heads")
    needed = {"fcn": "net", "bundled": "bundled"}.get(kind)
    if needed is not None and getattr(entry, needed) is None:
        raise CaffeFormatError(f"{needed} is missing")
    if kind != "bundled" and not entry.urls:
        raise CaffeFormatError("urls: expected at least one address")
    if any(score.model is not None for score in entry.scores):
        raise CaffeFormatError("scores of a release are its own: they have no 'model'")


def _known(name: str, key: str, known: Mapping[str, T]) -> T:
    """The thing that a key refers to."""
    if key not in known:
        raise CaffeFormatError(f"{name} '{key}' is not one of {', '.join(known)}")
    return known[key]


def _refuse_shared_files(entries: Iterable[Release]) -> None:
    """All files live in one folder: two releases under one name would overwrite each other."""
    owners: dict[str, str] = {}
    for entry in entries:
        owner = owners.setdefault(entry.file.lower(), entry.name)
        if owner != entry.name:
            raise CaffeFormatError(f"{owner} and {entry.name} both call their file '{entry.file}'")


def _preprocessing(entry: _ReleaseEntry, dataset: Dataset) -> Preprocessing:
    kinds = {blob: _known(f"inputs: {blob}", kind, dataset.inputs) for blob, kind in entry.inputs.items()}
    if not kinds:
        if "color" not in dataset.inputs:
            raise CaffeFormatError(f"inputs is missing, and data set '{dataset.name}' has no input 'color'")
        kinds = {"data": dataset.inputs["color"]}
    return Preprocessing(tuple(replace(kind, name=blob) for blob, kind in kinds.items()))


def _file_name(name: str) -> str:
    """A name that is safe as the name of a file on every system, and cannot lead out of its folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise CaffeFormatError(f"'{name}' is not a plain file name")
    return name


def _urls(key: str, urls: tuple[str, ...]) -> tuple[str, ...]:
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise CaffeFormatError(f"{key}: '{url}' is not an http or https address without a password")
    return urls


def _count(key: str, count: int | None) -> int | None:
    if count is not None and count <= 0:
        raise CaffeFormatError(f"{key}: expected a number of bytes, found {count}")
    return count


def _checksums(entry: _ReleaseEntry) -> tuple[Checksum, ...]:
    """The published checksums, the strongest first."""
    found = []
    for algorithm, length in DIGEST_LENGTHS.items():
        digest: str | None = getattr(entry, algorithm)
        if digest is None:
            continue
        if not re.fullmatch(f"[0-9a-f]{{{length}}}", digest):
            raise CaffeFormatError(f"{algorithm}: expected {length} lower-case hex digits, found '{digest}'")
        found.append(Checksum(algorithm, digest))
    return tuple(found)
