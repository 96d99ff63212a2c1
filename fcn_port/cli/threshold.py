"""The option --threshold, shared by the verbs that make labels of what a net says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .numbers import Number

if TYPE_CHECKING:
    from ..any_net import LoadedNet

threshold_option = click.option(
    "--threshold", type=Number(), help="Of a net that ends in a Sigmoid: the probability from which on a pixel is of a "
    "class (0.5). Of one that gives a map of values: make two classes of it by this value.",
)  # fmt: skip


def check_threshold(net: LoadedNet, threshold: float | None) -> None:
    """UsageError for a threshold where the net gives nothing that one is compared with."""
    from ..predict.meaning import outputs_of

    found = list(outputs_of(net).expected.values())
    if threshold is not None and found and not any(each.kind in ("independent", "map") for each in found):
        raise click.UsageError(
            f"--threshold is for nets that end in a Sigmoid or give a map of values; this one's output is "
            f"{found[0].said}"
        )
