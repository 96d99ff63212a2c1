"""The parts that verbs on people's own data share: options, the check before the work, and the table of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converters.wording import first_of

from .output import columns, echo, note, write_json
from .progress import progress_bar

if TYPE_CHECKING:
    from ..data.checking import Findings
    from ..data.records import DataSet

DATA_PATH = click.Path(path_type=Path)
"""A data set's folder, or the .toml that describes one."""
SMALL = 200
"""Images; a smaller set is read once before it is trained on."""
_NAMED = 10

void_option = click.option(
    "--void", multiple=True, type=click.IntRange(0, 255), metavar="ID",
    help="A label that does not count, beside 255; may be given several times.",
)  # fmt: skip


def _describe(context: click.Context, parameter: click.Parameter, fields: tuple[str, ...]) -> None:
    from ..data.description import describing
    from ..data.errors import DataError

    try:
        context.with_resource(describing(*fields))
    except DataError as error:
        raise click.BadParameter(f"{error.problem}; expected such as: ids = {{ 0 = 0, 255 = 1 }}") from None


describe_option = click.option(
    "--describe", multiple=True, metavar="FIELD", expose_value=False, callback=_describe, is_eager=True,
    help="A line of a dataset.toml, such as 'ids = { 0 = 0, 255 = 1 }', before what a file says; several times.",
)  # fmt: skip
strict_option = click.option("--strict", is_flag=True, help="Stop where the labels look off, instead of warning.")


def looked_at(
    data: DataSet, *, strict: bool, whole: bool = False, skip_bad: bool = False, say: Callable[[str], None] = note
) -> DataSet:
    """The split after a look at some of its images and label maps, or with `whole` at all: a table of what is there.

    What looks off is a warning, with `strict` a DataError. With `whole` images that cannot be used are left out, or a
    DataError without `skip_bad`. Published splits are only looked at where `whole` asks for it.
    """
    from ..data.checking import SAMPLE, check

    if not data.labels or (data.complete and not whole):
        return data
    every = check(data, sample=None if whole else SAMPLE)
    kept = _usable(data, every[0].bad, skip_bad=skip_bad, say=say) if whole else data
    for found in every if not data.complete else ():
        for line in _table(data, found, brief=True):
            say(line)
    doubts = [doubt for found in every for doubt in found.doubts[bool(whole and found.bad) :]]  # the bad are told of
    _tell(data, [] if data.complete else doubts, strict, say)
    return kept


def refuse_to_replace_files(folder: Path | None, *sets: DataSet) -> None:
    """Wrong use, before anything is computed, where label maps in a folder would replace files of these data sets."""
    from ..evaluation.labels import refuse_to_replace

    if folder is None:
        return
    try:
        for data in sets:
            refuse_to_replace(folder, data, data.ids)
    except FileExistsError as error:
        raise click.UsageError(f"{error.filename}: {error.strerror}") from None


_HINT = "`fcn-port data --check FOLDER` shows what the labels hold; --strict makes this an error"


def _tell(data: DataSet, doubts: Sequence[str], strict: bool, say: Callable[[str], None]) -> None:
    from ..data.errors import DataError

    named = [f"{data.title} ({data.split}): {doubt}" for doubt in dict.fromkeys(doubts)]
    if named and strict:
        raise DataError(f"the labels look off: {'; '.join(named)}", path=data.root, hint=_HINT)
    for doubt in named:
        say(f"WARNING: {doubt}")
    if named:
        say(_HINT)


def _usable(data: DataSet, bad: Mapping[str, str], *, skip_bad: bool, say: Callable[[str], None]) -> DataSet:
    """The split without the images that cannot be used; DataError without `skip_bad`, or where none can."""
    from ..data.errors import DataError

    if not bad:
        return data
    listed = [*list(bad.values())[:_NAMED], *(["..."] if len(bad) > _NAMED else [])]
    if not skip_bad or len(bad) == len(data.ids):
        problem = f"{len(bad)} of {len(data.ids)} images cannot be used:\n  " + "\n  ".join(listed)
        raise DataError(problem, path=data.root, hint="--skip-bad leaves them out")
    say(f"{len(bad)} of {len(data.ids)} images of {data.split} are left out:")
    for line in listed:
        say(f"  {line}")
    return replace(data, ids=tuple(id_ for id_ in data.ids if id_ not in bad))


