"""The options --engine and --padded, shared by the verbs that segment."""

from __future__ import annotations

from typing import Any

import click

_NAMES = ("auto", "torch", "compile", "onnxruntime", "openvino")

engine_option = click.option(
    "--engine", type=click.Choice(_NAMES), default="auto", show_default=True,
    help="What runs the net, always without its padding's work; auto: what is done first among what is installed.",
)  # fmt: skip
padded_option = click.option(
    "--padded", is_flag=True, help="Run the net as it is written, with all of its padding's work."
)


def run_with(engine: str, net: Any, *, images: int) -> Any:
    """`net` run by an engine, for so many images; a usage error where it cannot be had."""
    from ..errors import EngineError
    from ..inference.engines import choose, make

    try:
        if engine == "auto":
            engine = choose(images=images, device=next(net.parameters()).device.type)
        return make(engine, net)
    except EngineError as error:
        raise click.BadParameter(str(error), param_hint="'--engine'") from error


