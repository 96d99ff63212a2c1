"""The options --engine, --padded and --low-memory, shared by the verbs that segment."""

from __future__ import annotations

from typing import Any

import click

_OURS = ("auto", "native", "torch", "direct")
_OTHERS = ("compile", "onnxruntime", "openvino")

engine_option = click.option(
    "--engine", type=click.Choice(_OURS + _OTHERS), default="auto", show_default=True,
    help="What runs the net, always without its padding's work; auto is native, the fastest, where there is a "
    "C compiler, and torch elsewhere.",
)  # fmt: skip
padded_option = click.option(
    "--padded", is_flag=True, help="Run the net as it is written, with all of its padding's work."
)
low_memory_option = click.option(
    "--low-memory", is_flag=True, help="Take half the memory or less for large images, and longer."
)


def run_with(engine: str, net: Any, *, low_memory: bool = False) -> Any:
    """`net` run by an engine; a usage error where it cannot be had."""
    from ..inference.lossless import fast

    if low_memory:
        if engine in _OTHERS:
            raise click.BadParameter(f"cannot be had with --engine {engine}", param_hint="'--low-memory'")
        return fast(net, low_memory=True)
    if engine == "auto":
        return fast(net)
    from ..errors import EngineError
    from ..inference.engines import make

    try:
        return make(engine, net)
    except EngineError as error:
        raise click.BadParameter(str(error), param_hint="'--engine'") from error
