"""What ONNX and torch.export have in common: a module traced on example inputs, with height and width free."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ..net import Shape
from .check import ExportError

if TYPE_CHECKING:
    from torch import nn

LEAST_SIZE = 32
"""The least height and width of an exported program."""


def free_sizes(net: nn.Module, example: Mapping[str, Shape]) -> tuple[Any, ...]:
    """`dynamic_shapes` for torch.export: height and width of every image are free, and the same for all of them."""
    from torch.export import Dim

    height, width = Dim("height", min=LEAST_SIZE), Dim("width", min=LEAST_SIZE)
    rows = tuple({2: height, 3: width} if len(shape) == 4 else None for shape in example.values())
    for i, parameter in enumerate(inspect.signature(net.forward).parameters.values()):
        if parameter.kind is parameter.VAR_POSITIONAL and len(rows) > i:
            return (*rows[:i], rows[i:])
    return rows


@contextmanager
def tracing(what: str) -> Iterator[None]:
    """Trace a module in this block: quietly, and with what goes wrong as ExportError.

    Sizes of 1 get no special treatment, so that a program serves images for which a map shrinks to one place.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), _no_special_sizes():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # torch raises many kinds here, each around another
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise ExportError(f"{what} cannot trace this net: {lines[0]}") from error
    finally:
        logger.setLevel(level)


def _no_special_sizes() -> Any:
    from torch.fx.experimental import _config

    known = hasattr(_config, "backed_size_oblivious")  # since torch 2.7
    return _config.patch(backed_size_oblivious=True) if known else nullcontext()  # type: ignore[attr-defined]
