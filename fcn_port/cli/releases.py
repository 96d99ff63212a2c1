"""`fcn-port releases`"""

from __future__ import annotations

from collections.abc import Iterator

import click

from converters.wording import first_of
from weights.catalogue import bundled, famous, init_nets, releases
from weights.catalogue import release as find_release
from weights.records import METRICS, TASKS, InputRecipe, Release, Score
from weights.store import converted_path, place_of

from .output import echo, human_bytes, json_option, write_columns, write_json


@click.command("releases")
@click.argument("name", required=False)
@click.option("--task", type=click.Choice(list(TASKS)), help="List the nets for this task alone.")
@json_option
def command(name: str | None, task: str | None, as_json: bool) -> None:
    """List the published nets by what they are for, or say everything that is known of one: addresses, checksums, how
    it is run, scores, licence, and where each fact was read."""
    if name is not None:
        if task is not None:
            raise click.UsageError("--task is for the list; a net has one")
        chosen = [find_release(name)]
    else:
        every = (*releases().values(), *init_nets().values(), *bundled().values(), *famous().values())
        chosen = [each for each in every if task in (None, each.task)]
    if as_json:
        write_json([_as_json(release) for release in chosen])
    elif name is not None:
        _describe(chosen[0])
    else:
        _list(chosen)


def _list(chosen: list[Release]) -> None:
    header = ("release", "data set", "classes", "published", "size", "here")
    rows = []
    for task, words in TASKS.items():
        group = [release for release in chosen if release.task == task]
        if group:
            rows += [(f"- {words} ({task}) -", "", "", "", "", ""), *(_row(release) for release in group)]
    write_columns(rows, header=header, right=(2, 4))


def _row(release: Release) -> tuple[str, ...]:
    classes = "+".join(str(len(names)) for names in release.classes.values())
    return release.name, release.dataset.name, classes, _best(release), _size(release), _here(release)


def _best(release: Release) -> str:
    """The first published number, with what it measures."""
    scores = [score.mean_iu for score in release.scores if score.mean_iu is not None]
    if scores:
        return f"{METRICS['mean_iu']} {scores[0]:.1f}"
    figures = () if release.about is None else release.about.figures
    return f"{figures[0].metric.removesuffix(', %')} {figures[0].value:g}" if figures else ""


def _size(release: Release) -> str:
    if release.expected_bytes is None:
        return "?"
    return ("" if release.size is not None else "~") + human_bytes(release.expected_bytes)


def _here(release: Release) -> str:
    there = [n for n, p in (("converted", converted_path(release)), ("fetched", place_of(release).path)) if p.exists()]
    return ", ".join(there) or "-"


_SHOWN = 60
"""Classes that are named; --json has all."""


def _describe(release: Release) -> None:
    echo(f"{release.name}: {release.dataset.title if release.about is None else release.about.title}")
    write_columns([*_told(release), *_of_the_file(release), *_of_the_net(release), *_of_the_terms(release)])
    if release.about is not None:
        echo("where each was read:")
        read: dict[str, list[str]] = {}
        for fact, source in release.about.sources.items():
            read.setdefault(source, []).append(fact)
        write_columns([(", ".join(facts), source) for source, facts in read.items()])


def _told(release: Release) -> Iterator[tuple[str, str]]:
    if release.about is not None:
        yield "for", release.about.purpose
        yield "how it is run", release.about.running
        yield "classes as in", release.dataset.title


def _of_the_file(release: Release) -> Iterator[tuple[str, str]]:
    by_hand = None if release.about is None else release.about.by_hand
    yield "file", release.file
    yield "size", _size(release)
    yield "here", _here(release)
    if release.bundled is not None:
        yield "address", "comes with this project"
    yield from (("address", url) for url in release.urls)
    if by_hand is not None:
        yield "by hand", by_hand
    yield from (("net definition", url) for url in release.prototxts)
    yield from (("checksum", str(checksum)) for checksum in release.checksums)
    if not release.checksums:
        yield "checksum", "none was ever published"


def _of_the_net(release: Release) -> Iterator[tuple[str, str]]:
    for each in () if release.preprocessing is None else release.preprocessing.inputs:
        yield f"input {each.name}", _in_words(each)
    if release.preprocessing is None:
        yield "input", "how it is made was not published, or it is no plain photograph"
    for blob, names in release.classes.items():
        yield f"{blob}, {len(names)} classes", first_of(names, _SHOWN)
    yield from ((f"score, {score.split}", _score(score)) for score in release.scores)
    for figure in () if release.about is None else release.about.figures:
        yield figure.metric, f"{figure.value:g} ({figure.on})"


def _in_words(each: InputRecipe) -> str:
    order = "BGR" if each.channels == "bgr" else "channels as stored"
    log = "natural logarithm, " if each.log else ""
    scale = f", times {each.scale:g}" if each.scale != 1 else ""
    resize = ""
    if each.resize:
        sides = "shorter side" if len(each.resize) == 1 else "image"
        resize = f"; {sides} scaled to {'x'.join(map(str, each.resize))}, then cut from the centre"
    return f"{log}{order}, less {', '.join(map(str, each.mean))}{scale}{resize}"


def _of_the_terms(release: Release) -> Iterator[tuple[str, str]]:
    yield from (("paper", paper) for paper in (() if release.about is None else release.about.papers))
    yield "licence", f"{release.licence.name}, {release.licence.url}"
    yield "", release.licence.note
    yield "", release.licence.attribution


def _score(score: Score) -> str:
    numbers = ((title, getattr(score, name)) for name, title in METRICS.items())
    return ", ".join(f"{title} {value}" for title, value in numbers if value is not None) + f" ({score.source})"


def _as_json(release: Release) -> dict[str, object]:
    return {
        **vars(release),
        "task": release.task,
        "caffemodel": place_of(release).path if place_of(release).path.exists() else None,
        "converted": converted_path(release) if converted_path(release).exists() else None,
    }
