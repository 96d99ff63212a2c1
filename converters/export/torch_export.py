"""torch.export programs (.pt2): a net without its Python, which C++ and AOTInductor take."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checking import LEAST_SIZE, Run, run_module
from .sink import sink_for_pytorch
from .tracing import traced

if TYPE_CHECKING:
    from torch import Tensor, nn


def write_torch_export(
    net: nn.Module,
    path: str | os.PathLike[str],
    *,
    example: Mapping[str, Tensor],
    any_size: bool,
    metadata: Mapping[str, str],
    least: int = LEAST_SIZE,
) -> None:
    """Write a module as a torch.export program; `example` are inputs to trace it with.

    With `any_size`, height and width of 4-D inputs are free, from `least` up, the same for all inputs. `metadata` are
    extra files in the archive. Raises ExportError for nets that torch.export cannot trace.
    """
    import torch

    program = traced(net, example, any_size=any_size, least=least)
    with Path(path).open("wb") as file, sink_for_pytorch(file) as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, sink, extra_files=dict(metadata))


def run_torch_export(path: str | os.PathLike[str], *, outputs: Sequence[str]) -> Run:
    """A function that runs the program in a file; `outputs` names the one of a net with a single output."""
    import torch

    with Path(path).open("rb") as file:
        net = torch.export.load(file).module()

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return run_module(net, inputs, outputs)

    return run
