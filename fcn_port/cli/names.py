"""`--classes FILE`: the names of classes, a line each, for a net or for the labels of a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from converters.safety import lines_of, open_file

if TYPE_CHECKING:
    from ..any_net import LoadedNet
    from ..data.records import DataSet

classes_option = click.option(
    "--classes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The names of the classes, a line each, the background first.",
)

MOST_NAMES_BYTES = 1 << 24


def read_names(path: Path) -> tuple[str, ...]:
    """The names of the classes, one a line, in the order of their labels; empty lines at the end are none."""
    try:
        with open_file(path) as file:
            data = file.read(MOST_NAMES_BYTES + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{path}: not text in UTF-8", param_hint="'--classes'") from error
    names = tuple(line.strip() for line in lines_of(text.rstrip()))
    if not names or len(data) > MOST_NAMES_BYTES:
        what = "more than 16 MiB" if names else "no names in it"
        raise click.BadParameter(f"{path}: {what}; expected one a line", param_hint="'--classes'")
    return names


def name_classes(net: LoadedNet, names: tuple[str, ...]) -> None:
    """Give the net the names of its classes; UsageError where they are not as many."""
    from ..any_net import attach
    from ..predict.meaning import outputs_of

    expected = outputs_of(net).expected
    fitting = {name: names for name, each in expected.items() if len(names) in (each.channels, each.labels)
               or each.kind in ("labels", "map")}  # fmt: skip
    if expected and not fitting:
        counts = " and ".join(str(each.channels) for name, each in expected.items() if name)
        raise click.UsageError(f"--classes: {len(names)} names; the net has {counts} classes")
    attach(net, replace(net.card, classes=fitting or {net.outputs[0]: names}))


def with_classes(data: DataSet, path: Path | None) -> DataSet:
    """A data set whose labels are of the classes that a file names, however many; as it is without one.

    It is somebody's own then, and no published split. UsageError where it has several labellings.
    """
    if path is None:
        return data
    names = read_names(path)
    if len(data.classes) != 1:
        raise click.UsageError(f"--classes is for one labelling; {data.title} has {', '.join(data.classes)}")
    if not 1 < len(names) <= data.ignore_label or len(set(names)) != len(names):
        problem = f"{path}: {len(names)} names; expected 2 to {data.ignore_label}, each once"
        raise click.BadParameter(problem, param_hint="'--classes'")
    head, known = next(iter(data.classes.items()))
    if names == known:
        return data
    palette = data.colours if len(names) == len(known) else data.palette
    return replace(data, name="own", classes={head: names}, inputs=data.recipes, palette=palette, complete=False)
