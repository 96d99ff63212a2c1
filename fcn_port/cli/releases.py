"""`fcn-port releases`"""

from __future__ import annotations

import click

from weights.catalogue import bundled, init_nets, releases
from weights.catalogue import release as find_release
from weights.records import METRICS, Release, Score
from weights.store import converted_path, place_of

from .output import echo, human_bytes, json_option, write_columns, write_json


@click.command("releases")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the published nets, or say everything that is known of one: addresses, checksums, scores, licence."""
    if name is not None:
        chosen = [find_release(name)]
    else:
        chosen = [*releases().values(), *init_nets().values(), *bundled().values()]
    if as_json:
        write_json([_as_json(release) for release in chosen])
    elif name is not None:
        _describe(chosen[0])
    else:
        _list(chosen)


def _list(chosen: list[Release]) -> None:
    header = ("release", "data set", "classes", METRICS["mean_iu"], "size", "here")
    write_columns([_row(release) for release in chosen], header=header, right=(2, 3, 4))


def _row(release: Release) -> tuple[str, ...]:
    if release.kind == "init":
        return release.name, "to start from", "", "", _size(release), _here(release)
    classes = "+".join(str(len(names)) for names in release.classes.values())
    scores = [score.mean_iu for score in release.scores if score.mean_iu is not None]
    best = f"{scores[0]:.1f}" if scores else ""
    return release.name, release.dataset.name, classes, best, _size(release), _here(release)


def _size(release: Release) -> str:
    if release.expected_bytes is None:
        return "?"
    return ("" if release.size is not None else "~") + human_bytes(release.expected_bytes)


def _here(release: Release) -> str:
    there = [n for n, p in (("converted", converted_path(release)), ("fetched", place_of(release).path)) if p.exists()]
    return ", ".join(there) or "-"


def _describe(release: Release) -> None:
    echo(f"{release.name}: {release.dataset.title}")
    rows = [("file", release.file), ("size", _size(release)), ("here", _here(release))]
    rows += [("address", url) for url in release.urls] or [("address", "comes with this project")]
    rows += [("net definition", url) for url in release.prototxts]
    rows += [("checksum", str(checksum)) for checksum in release.checksums] or [("checksum", "none was ever published")]
    for each in release.preprocessing.inputs:
        order = "BGR" if each.channels == "bgr" else "channels as stored"
        log = "natural logarithm, " if each.log else ""
        rows.append((f"input {each.name}", f"{log}{order}, less {', '.join(map(str, each.mean))}"))
    for blob, names in release.classes.items():
        rows.append((f"{blob}, {len(names)} classes", ", ".join(names)))
    rows += [(f"score, {score.split}", _score(score)) for score in release.scores]
    rows += [("licence", f"{release.licence.name}, {release.licence.url}"), ("", release.licence.note)]
    rows.append(("", release.licence.attribution))
    write_columns(rows)


def _score(score: Score) -> str:
    numbers = ((title, getattr(score, name)) for name, title in METRICS.items())
    return ", ".join(f"{title} {value}" for title, value in numbers if value is not None) + f" ({score.source})"


def _as_json(release: Release) -> dict[str, object]:
    return {
        **vars(release),
        "caffemodel": place_of(release).path if place_of(release).path.exists() else None,
        "converted": converted_path(release) if converted_path(release).exists() else None,
    }
