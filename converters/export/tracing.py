"""The common part of ONNX and torch.export: a module traced on example inputs, with height and width free."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ..errors import NetError
from ..net.shapes import images_of
from .checking import LEAST_SIZE, ExportError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from ..net.layer import LayerSpec


def free_sizes(example: Mapping[str, Tensor], *, least: int = LEAST_SIZE) -> tuple[Any, ...]:
    """The free sizes of each input: height and width of every image, which are the same for all of them."""
    from torch.export import Dim

    height, width = Dim("height", min=least), Dim("width", min=least)
    images = images_of({name: tuple(x.shape) for name, x in example.items()})
    return tuple({2: height, 3: width} if name in images else None for name in example)


def traced(
    net: nn.Module, example: Mapping[str, Tensor], *, any_size: bool, least: int = LEAST_SIZE
) -> ExportedProgram:
    """The program of a module for these inputs, or with `any_size` for images of all sizes from `least` up.

    Raises ExportError, which names the layer of a CaffeNet with which tracing ends.
    """
    try:
        return _traced(net, example, any_size=any_size, least=least)
    except ExportError as error:
        first = _first_cause(error)
        same = str(error) if isinstance(first, NetError) else None
        layer = _first_untraceable(net, example, same, any_size=any_size, least=least)
        if layer is None:
            raise
        hint = "for a single size, fixed with --size, it may" if any_size else None
        if isinstance(first, NetError):  # of a layer that no size makes traceable
            hint = first.hint
        raise ExportError(f"{layer.place}: {error}" + (f"\n  {hint}" if hint else "")) from error.__cause__


def _traced(net: nn.Module, example: Mapping[str, Tensor], *, any_size: bool, least: int) -> ExportedProgram:
    import torch

    sizes = _like_arguments(net, free_sizes(example, least=least)) if any_size else None
    with tracing("torch.export"):
        return _of_all_sizes(torch.export.export(net, tuple(example.values()), dynamic_shapes=sizes))


def _of_all_sizes(program: ExportedProgram) -> ExportedProgram:
    """The program without the demand that a map have more than one place.

    PyTorch 2.13 makes it where strides of one channel are looked at; what comes out is right without it.
    """
    guards: list[str] = getattr(program, "_guards_code", [])
    guards[:] = [guard for guard in guards if not guard.startswith("1 < ")]
    return program


def _first_untraceable(
    net: nn.Module, example: Mapping[str, Tensor], same: str | None, *, any_size: bool, least: int
) -> LayerSpec | None:
    """The layer up to which, itself left out, a CaffeNet can be traced; None for another module.

    Of parts that cannot be traced for another reason than `same`, where it is given, that layer is still to come: sizes
    are looked at once every layer has run, and a layer that refuses every trace does so before.
    """
    from ..execution import CaffeNet

    if not isinstance(net, CaffeNet):
        return None
    layers, state = net.spec.layers, net.state_dict()
    fewest, most = len(net.inputs), len(layers)
    while most - fewest > 1:
        middle = (fewest + most) // 2
        part = CaffeNet(net.spec.replace_layers(layers[:middle]))
        part.load_state_dict({key: state[key] for key in part.state_dict()}, assign=True)
        try:
            _traced(part, example, any_size=any_size, least=least)
            fewest = middle
        except ExportError as error:
            if same is None or str(error) == same:
                most = middle
            else:
                fewest = middle
    return layers[most - 1]


def _like_arguments(net: nn.Module, rows: tuple[Any, ...]) -> tuple[Any, ...]:
    """`dynamic_shapes` for torch.export: what goes into `*more` is together."""
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
        cause = _first_cause(error)
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise ExportError(f"{what} cannot trace this net: {lines[0]}") from error
    finally:
        logger.setLevel(level)


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _no_special_sizes() -> Any:
    from torch.fx.experimental import _config

    known = hasattr(_config, "backed_size_oblivious")  # since torch 2.7
    return _config.patch(backed_size_oblivious=True) if known else nullcontext()  # type: ignore[attr-defined]