def scored_on_learned(
    found: DataSet, given: DataSet, kept: DataSet, *, say: Callable[[str], None] = note
) -> DataSet | None:
    """The split to score on where it has the files of the one to learn from, `given`, as far as `kept`; else None."""
    same = set(found.ids) == set(given.ids) and all(found.shown(id_) == given.shown(id_) for id_ in found.ids)
    if not same:
        return None
    say(
        f"WARNING: scores are of the images that are learned from, as {found.title} has the same ones for "
        f"{found.split}; lists tell splits apart, or --val-data"
    )
    return replace(found, ids=kept.ids)


def report_check(place: Path, *, split: str | None, void: Sequence[int], strict: bool, as_json: bool) -> int:
    """Print what the label maps of a data set hold and what looks off; the exit status."""
    from ..data.checking import check
    from ..data.opening import open_dataset

    data = open_dataset(place, split=split).with_void(*void)
    if not data.labels:
        raise click.UsageError(f"{data.title} has no labels for {data.split}")
    with progress_bar("images", active=len(data.ids) > SMALL, kept="nothing is kept of a look") as progress:
        found = check(data, progress=progress)
    if as_json:
        write_json(
            {"title": data.title, "root": data.root, "split": data.split, "heads": [_json(each) for each in found]}
        )
    else:
        for each in found:
            _print(data, each)
    return 1 if any(each.bad or (strict and each.doubts) for each in found) else 0


def _table(data: DataSet, found: Findings, *, brief: bool = False) -> Iterator[str]:
    """The lines that say what label maps hold: a row for each class, `brief` for those that occur, and one for void."""
    head = "" if found.head == "score" else f", {found.head}"
    some = f" of {found.total}" if found.images < found.total else ""
    yield f"{data.title}, {data.split}{head}: {found.images}{some} images, {len(found.classes)} classes"
    everything = max(1, found.ignored + sum(found.pixels))
    stored = found.stored or ((),) * (len(found.classes) + 1)
    rows = [
        (str(label), name, f"{pixels:,}", f"{pixels / everything:.2%}", str(maps), first_of(stored[label], _NAMED))
        for label, (name, pixels, maps) in enumerate(zip(found.classes, found.pixels, found.maps, strict=True))
        if pixels or not brief
    ]
    rows.append(("-", "ignored", f"{found.ignored:,}", f"{found.share_ignored:.2%}", "", first_of(stored[-1], _NAMED)))
    header = ("id", "class", "pixels", "share", "images", "stored as")
    keep = len(header) if any(ids for ids in found.stored) else len(header) - 1
    yield from columns([row[:keep] for row in rows], header=header[:keep], right=(0, 2, 3, 4))
    if brief and found.unlabelled:
        yield f"no pixel of {first_of(found.unlabelled, _NAMED)}"


def _print(data: DataSet, found: Findings) -> None:
    first, *rest = _table(data, found)
    for line in (first, "", *rest, ""):
        echo(line)
    for reason in list(found.bad.values())[:_NAMED]:
        echo(f"FAIL  {reason}")
    if len(found.bad) > _NAMED:
        echo(f"      and {len(found.bad) - _NAMED} more")
    if found.hint:
        echo(f"      {found.hint}")
    for doubt in found.doubts:
        echo(f"WARNING  {doubt}")
    if not found.doubts:
        echo("nothing looks off")


def _json(found: Findings) -> dict[str, Any]:
    return {**vars(found), "share_ignored": found.share_ignored, "unlabelled": found.unlabelled}
