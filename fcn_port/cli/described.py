"""`--data` of `fcn-port predict`: the images, names, colours and inputs of a data set, as `evaluate` takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from .output import note

if TYPE_CHECKING:
    from ..any_net import LoadedNet
    from ..data.records import DataSet
    from ..predict.image_lists import ImageSource


def as_described(net: LoadedNet, place: Path, *, weights: str) -> None:
    """Give a net the classes and colours of a data set, and its way to make inputs where the net has none of its own.

    `place` is a description (.toml) or a folder. UsageError where the classes are not the net's.
    """
    from ..any_net import attach
    from ..data.inputs import inputs_of
    from ..predict.meaning import outputs_of

    data = _opened(place)
    expected = {name: each for name, each in outputs_of(net).expected.items() if name}
    heads = _heads(data, list(expected) or list(net.outputs))
    for head, names in heads.items():
        each = expected.get(head)
        if each is not None and each.labels not in (None, len(names)):
            raise click.UsageError(f"--data: the net scores {each.labels} classes, and {data.title} has {len(names)}")
        if each is not None and each.kind == "classes" and each.channels != len(names):
            raise click.UsageError(f"--data: the net names {each.channels} classes, and {data.title} has {len(names)}")
    card = replace(net.card, classes=heads, palette=data.colours)
    if card.preprocessing is None:
        made = inputs_of(data, net.inputs)
        card = replace(card, preprocessing=replace(made, inputs=tuple(data.recipe(each) for each in made.inputs)))
        note(f"{weights} does not say how its inputs are made; taking those of {data.title}")
    attach(net, card)


def images_of(place: Path | None, split: str | None) -> tuple[ImageSource, ...]:
    """The images of a data set's split as `predict` takes them; UsageError where there is neither data set nor image.

    They are read as `evaluate` reads them: nothing is turned by EXIF.
    """
    from ..data.opening import open_dataset
    from ..predict.image_lists import ImageSource

    if place is None:
        raise click.UsageError("which images? Name files, folders or lists, or give --data")
    data = open_dataset(place, split=split)

    def reading(id_: str) -> Callable[[str], np.ndarray]:
        return lambda kind: data.images[kind if kind in data.images else "color"].of(id_)

    return tuple(ImageSource(data.shown(id_), Path(id_), stored=reading(id_)) for id_ in data.ids)


def _opened(place: Path) -> DataSet:
    from ..data.described import described
    from ..data.description import description_in
    from ..data.opening import open_dataset

    description = description_in(place)
    return open_dataset(place) if description is None else described(description)


def _heads(data: DataSet, outputs: list[str]) -> dict[str, tuple[str, ...]]:
    """The names by output of the net: those of outputs of the same name, or the only ones for the only one."""
    if set(data.classes) <= set(outputs):
        return dict(data.classes)
    if len(data.classes) == 1 and len(outputs) == 1:
        return {outputs[0]: next(iter(data.classes.values()))}
    raise click.UsageError(
        f"--data: the net's outputs are {', '.join(outputs)}; {data.title} is labelled for {', '.join(data.classes)}"
    )
