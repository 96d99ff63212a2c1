"""The catalogue: `releases.toml` read into records, and looked up by name.

    releases()                 the 14 FCN releases, by name
    init_nets()                classification nets to start from
    famous()                   Caffe's other well-known nets (famous.toml)
    datasets()                 what the releases of a data set share
    release("voc-fcn8s")       one of them all; a typo gets the closest names
    parse_catalogue(text)      any catalogue, checked: every field's type, every reference, no unknown field

releases.toml and famous.toml explain their fields themselves; where classes are many their names stand in labels/.
"""

from __future__ import annotations

import difflib
import functools
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from converters.errors import CaffeFormatError, place
from converters.given import refuse_other_than
from converters.safety import to_record
from weights.download.mirror import is_address
from weights.entries import CatalogueFile, DatasetEntry, FamousEntry, ReleaseEntry, merged, refuse_empty_texts
from weights.errors import CatalogueError, UnknownReleaseError
from weights.records import About, Checksum, Dataset, Kind, Preprocessing, Release, Score, check_palette
from weights.texts import catalogue_text

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

T = TypeVar("T")

DIGEST_LENGTHS: Mapping[Literal["sha256", "sha1", "md5", "git"], int] = MappingProxyType(
    {"sha256": 64, "sha1": 40, "git": 40, "md5": 32}
)
"""Algorithms from the strongest to the weakest, with the length of their digests in hex."""


@dataclass(frozen=True)
class Catalogue:
    """Everything that releases.toml says."""

    releases: Mapping[str, Release]
    init_nets: Mapping[str, Release]
    bundled: Mapping[str, Release]
    famous: Mapping[str, Release]
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


def famous() -> Mapping[str, Release]:
    """Caffe's other well-known nets by name: classifiers, detectors and more, each with what is known of it."""
    return _whole().famous


def datasets() -> Mapping[str, Dataset]:
    """The data sets, by the key that releases use."""
    return _catalogue().datasets


_NO_NEAR = "`fcn-port releases` lists them; a file is named with its ending, such as net.caffemodel"


def release(name: str) -> Release:
    """The release, init net or famous net called `name`; UnknownReleaseError offers the closest names."""
    refuse_other_than(str, name, "the name of a release, such as 'voc-fcn8s'")
    known = {**releases(), **bundled(), **init_nets()}
    if name not in known:
        known |= famous()
    if name in known:
        return known[name]
    if name == "-":
        raise UnknownReleaseError("'-': a net is not read from standard input; name a release, or its file")
    close = difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=0.5)
    close = close or [each for each in known if name and name.lower() in each.lower()][:3]
    offer = f"did you mean {' or '.join(close)}?" if close else _NO_NEAR
    raise UnknownReleaseError(f"there is no release called {name!r}: {offer}")


def release_of(name_or_release: Release | str) -> Release:
    """A release, or the one of a name, as `release` finds it."""
    return name_or_release if isinstance(name_or_release, Release) else release(name_or_release)


@functools.cache
def _catalogue() -> Catalogue:
    return parse_catalogue(catalogue_text("releases.toml"))


@functools.cache
def _whole() -> Catalogue:
    """The releases and the famous nets, which share data sets and licences; most people need the first alone."""
    return parse_catalogue(catalogue_text("releases.toml"), catalogue_text("famous.toml"))


def parse_catalogue(text: str, more: str = "") -> Catalogue:
    """A catalogue from the text of its TOML file, and of another that adds to it.

    CatalogueError names the entry and the field that is wrong.
    """
    try:
        found = to_record(merged(tomllib.loads(text), tomllib.loads(more)), CatalogueFile)
        refuse_empty_texts(found)
        sets = {name: _dataset(name, entry, found.sources) for name, entry in found.datasets.items()}
        fcn = {name: _release(name, entry, "fcn", found, sets) for name, entry in found.releases.items()}
        init = {name: _release(name, entry, "init", found, sets) for name, entry in found.init.items()}
        own = {name: _release(name, entry, "bundled", found, sets) for name, entry in found.bundled.items()}
        other = {name: _release(name, entry, "famous", found, sets) for name, entry in found.famous.items()}
        _refuse_shared_files([*fcn.values(), *init.values(), *own.values(), *other.values()])
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{'famous.toml' if more else 'releases.toml'}: not TOML: {error}") from None
    except CaffeFormatError as error:
        raise CatalogueError(f"{'famous.toml' if more else 'releases.toml'}: {error}") from None
    return Catalogue(
        releases=MappingProxyType(fcn),
        init_nets=MappingProxyType(init),
        bundled=MappingProxyType(own),
        famous=MappingProxyType(other),
        datasets=MappingProxyType(sets),
    )


# What they refer to


