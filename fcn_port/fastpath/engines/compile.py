"""The lossless net in torch.compile with frozen weights; compiles for minutes, and needs a C++ compiler."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from threading import RLock

import torch
import torch._inductor.config
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import EngineError
from ...private import why_not_private
from ..background import Background
from ..graph import Step
from ..plan import Plan, reads
from .split import Arrays, Model, Models, SplitEngine

_settings = RLock()
"""Held by who changes torch.compile's settings, which the whole process shares; calls run one after the other."""


def build(engine: SplitEngine) -> Models:
    """Head and tail as two compiled modules with sizes left open; compiled when first run.

    What the C++ compiler makes is kept by PyTorch, below `$TORCHINDUCTOR_CACHE_DIR`. EngineError if others could have
    put something there.
    """
    problem = why_not_private(_cache_folder())
    if problem is not None:  # it would load code from there
        raise EngineError(f"compile: {problem}; set TORCHINDUCTOR_CACHE_DIR to a folder of your own")
    plan = engine.reference_plan()
    tail = _Tail(tuple(step for step in plan.tail if step.top not in engine.last_crops))
    return _compiled(_Head(plan, engine.constants())), _compiled(tail)


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


class _Head(nn.Module):
    """From the enlarged images to the computed parts of the cut blobs, with margins of constants."""

    def __init__(self, plan: Plan, background: Background) -> None:
        super().__init__()
        self._plan = plan
        self._layers = nn.ModuleList(step.module for step in plan.head)
        for i, step in enumerate(plan.head):
            self.register_buffer(f"_constant{i}", background.constants[step.top], persistent=False)

    def forward(self, inputs: Arrays) -> Arrays:
        blobs = dict(inputs)
        constants: dict[str, Tensor] = {}
        for i, step in enumerate(self._plan.head):
            (bottom,) = step.bottoms
            x = self._read(blobs[bottom], step, constants.get(bottom))
            blobs[step.top] = _run(self._layers[i], step, x)
            constants[step.top] = getattr(self, f"_constant{i}")
        return {name: blobs[name] for name in self._plan.cut}

    def _read(self, x: Tensor, step: Step, constant: Tensor | None) -> Tensor:
        """The part of its bottom that a step reads; where that is more than was computed, constants."""
        has, wanted = self._plan.blobs[step.bottoms[0]].computed, reads(step, self._plan.blobs[step.top].computed)
        margins = (
            has.cols.lo - wanted.cols.lo, wanted.cols.hi - has.cols.hi,
            has.rows.lo - wanted.rows.lo, wanted.rows.hi - has.rows.hi,
        )  # fmt: skip
        if not any(margins):
            return x
        return F.pad(x, margins) if constant is None else F.pad(x - constant, margins) + constant


class _Tail(nn.Module):
    """From the cut blobs to the scores before their last crop."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        super().__init__()
        self._steps = steps
        self._layers = nn.ModuleList(step.module for step in steps)
        read = {bottom for step in steps for bottom in step.bottoms}
        self._outputs = [step.top for step in steps if step.top not in read]

    def forward(self, inputs: Arrays) -> Arrays:
        blobs = dict(inputs)
        for layer, step in zip(self._layers, self._steps, strict=True):
            y = layer(*(blobs[name] for name in step.bottoms))
            blobs[step.top] = y.relu() if step.relu else y
        return {name: blobs[name] for name in self._outputs}


def _run(layer: nn.Module, step: Step, x: Tensor) -> Tensor:
    """A layer on an input that has its margins already."""
    if isinstance(layer, nn.Conv2d):
        x = F.conv2d(x, layer.weight, layer.bias, layer.stride, 0, 1, layer.groups)
        return x.relu() if step.relu else x
    y: Tensor = layer(x)
    return y
