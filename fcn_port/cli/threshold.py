"""The option --threshold, shared by the verbs that make labels of what a net says."""

from __future__ import annotations

import click

from .numbers import Number

threshold_option = click.option(
    "--threshold", type=Number(), help="Of a net that ends in a Sigmoid: the probability from which on a pixel is of a "
    "class (0.5). Of one that gives a map of values: make two classes of it by this value.",
)  # fmt: skip
