"""The lossless net in torch.compile with frozen weights; compiles for minutes, and needs a C++ compiler."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import RLock

import torch
import torch._inductor.config
import torch.nn.functional as F
from torch import Tensor, nn

from converters.layers import convolution

from ...errors import EngineError
from ...private import why_not_private
from ..background import Background
from ..graph import Step, is_convolution
from ..plan import Plan, reads
from .split import Arrays, Model, Models, SplitEngine, Weights

_settings = RLock()
"""Held by who changes torch.compile's settings, which the whole process shares; calls run one after the other."""


def build(engine: SplitEngine) -> Models:
    """Early and late layers as two compiled modules with sizes left open; compiled when first run.

    What the C++ compiler makes is kept by PyTorch, below `$TORCHINDUCTOR_CACHE_DIR`. EngineError if others could have
    put something there.
    """
    problem = why_not_private(_cache_folder())
    if problem is not None:  # it would load code from there
        raise EngineError(f"compile: {problem}; set TORCHINDUCTOR_CACHE_DIR to a folder of your own")
    plan = engine.reference_plan()
    weights = engine.weights()
    late = _Late(tuple(step for step in plan.late if step.top not in engine.last_crops), weights)
    return _compiled(_Early(plan, engine.constants(), weights)), _compiled(late)


def _cache_folder() -> Path:
    """The folder in which PyTorch keeps what it compiles, and looks for it: a name in /tmp that everybody knows."""
    named = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    if named:
        return Path(named)
    try:
        from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    except ImportError:  # before PyTorch 2.7
        from torch._inductor.codecache import cache_dir

        return Path(cache_dir())
    return Path(default_cache_dir())


def _compiled(module: nn.Module) -> Model:
    with _settings, torch._inductor.config.patch(freezing=True):
        compiled = torch.compile(module.eval(), dynamic=True)

    def call(inputs: Mapping[str, Tensor]) -> Arrays:
        with _settings, torch._inductor.config.patch(freezing=True), torch.no_grad():
            result: Arrays = compiled(dict(inputs))
            return result

    return call


class _Early(nn.Module):
    """From the enlarged images to the computed parts of the cut blobs, with margins of constants."""

    def __init__(self, plan: Plan, background: Background, weights: Weights) -> None:
        super().__init__()
        self._plan = plan
        self._layers = nn.ModuleList(LayerModule(step, weights[step.top]) for step in plan.early)
        self._margins = [_margins(plan, step) for step in plan.early]
        for i, step in enumerate(plan.early):
            self.register_buffer(f"_constant{i}", background.constants[step.top], persistent=False)

    def forward(self, inputs: Arrays) -> Arrays:
        blobs = dict(inputs)
        constants: dict[str, Tensor] = {}
        for i, step in enumerate(self._plan.early):
            (bottom,) = step.bottoms
            x = _with_margins(blobs[bottom], self._margins[i], constants.get(bottom))
            blobs[step.top] = self._layers[i](x, inside=True)
            constants[step.top] = getattr(self, f"_constant{i}")
        return {name: blobs[name] for name in self._plan.cut}


def _margins(plan: Plan, step: Step) -> tuple[int, int, int, int]:
    """Left, right, above and below: as much more of its bottom as a step reads than was computed."""
    has, wanted = plan.blobs[step.bottoms[0]].computed, reads(step, plan.blobs[step.top].computed)
    return (
        has.cols.lo - wanted.cols.lo, wanted.cols.hi - has.cols.hi,
        has.rows.lo - wanted.rows.lo, wanted.rows.hi - has.rows.hi,
    )  # fmt: skip


def _with_margins(x: Tensor, margins: tuple[int, int, int, int], constant: Tensor | None) -> Tensor:
    if not any(margins):
        return x
    return F.pad(x, margins) if constant is None else F.pad(x - constant, margins) + constant


class _Late(nn.Module):
    """From the cut blobs to the scores before their last crop."""

    def __init__(self, steps: tuple[Step, ...], weights: Weights) -> None:
        super().__init__()
        self._steps = steps
        self._layers = nn.ModuleList(LayerModule(step, weights[step.top]) for step in steps)
        read = {bottom for step in steps for bottom in step.bottoms}
        self._outputs = [step.top for step in steps if step.top not in read]

    def forward(self, inputs: Arrays) -> Arrays:
        blobs = dict(inputs)
        for layer, step in zip(self._layers, self._steps, strict=True):
            blobs[step.top] = layer(*(blobs[name] for name in step.bottoms))
        return {name: blobs[name] for name in self._outputs}


class LayerModule(nn.Module):
    """A step as a module, its blobs being buffers that torch.compile may freeze."""

    def __init__(self, step: Step, blobs: Sequence[Tensor]) -> None:
        super().__init__()
        self._step, self._count = step, len(blobs)
        for i, blob in enumerate(blobs):
            self.register_buffer(f"blob{i}", blob, persistent=False)

    def forward(self, *bottoms: Tensor, inside: bool = False) -> Tensor:
        """`inside`: a convolution's bottom has its margins already."""
        blobs = [getattr(self, f"blob{i}") for i in range(self._count)]
        params = self._step.params
        if isinstance(params, convolution.Convolution) and is_convolution(params):
            _, stride, pad, _ = params.along(2)
            bias = blobs[1] if params.bias else None
            y = F.conv2d(bottoms[0], blobs[0], bias, stride, (0, 0) if inside else pad, 1, params.group)
        else:
            y = params.forward(bottoms, blobs)[0]
        return y.relu() if self._step.relu else y