def _dataset(name: str, entry: DatasetEntry, sources: Mapping[str, str]) -> Dataset:
    where = f"datasets.{name}"
    heads = entry.heads if entry.labels is None else {"prob": _labels(entry.labels)}
    for blob, names in heads.items():
        if not names or len(set(names)) != len(names):
            raise CaffeFormatError("expected the names of its classes, each once", where=f"{where}.heads.{blob}")
    if entry.palette is not None:
        with place(where):
            check_palette(entry.palette)
    inputs = {}
    for kind, each in entry.inputs.items():
        with place(f"{where}.inputs.{kind}"):
            inputs[kind] = each.recipe(kind, kind)
    return Dataset(
        name=name,
        title=entry.title,
        inputs=MappingProxyType(inputs),
        heads=MappingProxyType(heads),
        palette=entry.palette,
        ignore_label=entry.ignore_label,
        scores=_scores(entry.scores, f"{where}.scores", sources, heads),
    )


def _labels(file: str) -> tuple[str, ...]:
    """The classes that a file in labels/ names, a line each."""
    return tuple(catalogue_text(f"labels/{_file_name(file)}").splitlines())


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


def _release(name: str, entry: ReleaseEntry, kind: Kind, found: CatalogueFile, sets: Mapping[str, Dataset]) -> Release:
    section = {"fcn": "releases", "init": "init", "bundled": "bundled", "famous": "famous"}[kind]
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
            architecture=entry.architecture if kind == "fcn" else None,
            bundled=entry.bundled if kind == "bundled" else None,
            dataset=dataset,
            preprocessing=_preprocessing(entry, dataset),
            licence=_known("licence", entry.licence, found.licences),
            scores=_scores(entry.scores, "scores", found.sources, dataset.heads),
            about=_about(entry, dataset, found.sources) if isinstance(entry, FamousEntry) else None,
        )


_NO_FACTS = ("file", "title", "task", "purpose", "running", "by_hand", "dataset", "inputs", "recipes", "read")
"""Fields of an entry that need no source: our own words, and keys."""


def _about(entry: FamousEntry, dataset: Dataset, sources: Mapping[str, str]) -> About:
    """The knowledge of a famous net; CaffeFormatError for a fact without a source, or a source without its fact."""
    facts = {each.name for each in fields(entry) if getattr(entry, each.name) not in (None, ())} - set(_NO_FACTS)
    facts |= {"inputs"} if entry.recipes or dataset.inputs else set()
    facts |= {"classes"} if dataset.heads else set()
    read: dict[str, str] = {}
    for key, known in entry.read.items():
        read |= dict.fromkeys(known, _known("read", key, sources))
    for fact in sorted(facts ^ read.keys()):
        problem = "where was it read?" if fact in facts else "there is no such fact here"
        raise CaffeFormatError(f"read: {fact}: {problem}")
    return About(
        title=entry.title,
        task=entry.task,
        purpose=entry.purpose,
        running=entry.running,
        papers=entry.papers,
        figures=entry.figures,
        by_hand=entry.by_hand,
        sources=MappingProxyType(read),
    )


def _check(entry: ReleaseEntry, kind: Kind, dataset: Dataset) -> None:
    """CaffeFormatError for what an entry of this kind needs and has not, or has and may not have."""
    if kind in ("fcn", "bundled") and not dataset.heads:
        raise CaffeFormatError(f"data set '{dataset.name}' has no heads")
    needed = {"fcn": "architecture", "bundled": "bundled"}.get(kind)
    if needed is not None and getattr(entry, needed) is None:
        raise CaffeFormatError(f"{needed} is missing")
    if kind != "bundled" and not entry.urls and getattr(entry, "by_hand", None) is None:
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


def _preprocessing(entry: ReleaseEntry, dataset: Dataset) -> Preprocessing | None:
    """The ways to make the inputs; None for a famous net of which nobody said it, or that takes no plain photograph."""
    recipes = entry.recipes if isinstance(entry, FamousEntry) else {}
    if recipes:
        return Preprocessing(tuple(each.recipe(blob, "color") for blob, each in recipes.items()))
    kinds = {blob: _known(f"inputs: {blob}", kind, dataset.inputs) for blob, kind in entry.inputs.items()}
    if not kinds and isinstance(entry, FamousEntry) and not dataset.inputs:
        return None
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
        if not is_address(url) or "@" in urlsplit(url).netloc:
            raise CaffeFormatError(f"{key}: '{url}' is not an http or https address without a password")
    return urls


def _count(key: str, count: int | None) -> int | None:
    if count is not None and count <= 0:
        raise CaffeFormatError(f"{key}: expected a number of bytes, found {count}")
    return count


def _checksums(entry: ReleaseEntry) -> tuple[Checksum, ...]:
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
