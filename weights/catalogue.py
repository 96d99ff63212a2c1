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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, cast
from urllib.parse import urlsplit

from weights.errors import CatalogueError, UnknownReleaseError
from weights.records import Channels, Checksum, Dataset, Input, Kind, Licence, Palette, Preprocessing, Release, Score
from weights.tables import Table

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

DIGEST_LENGTHS: Mapping[Literal["sha256", "sha1", "md5"], int] = MappingProxyType(
    {"sha256": 64, "sha1": 40, "md5": 32}
)
"""Algorithms from the strongest to the weakest, with the length of their digests in hex."""

METRICS = ("overall_accuracy", "mean_accuracy", "mean_iu", "fwavacc")

_RELEASE_FIELDS = (
    *("file", "urls", "prototxts", "size", "blob_bytes"),
    *("net", "bundled", "dataset", "inputs", "licence", "scores"),
)


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
    """What is known of each data set, by the key that releases use."""
    return _catalogue().datasets


def release(name: str) -> Release:
    """The release, bundled release or init net called `name`; UnknownReleaseError offers the closest names."""
    known = {**releases(), **bundled(), **init_nets()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=0.5)
    offer = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"
    raise UnknownReleaseError(f"there is no release called {name!r}: {offer}")


@functools.cache
def _catalogue() -> Catalogue:
    text = importlib.resources.files("weights").joinpath("releases.toml").read_text(encoding="utf-8")
    return parse_catalogue(text)


def parse_catalogue(text: str) -> Catalogue:
    """A catalogue from the text of its TOML file; CatalogueError names the entry and the field that is wrong."""
    try:
        top = Table((), tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"releases.toml: not TOML: {error}") from None
    top.only("sources", "licences", "datasets", "releases", "bundled", "init")
    sources = {key: top.table("sources").text(key) for key in top.table("sources").data}
    licences = {table.name: _licence(table) for table in top.tables("licences")}
    sets = {table.name: _dataset(table, sources) for table in top.tables("datasets")}
    shared = _Shared(sets, licences, sources)
    fcn = {table.name: _release(table, "fcn", shared) for table in top.tables("releases")}
    init = {table.name: _release(table, "init", shared) for table in top.tables("init")}
    own = {table.name: _release(table, "bundled", shared) for table in top.tables("bundled")}
    _refuse_shared_files([*fcn.values(), *init.values(), *own.values()])
    return Catalogue(MappingProxyType(fcn), MappingProxyType(init), MappingProxyType(own), MappingProxyType(sets))


@dataclass(frozen=True)
class _Shared:
    """What entries refer to by key."""

    datasets: Mapping[str, Dataset]
    licences: Mapping[str, Licence]
    sources: Mapping[str, str]


def _licence(table: Table) -> Licence:
    table.only("name", "url", "note", "attribution")
    return Licence(table.text("name"), table.text("url"), table.text("note"), table.text("attribution"))


def _dataset(table: Table, sources: Mapping[str, str]) -> Dataset:
    table.only("title", "palette", "ignore_label", "inputs", "heads", "scores")
    palette = table.get("palette", str)
    if palette not in (None, "voc"):
        raise table.error(f"palette {palette!r} is not 'voc'")
    heads = {blob: _class_names(table.table("heads"), blob) for blob in table.table("heads").data}
    return Dataset(
        name=table.name,
        title=table.text("title"),
        inputs=MappingProxyType({kind.name: _input(kind) for kind in table.tables("inputs")}),
        heads=MappingProxyType(heads),
        palette=cast("Palette | None", palette),
        ignore_label=table.get("ignore_label", int),
        scores=_scores(table, sources, heads, models=True),
    )


def _class_names(table: Table, blob: str) -> tuple[str, ...]:
    names = table.items(blob, str)
    if not names or len(set(names)) != len(names):
        raise table.error(f"{blob} should list its classes, each once")
    return names


def _input(table: Table) -> Input:
    """A kind of input; each release fills in the blob that it feeds."""
    table.only("channels", "mean", "log")
    channels = table.text("channels")
    if channels not in ("bgr", "file"):
        raise table.error(f"channels {channels!r} is neither 'bgr' nor 'file'")
    mean = table.items("mean", float)
    if not mean:
        raise table.error("mean should list one number for each channel")
    log = table.get("log", bool) or False
    return Input(name=table.name, kind=table.name, channels=cast("Channels", channels), mean=mean, log=log)


