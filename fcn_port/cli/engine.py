"""The options --engine and --padded, shared by the verbs that segment."""

from __future__ import annotations

from typing import Any

import click

_NAMES = ("torch", "direct", "compile", "onnxruntime", "openvino")

engine_option = click.option(
    "--engine", type=click.Choice(_NAMES), default="torch", show_default=True,
    help="What runs the net, always without its padding's work; torch is the fastest, starts counted or not.",
)  # fmt: skip
padded_option = click.option(
    "--padded", is_flag=True, help="Run the net as it is written, with all of its padding's work."
)


low_memory_option = click.option(
    "--low-memory", is_flag=True, help="Take half the memory or less for large images, and longer (--engine torch)."
)


def run_with(engine: str, net: Any, *, low_memory: bool = False) -> Any:
    """`net` run by an engine; a usage error where it cannot be had."""
    if low_memory:
        from ..inference.lossless import fast

        if engine != "torch":
            raise click.BadParameter("goes with --engine torch only", param_hint="'--low-memory'")
        return fast(net, low_memory=True)
    from ..errors import EngineError
    from ..inference.engines import make

    try:
        return make(engine, net)
    except EngineError as error:
        raise click.BadParameter(str(error), param_hint="'--engine'") from error


