"""The Python form of a layer, and what a form is told of the layer's place in the net.

A type of your own gets a form with `register`:

    from converters.export.python import Form, Site, form

    @form.register
    def _(params: Swish, site: Site) -> Form:
        return Form((f"{site.x} * torch.sigmoid({params.beta} * {site.x})",))

Expressions are of PyTorch, and of the functions and classes in helpers.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np

from ...escaping import python_literal
from ...layers.base import blob_name
from ...net.layer import Layer, Shape


@dataclass(frozen=True)
class Site:
    """The surroundings of a layer: the expressions of its bottoms, of its module and of its blobs, and their shapes."""

    bottoms: tuple[str, ...]
    shapes: tuple[Shape, ...]
    tops: int
    module: str
    blobs: tuple[str, ...]
    blob_shapes: tuple[Shape, ...]

    @property
    def x(self) -> str:
        """The first bottom."""
        return self.bottoms[0]

    @property
    def rank(self) -> int:
        """The axes of the first bottom."""
        return len(self.shapes[0])


@dataclass(frozen=True)
class Form:
    """The text of a layer.

    `tops` has an expression for each top, or one that gives them all. `module` makes the attribute that holds the
    blobs; it is "" for a plain holder, which is also what a layer gets that shares blobs with another one: then
    `shared`, which uses `site.blobs`, replaces `tops`.
    """

    tops: tuple[str, ...]
    module: str = ""
    shared: tuple[str, ...] = ()


class NoFormError(LookupError):
    """Nobody has said how this type is written in Python."""


@singledispatch
def form(params: Layer, site: Site) -> Form:
    """The text of a layer with these parameters at `site`; NoFormError for a type that has no form."""
    raise NoFormError(type(params).__name__)


def number(value: float) -> str:
    """The shortest decimal that is the same float32, as a person would have written it."""
    return python_literal(decimal(value))


def decimal(value: float) -> float:
    """The number of `number`."""
    if isinstance(value, int) or not math.isfinite(value) or float(np.float32(value)) != value:
        return value
    return float(str(np.float32(value)))


def numbers(values: Sequence[int]) -> str:
    """A size along several axes as one number where they are equal, as in PyTorch's arguments."""
    return str(values[0]) if len(set(values)) == 1 else repr(tuple(values))


def call(function: str, *positional: object, **named: object) -> str:
    """The text of a call; arguments that are None are left out."""
    arguments = [_written(value) for value in positional]
    arguments += [f"{name}={_written(value)}" for name, value in named.items() if value is not None]
    return f"{function}({', '.join(arguments)})"


def unless(default: Any, value: Any, text: str | None = None) -> str | None:
    """The text of an argument, None where it has its default."""
    return None if value == default else _written(value) if text is None else text


def _written(value: object) -> str:
    """An argument's text: an expression as it is, all else so that Python reads it back."""
    return python_literal(value) if isinstance(value, (float, tuple, list)) else str(value)


def spread(operand: str, trailing: int) -> str:
    """`operand` with axes appended, so that it broadcasts."""
    return f"{operand}[{', '.join(['...', *['None'] * trailing])}]" if trailing else operand


def holder(shapes: dict[int, Shape]) -> str:
    """The module that holds the blobs of a layer, by position, for which PyTorch has none."""
    return call("CaffeBlobs", **{blob_name(position): repr(shape) for position, shape in shapes.items()})