def _scores(
    table: Table, sources: Mapping[str, str], heads: Mapping[str, object], *, models: bool
) -> tuple[Score, ...]:
    return tuple(_score(row, sources, heads, models=models) for row in table.tables("scores"))


def _score(row: Table, sources: Mapping[str, str], heads: Mapping[str, object], *, models: bool) -> Score:
    """One score; those of a data set say which model it is, those of a release are the release's."""
    row.only("split", "source", "head", "seconds", *METRICS, *(["model"] if models else []))
    head = row.get("head", str)
    if head is not None and head not in heads:
        raise row.error(f"head {head!r} is not one of {', '.join(heads)}")
    values = {metric: row.get(metric, float) for metric in METRICS}
    given = [value for value in values.values() if value is not None]
    if not given or not all(0 <= value <= 100 for value in given):
        raise row.error(f"a score needs at least one of {', '.join(METRICS)}, in percent")
    return Score(
        split=row.text("split"),
        source=row.lookup("source", sources),
        model=row.text("model") if models else None,
        head=head,
        seconds=row.get("seconds", float),
        **values,
    )


def _release(table: Table, kind: Kind, shared: _Shared) -> Release:
    table.only(*_RELEASE_FIELDS, *DIGEST_LENGTHS)
    dataset = table.lookup("dataset", shared.datasets)
    if kind != "init" and not dataset.heads:
        raise table.error(f"data set {dataset.name!r} has no heads")
    return Release(
        name=_file_name(table, table.name),
        kind=kind,
        file=_file_name(table, table.text("file")),
        urls=_urls(table, "urls", at_least=0 if kind == "bundled" else 1),
        prototxts=_urls(table, "prototxts", at_least=0),
        size=_count(table, "size"),
        blob_bytes=_count(table, "blob_bytes"),
        checksums=_checksums(table),
        net=table.text("net") if kind == "fcn" else None,
        bundled=table.text("bundled") if kind == "bundled" else None,
        dataset=dataset,
        preprocessing=_preprocessing(table, dataset),
        licence=table.lookup("licence", shared.licences),
        scores=_scores(table, shared.sources, dataset.heads, models=False),
    )


def _refuse_shared_files(entries: Iterable[Release]) -> None:
    """All files live in one folder: two releases under one name would overwrite each other."""
    owners: dict[str, str] = {}
    for entry in entries:
        owner = owners.setdefault(entry.file.lower(), entry.name)
        if owner != entry.name:
            raise CatalogueError(f"releases.toml: {owner} and {entry.name} both call their file {entry.file!r}")


def _preprocessing(table: Table, dataset: Dataset) -> Preprocessing:
    inputs = table.table("inputs")
    kinds = {blob: inputs.lookup(blob, dataset.inputs) for blob in inputs.data}
    if not kinds:
        if "color" not in dataset.inputs:
            raise table.error(f"inputs is missing, and data set {dataset.name!r} has no input 'color'")
        kinds = {"data": dataset.inputs["color"]}
    return Preprocessing(tuple(replace(kind, name=blob) for blob, kind in kinds.items()))


def _file_name(table: Table, name: str) -> str:
    """A name that is safe as the name of a file on every system, and cannot lead out of its folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise table.error(f"{name!r} is not a plain file name")
    return name


def _urls(table: Table, key: str, *, at_least: int) -> tuple[str, ...]:
    urls = table.items(key, str)
    if len(urls) < at_least:
        raise table.error(f"{key} should list at least one address")
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise table.error(f"{key}: {url!r} is not an http or https address without a password")
    return urls


def _count(table: Table, key: str) -> int | None:
    count = table.get(key, int)
    if count is not None and count <= 0:
        raise table.error(f"{key} should be a number of bytes, not {count}")
    return count


def _checksums(table: Table) -> tuple[Checksum, ...]:
    """What was published, the strongest first."""
    found = []
    for algorithm, length in DIGEST_LENGTHS.items():
        digest = table.get(algorithm, str)
        if digest is None:
            continue
        if not re.fullmatch(f"[0-9a-f]{{{length}}}", digest):
            raise table.error(f"{algorithm} should be {length} lower-case hex digits, not {digest!r}")
        found.append(Checksum(algorithm, digest))
    return tuple(found)
