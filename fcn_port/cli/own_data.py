"""The parts that verbs on people's own data share: options, the check before the work, and the table of a check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .output import echo, note, write_columns, write_json
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
strict_option = click.option("--strict", is_flag=True, help="Stop where the labels look off, instead of warning.")


def tell_doubts(data: DataSet, *, strict: bool, say: Callable[[str], None] = note) -> None:
    """Look at some label maps of a split and say what looks off; with `strict` that is a DataError."""
    from ..data.checking import SAMPLE, check
    from ..data.errors import DataError

    if data.complete or not data.labels:
        return
    doubts = [f"{data.title} ({data.split}): {doubt}" for found in check(data, sample=SAMPLE, images=False)
              for doubt in found.doubts]  # fmt: skip
    if doubts and strict:
        raise DataError(f"the labels look off: {'; '.join(doubts)}", path=data.root, hint=_HINT)
    for doubt in doubts:
        say(f"WARNING: {doubt}")
    if doubts:
        say(_HINT)


_HINT = "`fcn-port data --check FOLDER` shows what the labels hold; --strict makes this an error"


def without_bad(data: DataSet, *, skip_bad: bool, say: Callable[[str], None] = note) -> DataSet:
    """The split, each of its images read once: those that cannot be are left out, or a DataError without `skip_bad`."""
    from ..data.checking import check
    from ..data.errors import DataError

    found = check(data)[0] if data.labels else None
    if found is None or not found.bad:
        return data
    listed = [*list(found.bad.values())[:_NAMED], *(["..."] if len(found.bad) > _NAMED else [])]
    if not skip_bad or len(found.bad) == len(data.ids):
        problem = f"{len(found.bad)} of {len(data.ids)} images cannot be used:\n  " + "\n  ".join(listed)
        raise DataError(problem, path=data.root, hint="--skip-bad leaves them out")
    say(f"{len(found.bad)} of {len(data.ids)} images of {data.split} are left out:")
    for line in listed:
        say(f"  {line}")
    return replace(data, ids=tuple(id_ for id_ in data.ids if id_ not in found.bad))


def report_check(place: Path, *, split: str | None, void: Sequence[int], strict: bool, as_json: bool) -> int:
    """Print what the label maps of a data set hold and what looks off; the exit status."""
    from ..data.checking import check
    from ..data.opening import open_dataset

    data = open_dataset(place, split=split).with_void(*void)
    if not data.labels:
        raise click.UsageError(f"{data.title} has no labels for {data.split}")
    with progress_bar("images", active=len(data.ids) > SMALL) as progress:
        found = check(data, progress=progress)
    if as_json:
        write_json(
            {"title": data.title, "root": data.root, "split": data.split, "heads": [_json(each) for each in found]}
        )
    else:
        for each in found:
            _print(data, each)
    return 1 if any(each.bad or (strict and each.doubts) for each in found) else 0


def _print(data: DataSet, found: Findings) -> None:
    head = "" if found.head == "score" else f", {found.head}"
    echo(f"{data.title}, {data.split}{head}: {found.images} images, {len(found.classes)} classes")
    echo()
    everything = max(1, found.ignored + sum(found.pixels))
    rows = [
        (str(label), name, f"{pixels:,}", f"{pixels / everything:.2%}", str(maps))
        for label, (name, pixels, maps) in enumerate(zip(found.classes, found.pixels, found.maps, strict=True))
    ]
    rows.append(("-", "ignored", f"{found.ignored:,}", f"{found.share_ignored:.2%}", ""))
    write_columns(rows, header=("id", "class", "pixels", "share", "images"), right=(0, 2, 3, 4))
    echo()
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
