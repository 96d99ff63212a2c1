"""The options on how a net is run, shared by the verbs that segment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from ..fastpath.known_engines import ENGINES, OURS
from .output import note

if TYPE_CHECKING:
    import torch

    from ..nets import Net


engine_option = click.option(
    "--engine", type=click.Choice(("auto", *ENGINES)), default="auto", show_default=True,
    help="What runs the net, always without its padding's work; auto is native, the fastest, where there is a "
    "C compiler, and torch elsewhere.",
)  # fmt: skip
padded_option = click.option(
    "--padded", is_flag=True, help="Run the net as it is written, with all of its padding's work."
)
low_memory_option = click.option(
    "--low-memory", is_flag=True, help="Take half the memory or less for large images, and longer."
)
PrecisionWord = Literal["fp32", "bf16"]
"""The words of --precision."""
_ALSO = {"float32": "fp32", "bfloat16": "bf16"}
"""PyTorch's words, which are taken too."""

if TYPE_CHECKING:
    _Words = click.Choice[str]
else:
    _Words = click.Choice


class PrecisionParam(_Words):
    """The type of number that is computed in, the same words on every verb."""

    def __init__(self) -> None:
        super().__init__(get_args(PrecisionWord))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(_ALSO.get(value, value), param, ctx)


precision_option = click.option(
    "--precision", type=PrecisionParam(), default="fp32", show_default=True,
    help="bf16 computes with 8 bits and is faster on processors made for it; about 2 labels in 1000 change.",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The settings that these options make."""

    engine: str
    padded: bool
    precision: PrecisionWord
    low_memory: bool = False


def tell_of_bfloat16(
    precision: PrecisionWord, device: torch.device, what_it_does: str, say: Callable[[str], None] = note
) -> None:
    """Say what `--precision bf16` does on a processor that cannot multiply such numbers, where this is one."""
    from ..fastpath.kernels import multiplies_bfloat16

    if precision == "bf16" and not multiplies_bfloat16(device):
        say(f"fcn-port: this processor cannot multiply bfloat16: --precision bf16 {what_it_does}")


def run_as_told(net: Net, options: RunOptions) -> Net:
    """`net` run as these options say; a usage error where that cannot be had."""
    from ..fastpath.lossless import WORTH_IT, Lossless, fast

    engine, low_memory, precision = options.engine, options.low_memory, options.precision
    for name, given in (("--low-memory", low_memory), ("--precision bf16", precision == "bf16")):
        if given and options.padded:
            raise click.UsageError(f"{name} cannot be had with --padded")
        if given and engine not in ("auto", *OURS):
            raise click.UsageError(f"{name} cannot be had with --engine {engine}")
    if options.padded:
        if engine != "auto":
            raise click.UsageError("--padded runs the net as it is written, and takes no --engine")
        return net
    if low_memory or precision == "bf16" or engine == "auto":
        quick = fast(net, precision=precision, low_memory=low_memory)
        if precision == "bf16" and not (isinstance(quick, Lossless) and quick.saved() > 1 - WORTH_IT):
            note("fcn-port: --precision bf16 is for nets whose padding is skipped, as FCN-8s; this runs in float32")
        elif isinstance(quick, Lossless):
            tell_of_bfloat16(precision, next(net.parameters()).device, "rounds, and saves no time")
        return quick
    from ..errors import EngineError
    from ..fastpath.engines import make

    try:
        return make(engine, net)
    except EngineError as error:
        raise click.BadParameter(str(error), param_hint="'--engine'") from error
