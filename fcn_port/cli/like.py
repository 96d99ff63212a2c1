"""`--like RELEASE`: the release's way to make inputs, and its names and colours where they can be the net's."""

from __future__ import annotations

from dataclasses import replace

from converters.errors import CaffeFormatError
from converters.net import NetSpec, infer_shapes
from weights.card import Card
from weights.catalogue import release as find_release

from .output import note


def card_like(name: str, spec: NetSpec | None, *, own: Card | None = None) -> Card:
    """The card of a release for another net, `spec`; with the net's `own` names and palette where it scores another
    number of classes.

    A net whose shapes are not known gets all of the card.
    """
    card = Card.of(find_release(name))
    scored = _scored(spec)
    wanted = [len(names) for names in card.classes.values()]
    if not scored or not wanted or sorted(scored) == sorted(wanted):
        return card
    counts = " and ".join(map(str, scored))
    note(
        f"--like {name}: it has {' and '.join(map(str, wanted))} classes and this net {counts}: only the way to make "
        "inputs is taken, not names and colours"
    )
    return replace(own or Card(), preprocessing=card.preprocessing)


def card_of_own(name: str, spec: NetSpec | None) -> Card:
    """That card for weights that are written: they are not the release's, whose scores and licence are not theirs."""
    return replace(card_like(name, spec), release=None, licence=None)


def _scored(spec: NetSpec | None) -> list[int]:
    """The channels of each output; none where they are not known."""
    if spec is None:
        return []
    try:
        shapes = infer_shapes(spec)
        return [int(shapes[name][1]) for name in spec.outputs if len(shapes[name]) > 1]
    except (CaffeFormatError, ValueError, KeyError, NotImplementedError):
        return []
